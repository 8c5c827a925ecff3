/* The drawing of `attn eval`: for each trace the error against the bytes, and the time of a token against its position. */
#ifndef ATTND_TOOLS_EVAL_FIGURES_H
#define ATTND_TOOLS_EVAL_FIGURES_H

#include "tools/eval/measure.h"

/* One row that was measured. Rows of one trace and name follow one another, by falling budget. */
struct result {
    const char *trace;
    char name[96];   /* policy and storage */
    char budget[24]; /* as asked for; "" without one */
    struct measurement measured;
};

int figures_write(const char *path, const struct result *results, size_t n, struct fault *fault);

#endif
