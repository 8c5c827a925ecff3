/* Moments: the running mean and second moment of vectors, for policies that model the queries to come.
 *
 *     mean = 1/n sum_i x_i       second = 1/n sum_i x_i x_i^T, or its diagonal alone
 *
 * in memory of the caller, zeroed at first, so that it counts where the caller counts. The second moment is symmetric: row c is
 * kept up to its diagonal. Averages are updated in place (m += (x - m) / n) in f32, which holds 2^24 vectors apart; later ones
 * weigh as much as the 2^24th.
 *
 *     block    n (uint64) | mean (d) | second: d (d + 1) / 2, row after row; or d          floats */
#ifndef ATTND_SKETCH_MOMENTS_H
#define ATTND_SKETCH_MOMENTS_H

#include "kernels/kernels.h"

struct moments {
    void *block; /* 8-byte aligned */
    size_t d;
    bool full; /* the whole second moment */
};

size_t moments_bytes(size_t d, bool full);

/* x (n, d). */
void moments_add(const struct moments *m, const struct kernels *kernels, const float *x, size_t n);

uint64_t moments_count(const struct moments *m);
const float *moments_mean(const struct moments *m); /* (d,) */

/* Rows [c, c + n) of the second moment, out (n, d); with `central`, of the covariance: second - mean mean^T. Diagonal ones have
 * zeros beside it. */
void moments_rows(const struct moments *m, size_t c, size_t n, bool central, float *out);

/* The diagonal of the second moment, out (d,). */
void moments_diagonal(const struct moments *m, float *out);

#endif
