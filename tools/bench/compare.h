/* Results of `attn bench kernels --json`, read again: two files side by side, and one as a drawing. */
#ifndef ATTND_TOOLS_BENCH_COMPARE_H
#define ATTND_TOOLS_BENCH_COMPARE_H

#include <stdbool.h>

/* Prints every case that both files have with its two times, and names those that only one has. Exit code. */
int bench_compare(const char *who, const char *old_path, const char *new_path, bool json);

#endif
