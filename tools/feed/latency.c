#include "tools/feed/latency.h"

#include <math.h>

static const double shortest = 1e-6;

void latency_add(struct latency *latency, double seconds)
{
    double at = seconds > shortest ? log2(seconds / shortest) * LATENCY_PER_OCTAVE : 0;
    latency->count[at < LATENCY_BUCKETS ? (size_t)at : LATENCY_BUCKETS - 1]++;
    latency->n++;
}

void latency_merge(struct latency *into, const struct latency *from)
{
    for (size_t b = 0; b < LATENCY_BUCKETS; b++)
        into->count[b] += from->count[b];
    into->n += from->n;
}

double latency_quantile(const struct latency *latency, double p)
{
    uint64_t below = 0, wanted = (uint64_t)ceil(p * (double)latency->n);
    if (latency->n == 0)
        return NAN;
    for (size_t b = 0; b < LATENCY_BUCKETS; b++) {
        below += latency->count[b];
        if (below >= wanted && below > 0)
            return shortest * exp2(((double)b + 0.5) / LATENCY_PER_OCTAVE);
    }
    return NAN;
}
