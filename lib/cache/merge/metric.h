/* Metric: how far apart queries see two keys.
 *
 *     D^2(k, l) = (k - l)^T M (k - l),    M = E[q q^T], q scaled: the mean square of what their scores differ by
 *
 * or with M's diagonal alone: queries whose coordinates are independent. A few numbers by value; pointers are the caller's. */
#ifndef ATTND_CACHE_METRIC_H
#define ATTND_CACHE_METRIC_H

#include "sketch/moments.h"

struct metric {
    const struct kernels *kernels;
    size_t d;
    const struct moments *full; /* M is their second moment; or NULL, and then */
    const float *diagonal;      /* (d,) its diagonal */
};

/* out (n, d) = M x for each of n vectors x (n, d); out is not x. */
void metric_apply(const struct metric *m, const float *x, size_t n, float *out);

/* D^2, at least 0: from the difference, so that near keys far from 0 keep their digits. */
float metric_square(const struct metric *m, const float *k, const float *l);

#endif
