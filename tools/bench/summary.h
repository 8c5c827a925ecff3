/* Summaries of measured numbers. */
#ifndef ATTND_TOOLS_BENCH_SUMMARY_H
#define ATTND_TOOLS_BENCH_SUMMARY_H

#include <stddef.h>

/* The middle one of x[0, n), which gets sorted; n > 0. */
double median(double *x, size_t n);

/* The CPU's name as the system tells it, "unknown" where it doesn't. */
void machine_name(char *text, size_t size);

#endif
