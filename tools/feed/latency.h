/* Latencies: counts of durations in buckets that are 1/64 of a power of two wide, so that a quantile is right to 1.6 %, from 1 us
 * to an hour. Finer than stats/histogram.h and not shared: each thread has its own, and they are added up. */
#ifndef ATTND_TOOLS_FEED_LATENCY_H
#define ATTND_TOOLS_FEED_LATENCY_H

#include <stddef.h>
#include <stdint.h>

enum { LATENCY_PER_OCTAVE = 64, LATENCY_OCTAVES = 32, LATENCY_BUCKETS = LATENCY_PER_OCTAVE * LATENCY_OCTAVES };

struct latency {
    uint64_t count[LATENCY_BUCKETS]; /* bucket b: 1 us times [2^(b/64), 2^((b+1)/64)) */
    uint64_t n;
};

void latency_add(struct latency *latency, double seconds);
void latency_merge(struct latency *into, const struct latency *from);
/* Seconds that a share p of the durations is not above, the middle of its bucket; NAN when there are none. */
double latency_quantile(const struct latency *latency, double p);

#endif
