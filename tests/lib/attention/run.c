#include "run.h"

enum { GAP = 3 };
static const float CANARY = -77;

void test_run_create(struct test_run *run, const struct kernels *kernels, const struct test_view *view, size_t n_views,
                     size_t group, size_t n_tokens, uint64_t first_token, uint64_t token_step, float scale, bool sinks,
                     struct numbers *r)
{
    size_t d = view[0].d, e = view[0].e;
    run->q = numbers_block(n_tokens * group * d * 4);
    run->out = numbers_block(n_tokens * (group * e + GAP) * 4);
    run->lse = numbers_block(n_tokens * (group + GAP) * 4);
    run->sink = numbers_block(group * 4);
    numbers_fill(r, run->q, n_tokens * group * d, scale);
    numbers_fill(r, run->sink, group, 3);
    run->attend = (struct attend){.kernels = kernels,
                                  .n_views = n_views,
                                  .group = group,
                                  .d = d,
                                  .e = e,
                                  .n_tokens = n_tokens,
                                  .first_token = first_token,
                                  .token_step = token_step,
                                  .q = run->q,
                                  .sink_logit = sinks ? run->sink : NULL,
                                  .out = run->out,
                                  .out_stride = group * e + GAP,
                                  .lse = run->lse,
                                  .lse_stride = group + GAP};
    for (size_t v = 0; v < n_views; v++)
        run->attend.view[v] = (struct view){view[v].seg, view[v].n_seg};
}

void test_run_free(struct test_run *run)
{
    free(run->q);
    free(run->out);
    free(run->lse);
    free(run->sink);
}

bool test_run_all(struct test_run *run, bool backwards)
{
    struct attend *a = &run->attend;
    size_t n_units = attend_units(a), shared_bytes = attend_shared_bytes(a), scratch_bytes = attend_scratch_bytes(a);
    void *shared = aligned_alloc(64, (shared_bytes + 63) / 64 * 64),
         *scratch = aligned_alloc(64, (scratch_bytes + 63) / 64 * 64 + 64);
    memset(shared, 0xff, shared_bytes); /* NaNs: nothing may count on what was there */
    for (size_t i = 0; i < a->n_tokens * a->out_stride; i++)
        a->out[i] = CANARY;
    for (size_t i = 0; i < a->n_tokens * a->lse_stride; i++)
        a->lse[i] = CANARY;
    for (size_t u = 0; u < n_units; u++) {
        memset(scratch, 0xff, scratch_bytes);
        attend_unit(a, backwards ? n_units - 1 - u : u, shared, scratch);
    }
    attend_finish(a, shared);
    bool kept = true;
    for (size_t t = 0; t < a->n_tokens; t++)
        for (size_t i = 0; i < GAP; i++)
            kept &=
                a->out[t * a->out_stride + a->group * a->e + i] == CANARY && a->lse[t * a->lse_stride + a->group + i] == CANARY;
    free(shared);
    free(scratch);
    return kept;
}
