/* Likeness: how much a key is like all others, whatever the queries (KeyDiff, arXiv 2504.15364):
 *
 *     likeness of row j = <k_j, m> / |k_j|,    m = the mean of k_l / |k_l| over the rows held
 *
 * It is |m| cos(k_j, m): between -1 and 1, and near 1 where all keys point the same way. A key of zeros has likeness 0. */
#ifndef ATTND_CACHE_LIKENESS_H
#define ATTND_CACHE_LIKENESS_H

#include "cache/held.h"

/* mean (d,) */
void likeness_mean(const struct held *held, const struct held_plan *plan, const struct kernels *kernels, float *mean);

/* Of n keys (n, d), contiguous, out (n,). */
void likeness_of(const float *mean, const float *keys, size_t n, size_t d, float *out);

#endif
