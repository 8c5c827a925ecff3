#include "tools/bench/subject.h"

#include <stdio.h>

void subject_fill(float *x, size_t n)
{
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u; /* Numerical Recipes' generator */
        x[i] = (float)(int32_t)state * 0x1p-31f;
    }
}

void subject_profile(const struct bench_case *c, char *text, size_t size)
{
    int n = snprintf(text, size, "%s,key_storage=%s,value_storage=%s", c->policy, storage_table[c->key_storage].name,
                     storage_table[c->value_storage].name);
    if (c->window[0] && (size_t)n < size)
        n += snprintf(text + n, size - (size_t)n, ",window_tokens=%zux%zu,sink_tokens=0", c->window[0], c->window[1]);
    if (c->compute == COMPUTE_BF16 && (size_t)n < size)
        snprintf(text + n, size - (size_t)n, ",compute=bf16");
}
