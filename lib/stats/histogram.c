#include "stats/histogram.h"

#include <math.h>

enum { LAST = HISTOGRAM_BUCKETS - 1, PER_OCTAVE = 4, FIRST_NS = 1000 };

/* The upper end of a bucket in ns; not for the last one. Powers of two scale exactly, so the ends are the same everywhere. */
static double upper_ns(size_t bucket)
{
    static const double quarter[PER_OCTAVE] = {1.0, 1.1892071150027210667, 1.4142135623730950488, 1.6817928305074290861};
    return FIRST_NS * quarter[bucket % PER_OCTAVE] * (double)(UINT64_C(1) << bucket / PER_OCTAVE);
}

double histogram_upper(size_t bucket)
{
    return bucket >= LAST ? INFINITY : upper_ns(bucket) * 1e-9;
}

/* Brought into the first octave, which is exact, a duration lies above so many of its ends. */
static size_t bucket_of(uint64_t ns)
{
    if (ns <= FIRST_NS)
        return 0;
    size_t octave = 63 - (size_t)__builtin_clzll(ns / FIRST_NS);
    if (octave * PER_OCTAVE >= LAST)
        return LAST;
    double x = (double)ns / (double)(UINT64_C(1) << octave);
    size_t bucket = octave * PER_OCTAVE;
    for (size_t i = 0; i < PER_OCTAVE; i++)
        bucket += x > upper_ns(i);
    return bucket;
}

void histogram_add(struct histogram *h, uint64_t ns)
{
    atomic_fetch_add_explicit(&h->count[bucket_of(ns)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_ns, ns, memory_order_relaxed);
}

void histogram_add_all(struct histogram *const into[], size_t n_into, const uint64_t *ns, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0, n_same; i < n; i += n_same) { /* what was measured in a row mostly falls into the same bucket */
        size_t bucket = bucket_of(ns[i]);
        for (n_same = 0; i + n_same < n && bucket_of(ns[i + n_same]) == bucket; n_same++)
            sum += ns[i + n_same];
        for (size_t h = 0; h < n_into; h++)
            atomic_fetch_add_explicit(&into[h]->count[bucket], n_same, memory_order_relaxed);
    }
    for (size_t h = 0; h < n_into && n; h++)
        atomic_fetch_add_explicit(&into[h]->sum_ns, sum, memory_order_relaxed);
}

static uint64_t count_at(const struct histogram *h, size_t bucket)
{
    return atomic_load_explicit(&h->count[bucket], memory_order_relaxed);
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (size_t b = 0; b < HISTOGRAM_BUCKETS; b++)
        atomic_fetch_add_explicit(&into->count[b], count_at(from, b), memory_order_relaxed);
    uint64_t sum = atomic_load_explicit(&from->sum_ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&into->sum_ns, sum, memory_order_relaxed);
}

uint64_t histogram_count(const struct histogram *h)
{
    uint64_t n = 0;
    for (size_t b = 0; b < HISTOGRAM_BUCKETS; b++)
        n += count_at(h, b);
    return n;
}

double histogram_sum(const struct histogram *h)
{
    return (double)atomic_load_explicit(&h->sum_ns, memory_order_relaxed) * 1e-9;
}

double histogram_quantile(const struct histogram *h, double p)
{
    /* One reading of the counts, so that the rank fits them while writers go on. */
    uint64_t count[HISTOGRAM_BUCKETS], n = 0;
    for (size_t b = 0; b < HISTOGRAM_BUCKETS; b++)
        n += count[b] = count_at(h, b);
    if (n == 0)
        return 0;
    double rank = p * (double)n, below = 0;
    for (size_t b = 0; b < LAST; b++) {
        if (count[b] && below + (double)count[b] >= rank) {
            double lower = b ? histogram_upper(b - 1) : 0, upper = histogram_upper(b);
            double share = (rank - below) / (double)count[b];
            return lower + (upper - lower) * (share > 0 ? share : 0);
        }
        below += (double)count[b];
    }
    return histogram_upper(LAST - 1);
}
