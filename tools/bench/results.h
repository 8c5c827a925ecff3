/* Results: the JSON lines that `attn bench kernels` and `attn bench pipeline` print, read from a file. */
#ifndef ATTND_TOOLS_BENCH_RESULTS_H
#define ATTND_TOOLS_BENCH_RESULTS_H

#include "base/err.h"
#include <jansson.h>

struct results {
    json_t *kernels, *pipeline; /* arrays of lines, in the file's order */
};

enum { RESULTS_NAME = 96 };

/* ERR_IO, ERR_NO_MEMORY; ERR_INVALID: a line that is no result, by its number. Free it in any case; a zeroed struct is allowed. */
int results_read(struct results *results, const char *path, struct fault *fault);
void results_free(struct results *results);

/* Of one line: a number, and what a kernel's line is called: "softmax_decode bf16 32/8 d128 n65536 t2", and whether it
 * saw a window, was not attnd's, or was asked to compute in bf16. */
double results_number(const json_t *line, const char *key);
void results_name(const json_t *line, char name[RESULTS_NAME]);

#endif
