/* Comparing numbers: see test.h. */
#include "test.h"

#include <math.h>
#include <stdio.h>

void test_near(double a, double b, double tolerance, const char *what, const char *file, int line)
{
    int ok = fabs(a - b) <= tolerance;
    if (!ok)
        printf("\n%s:%d: %s: %.9g and %.9g differ by more than %.3g", file, line, what, a, b, tolerance);
    CU_assertImplementation(ok, (unsigned)line, what, file, "", CU_FALSE);
}

double test_relative_error(const float *x, const double *reference, size_t n)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        error += (x[i] - reference[i]) * (x[i] - reference[i]);
        norm += reference[i] * reference[i];
    }
    return error == 0 ? 0 : sqrt(error / norm);
}
