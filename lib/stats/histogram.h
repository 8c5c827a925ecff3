/* Histograms of durations: fixed logarithmic buckets, written by many threads without locks, read at any time.
 *
 * Bucket b counts seconds in (upper(b-1), upper(b)], four buckets per power of two from 1 us to about 17 minutes; below and above
 * go into the first and the last. A reader may see a count that is a few events behind; nothing is ever lost. */
#ifndef ATTND_STATS_HISTOGRAM_H
#define ATTND_STATS_HISTOGRAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { HISTOGRAM_BUCKETS = 121 };

struct histogram {
    atomic_uint_fast64_t count[HISTOGRAM_BUCKETS];
    atomic_uint_fast64_t sum_ns;
};

void histogram_add(struct histogram *h, uint64_t ns);
/* Each of n durations to each histogram, with fewer writes. */
void histogram_add_all(struct histogram *const into[], size_t n_into, const uint64_t *ns, size_t n);
void histogram_merge(struct histogram *into, const struct histogram *from); /* adds all counts: totals over pools */
double histogram_upper(size_t bucket);                                      /* seconds; the last is infinity */
uint64_t histogram_count(const struct histogram *h);
double histogram_sum(const struct histogram *h); /* seconds */
/* The value under which the fraction p (0..1) lies, interpolated inside its bucket; 0 when empty. */
double histogram_quantile(const struct histogram *h, double p);

#endif
