/* Runs a plan in a test: queries, outputs with room that must stay untouched, units in either order. */
#ifndef ATTND_TESTS_RUN_H
#define ATTND_TESTS_RUN_H

#include "views.h"

struct test_run {
    struct attend attend;
    float *q, *out, *lse, *sink;
};

/* Queries of this size (uniform in +-scale); sink logits where asked for. */
void test_run_create(struct test_run *run, const struct kernels *kernels, const struct test_view *view, size_t n_views,
                     size_t group, size_t n_tokens, uint64_t first_token, uint64_t token_step, float scale, bool sinks,
                     struct numbers *r);
void test_run_free(struct test_run *run);

/* All units, then finish. Returns false when memory outside out and lse was written. */
bool test_run_all(struct test_run *run, bool backwards);

#endif
