#include "tests/lib/cache/conform.h"
#include "tests/lib/cache/ranked/simulate.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>

static void keydiff_conforms(void)
{
    static const struct conform cases[] = {
        {"keydiff,rows=100", ATTENTION_SOFTMAX, 400, 0},
        {"keydiff,rows=80,interval=5,sink_tokens=0,recent_tokens=0", ATTENTION_SOFTMAX, 150, 0},
        {"keydiff,budget_fraction=0.25", ATTENTION_SOFTMAX, 300, 1000},
        {"keydiff,budget_fraction=0.125,storage=f16,interval=1", ATTENTION_SOFTMAX, 300, 1000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        conform_check(&cases[i]);
}

static void rank_by_cosine(struct simulation *s, double *rank)
{
    size_t d = s->t->d;
    double *mean = calloc(d, sizeof *mean);
    for (int pass = 0; pass < 2; pass++)
        for (size_t j = 0; j < s->n; j++) {
            const float *key = s->t->key[0] + s->held[j] * d;
            double square = 0, dot = 0;
            for (size_t c = 0; c < d; c++)
                square += (double)key[c] * key[c];
            for (size_t c = 0; c < d; c++) {
                dot += key[c] * mean[c] / sqrt(square);
                mean[c] += pass == 0 ? key[c] / sqrt(square) : 0;
            }
            rank[j] = -dot;
        }
    free(mean);
}

static void the_keys_most_like_the_mean_go(void)
{
    struct simulation every = {.choice = "keydiff,rows=40,sink_tokens=2,recent_tokens=5,interval=1",
                               .limit = 40,
                               .sinks = 2,
                               .recent = 5,
                               .interval = 1,
                               .rank = rank_by_cosine};
    struct simulation seldom = {.choice = "keydiff,rows=140,sink_tokens=0,interval=13",
                                .limit = 140,
                                .sinks = 0,
                                .recent = 35,
                                .interval = 13,
                                .rank = rank_by_cosine};
    simulate(&every, 300, 9, 55);
    simulate(&seldom, 400, 200, 56);
}

/* Two opposite kinds of keys, one of them rare: the rare ones stay. */
static void distinctive_keys_stay(void)
{
    struct tokens t;
    struct drive drive;
    struct view view[2];
    tokens_random(&t, ATTENTION_SOFTMAX, 500, 1, 8, 1, 57);
    for (size_t i = 0; i < t.n; i++)
        for (size_t c = 0; c < t.d; c++)
            t.key[0][i * t.d + c] = (i % 25 == 7 ? -1.0f : 1.0f) + 0.05f * t.key[0][i * t.d + c];
    if (drive_open(&drive, &t, "keydiff,rows=64", kernels_best(), 0)) {
        size_t n_rare = 0;
        drive_run(&drive, 0, t.n, 0, NULL);
        drive.cache->ops->view(drive.cache, t.n - 1, t.q, view);
        for (size_t r = 0; r < view[0].seg[0].n; r++)
            n_rare += ((const float *)view[0].seg[0].keys)[r / PANEL * PANEL * t.d + r % PANEL] < 0;
        CU_ASSERT_EQUAL(n_rare, 20);
    }
    drive_close(&drive);
    tokens_free(&t);
}

TEST_SUITE("lib/cache/ranked/keydiff", TEST(keydiff_conforms), TEST(the_keys_most_like_the_mean_go),
           TEST(distinctive_keys_stay))
