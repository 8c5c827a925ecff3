#include "tests/test.h"

#include "tests/tools/naive_service.h"
#include "tests/tools/support.h"
#include "tools/lm/score.h"
#include "tools/local.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 70, CONTEXT = 21, WINDOWS = 3, SCORED = 11, VOCAB = 256 };

static const char narrow[] = "window,window_tokens=6,sink_tokens=1";

struct bench { /* a model, a service and a text */
    struct lm_model *model;
    struct attention_service *service;
    struct lm_forward *f;
    uint32_t ids[N];
    struct lm_windows windows;
};

/* service NULL: the engine of this process. */
static void set_up(struct bench *b, struct attention_service *service)
{
    struct fault fault = {0};
    for (size_t i = 0; i < N; i++)
        b->ids[i] = (uint32_t) "It was the best of times, it was the worst of times. "[i % 53];
    CU_ASSERT_EQUAL_FATAL(lm_model_load(&b->model, "tools/lm/softmax", &fault), 0);
    b->service = service;
    if (!service)
        CU_ASSERT_EQUAL_FATAL(local_create(&b->service, NULL, &fault), 0);
    CU_ASSERT_EQUAL_FATAL(lm_forward_create(&b->f, b->model, b->service, &fault), 0);
    b->windows = (struct lm_windows){.ids = b->ids, .n_tokens = N, .context = CONTEXT, .windows = WINDOWS, .compare = true};
}

static void tear_down(struct bench *b)
{
    lm_forward_destroy(b->f);
    service_destroy(b->service);
    lm_model_destroy(b->model);
}

/* logits (CONTEXT, VOCAB) of one window. */
static float *logits_of(struct bench *b, const char *profile, size_t window)
{
    float *logits = support_array((size_t)CONTEXT * VOCAB, sizeof *logits);
    const float *hidden;
    const size_t start = lm_window_start(N, CONTEXT, WINDOWS, window);
    CU_ASSERT_EQUAL_FATAL(lm_forward_begin(b->f, profile, CONTEXT, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(lm_forward_run(b->f, b->ids + start, CONTEXT, &hidden, NULL), 0);
    lm_forward_logits(b->f, hidden, CONTEXT, logits);
    CU_ASSERT_EQUAL_FATAL(lm_forward_end(b->f, NULL, NULL), 0);
    return logits;
}

static long double log_sum(const float *logits)
{
    long double sum = 0;
    for (size_t i = 0; i < VOCAB; i++)
        sum += expl(logits[i]);
    return logl(sum);
}

static size_t top(const float *logits)
{
    size_t best = 0;
    for (size_t i = 1; i < VOCAB; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void divergence_is_that_of_the_logits(void)
{
    struct bench b;
    struct lm_score score;
    struct fault fault = {0};
    double kl[WINDOWS * SCORED], nll = 0, mean = 0;
    size_t n = 0, same = 0;
    set_up(&b, NULL);
    b.windows.profile = narrow;
    CU_ASSERT_EQUAL_FATAL(lm_perplexity(b.f, &b.model->config, &b.windows, &score, &fault), 0);
    for (size_t w = 0; w < WINDOWS; w++) {
        const size_t start = lm_window_start(N, CONTEXT, WINDOWS, w);
        float *own = logits_of(&b, narrow, w), *full = logits_of(&b, "full", w);
        for (size_t t = CONTEXT - SCORED; t < CONTEXT; t++) {
            const float *p = full + t * VOCAB, *q = own + t * VOCAB;
            const long double of_p = log_sum(p), of_q = log_sum(q);
            long double sum = 0;
            for (size_t i = 0; i < VOCAB; i++)
                sum += expl(p[i] - of_p) * (p[i] - of_p - q[i] + of_q);
            nll += (double)(of_q - q[b.ids[start + t + 1]]) / (WINDOWS * SCORED);
            same += top(p) == top(q);
            mean += (double)sum / (WINDOWS * SCORED);
            kl[n++] = (double)sum;
        }
        free(own);
        free(full);
    }
    qsort(kl, n, sizeof *kl, ascending);
    CU_ASSERT(score.compared && n == WINDOWS * SCORED && same < n);
    ASSERT_NEAR(score.nll, nll, 1e-5 * nll);
    /* Products of other batches round otherwise, by some 1e-6 of a logit. */
    ASSERT_NEAR(score.divergence.kl_mean, mean, 1e-4 * mean);
    ASSERT_NEAR(score.divergence.kl_p50, kl[16], 1e-4 * mean);                                /* 33 of them */
    ASSERT_NEAR(score.divergence.kl_p999, kl[31] + 0.968 * (kl[32] - kl[31]), 1e-4 * kl[32]); /* 0.999 * 32 = 31.968 */
    ASSERT_NEAR(score.divergence.same_top, (double)same / (double)n, 1e-12);
    CU_ASSERT(mean > 0.01);
    tear_down(&b);
}

static void comparing_changes_nothing_else(void)
{
    struct bench b;
    struct lm_score with, without;
    set_up(&b, NULL);
    b.windows.profile = narrow;
    CU_ASSERT_EQUAL(lm_perplexity(b.f, &b.model->config, &b.windows, &with, NULL), 0);
    b.windows.compare = false;
    CU_ASSERT_EQUAL(lm_perplexity(b.f, &b.model->config, &b.windows, &without, NULL), 0);
    CU_ASSERT(with.compared && !without.compared);
    CU_ASSERT_EQUAL(with.nll, without.nll);
    CU_ASSERT_EQUAL(with.totals.bytes, without.totals.bytes); /* the window's, not the full cache's */
    CU_ASSERT(with.totals.bytes < with.totals.bytes_full_bf16);
    tear_down(&b);
}

static void the_full_cache_is_its_own_reference_and_read_once(void)
{
    struct bench b;
    struct lm_score score;
    static const char *const names[] = {NULL, "full"};
    for (size_t i = 0; i < 2; i++) {
        set_up(&b, naive_service(UINT64_MAX));
        b.windows.profile = names[i];
        CU_ASSERT_EQUAL(lm_perplexity(b.f, &b.model->config, &b.windows, &score, NULL), 0);
        CU_ASSERT(score.compared && score.divergence.same_top == 1);
        CU_ASSERT(score.divergence.kl_mean == 0 && score.divergence.kl_p50 == 0 && score.divergence.kl_p999 == 0);
        CU_ASSERT_EQUAL(naive_steps(b.service), WINDOWS * b.model->config.n_layers);
        tear_down(&b);
    }
}

/* f32 rows under overrides are the same cache, but only reading it tells. */
static void the_full_cache_by_another_name_diverges_by_nothing(void)
{
    struct bench b;
    struct lm_score score;
    set_up(&b, NULL);
    b.windows.profile = "full,storage=f32";
    CU_ASSERT_EQUAL(lm_perplexity(b.f, &b.model->config, &b.windows, &score, NULL), 0);
    CU_ASSERT(score.compared && score.divergence.kl_p999 == 0 && score.divergence.same_top == 1);
    b.windows.profile = "full,storage=bf16";
    CU_ASSERT_EQUAL(lm_perplexity(b.f, &b.model->config, &b.windows, &score, NULL), 0);
    CU_ASSERT(score.divergence.kl_mean > 0 && score.divergence.kl_mean < 1e-3);
    tear_down(&b);
}

TEST_SUITE("tools/lm/score", TEST(divergence_is_that_of_the_logits), TEST(comparing_changes_nothing_else),
           TEST(the_full_cache_is_its_own_reference_and_read_once), TEST(the_full_cache_by_another_name_diverges_by_nothing))
