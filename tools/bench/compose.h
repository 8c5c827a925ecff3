/* Composition: tensor attention out of OpenBLAS's matrix products with a vectorised exp between them, as one would write it without
 * kernels of its own. A rival for tensor_four_cache, measured beside it in the same rounds. */
#ifndef ATTND_TOOLS_BENCH_COMPOSE_H
#define ATTND_TOOLS_BENCH_COMPOSE_H

#include "tools/bench/subject.h"

/* Of ERR_* as the others. What it is compared with is its `beside`: the same case on attnd's kernels. */
int compose_create(struct subject **out, const struct bench_case *c, const struct kernels *kernels, size_t n_threads,
                   struct fault *fault);

/* The kernels that OpenBLAS chose: "Zen", "Haswell", "SkylakeX", ... */
const char *compose_core(void);

/* OpenBLAS chooses when it is loaded, before main, and does not know CPUs younger than itself: then it has half the speed. Where this
 * is so, starts this program again with OPENBLAS_CORETYPE set; returns when nothing is wrong or nothing can be done. */
void compose_right_core(void);

#endif
