#include "tests/lib/cache/conform.h"
#include "tests/lib/cache/drive.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void uniform_conforms(void)
{
    static const struct conform cases[] = {
        {"uniform,rows=100", ATTENTION_SOFTMAX, 400, 0},
        {"uniform,rows=80,interval=5,sink_tokens=0,recent_tokens=0", ATTENTION_SOFTMAX, 150, 0},
        {"uniform,budget_fraction=0.25", ATTENTION_SOFTMAX, 300, 1000},
        {"uniform,budget_fraction=0.25,storage=f16,interval=1", ATTENTION_SOFTMAX, 300, 1000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        conform_check(&cases[i]);
}

/* One row in K of those that left, each as likely: over S seeds a token's share has standard error sqrt(p (1 - p) / S). The
 * worst of 106 tokens is past 4.5 of them once in 1,400 draws of all seeds. */
static void every_token_is_as_likely_to_stay(void)
{
    enum { TOKENS = 131, LIMIT = 40, SINKS = 3, RECENT = 10, INTERVAL = 6, SAMPLE = LIMIT - SINKS - RECENT - INTERVAL };
    enum { SEEDS = 2000, EXACT = RECENT + 1 }; /* 131 = 40 + 15 x 6 + 1: rows were just dropped */
    struct tokens t;
    size_t count[TOKENS] = {0};
    tokens_random(&t, ATTENTION_SOFTMAX, TOKENS, 1, 1, 1, 61);
    for (size_t i = 0; i < TOKENS; i++)
        t.value[0][i] = (float)i;
    for (unsigned seed = 0; seed < SEEDS; seed++) {
        struct drive drive;
        struct view view[2];
        char choice[120];
        snprintf(choice, sizeof choice, "uniform,rows=40,sink_tokens=3,recent_tokens=10,interval=6,seed=%u", seed);
        if (!drive_open(&drive, &t, choice, kernels_best(), 0))
            continue;
        drive_run(&drive, 0, TOKENS, 0, NULL);
        drive.cache->ops->view(drive.cache, TOKENS - 1, t.q, view);
        const float *values = view[0].seg[0].values;
        for (size_t r = 0; r < view[0].seg[0].n; r++)
            count[(size_t)values[r]]++;
        drive_close(&drive);
    }
    double offered = TOKENS - SINKS - EXACT, p = SAMPLE / offered, bound = 4.5 * sqrt(p * (1 - p) / SEEDS);
    for (size_t i = 0; i < TOKENS; i++)
        ASSERT_NEAR((double)count[i] / SEEDS, i < SINKS || i >= TOKENS - EXACT ? 1 : p, bound);
    tokens_free(&t);
}

/* The sample stands for all that left, everything else for itself: the weights add up to the tokens. */
static void weights_add_up_to_the_tokens(void)
{
    struct tokens t;
    struct drive drive;
    tokens_random(&t, ATTENTION_SOFTMAX, 700, 1, 4, 4, 62);
    if (drive_open(&drive, &t, "uniform,rows=90", kernels_best(), 0)) {
        for (size_t at = 0; at < t.n; at++) {
            struct view view[2];
            double sum = 0;
            drive_run(&drive, at, 1, 1, NULL);
            drive.cache->ops->view(drive.cache, at, t.q, view);
            for (size_t r = 0; r < view[0].seg[0].n; r++)
                sum += exp(view[0].seg[0].log_den[r]);
            ASSERT_NEAR(sum, (double)at + 1, 1e-3);
        }
        double values[CACHE_GAUGES_MAX];
        drive.cache->ops->measure(drive.cache, values);
        CU_ASSERT(values[0] == (double)drive_rows(&drive, 0) && values[1] == 700 - values[0] && values[2] == 1);
    }
    drive_close(&drive);
    tokens_free(&t);
}

TEST_SUITE("lib/cache/uniform", TEST(uniform_conforms), TEST(every_token_is_as_likely_to_stay),
           TEST(weights_add_up_to_the_tokens))
