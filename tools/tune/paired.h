/* Paired comparison of two series that were measured side by side, round by round, so that what slows a machine down for a while slows
 * down both: the mean of the logarithms of their ratios, and Student's 95 % interval around it. */
#ifndef ATTND_TOOLS_TUNE_PAIRED_H
#define ATTND_TOOLS_TUNE_PAIRED_H

#include <stddef.h>

struct paired {
    double ratio, low, high; /* of x over y: geometric mean, and its two-sided 95 % interval; NAN, 0, INFINITY with one round */
};

/* x, y (n), positive. */
struct paired paired_compare(const double *x, const double *y, size_t n);

/* exp of the mean of logarithms. */
double geometric_mean(const double *x, size_t n);

#endif
