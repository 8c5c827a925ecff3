#include "tools/tune/paired.h"

#include <math.h>

/* Student's t: 97.5 % of it lie below, by degrees of freedom from 1. */
static double student(size_t freedom)
{
    static const double t[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                               2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086};
    return freedom <= sizeof t / sizeof *t ? t[freedom - 1] : 1.96 + 2.5 / (double)freedom;
}

double geometric_mean(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += log(x[i]);
    return exp(sum / (double)n);
}

struct paired paired_compare(const double *x, const double *y, size_t n)
{
    double mean = 0, square = 0;
    for (size_t i = 0; i < n; i++)
        mean += log(x[i] / y[i]) / (double)n;
    if (n < 2)
        return (struct paired){n ? exp(mean) : NAN, 0, INFINITY};
    for (size_t i = 0; i < n; i++) {
        double off = log(x[i] / y[i]) - mean;
        square += off * off;
    }
    double reach = student(n - 1) * sqrt(square / (double)(n - 1) / (double)n);
    return (struct paired){exp(mean), exp(mean - reach), exp(mean + reach)};
}
