#include "tests/lib/cache/conform.h"
#include "tests/lib/cache/ranked/simulate.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void expected_conforms(void)
{
    static const struct conform cases[] = {
        {"expected,rows=100", ATTENTION_SOFTMAX, 400, 0},
        {"expected,rows=80,interval=5,sink_tokens=0,recent_tokens=0,covariance=diagonal", ATTENTION_SOFTMAX, 150, 0},
        {"expected,budget_fraction=0.25", ATTENTION_SOFTMAX, 300, 1000},
        {"expected,budget_fraction=0.125,storage=f16,interval=1", ATTENTION_SOFTMAX, 300, 1000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        conform_check(&cases[i]);
}

static bool diagonal;

/* From all queries so far, anew: log of e^(m^T k + k^T C k / 2) |v|. */
static void rank_by_expectation(struct simulation *s, double *rank)
{
    const struct tokens *t = s->t;
    size_t d = t->d, n = (s->held[s->n - 1] + 1) * t->group;
    double *mean = calloc(d, sizeof *mean), *c = calloc(d * d, sizeof *c);
    for (size_t i = 0; i < n * d; i++)
        mean[i % d] += t->q[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        for (size_t a = 0; a < d; a++)
            for (size_t b = 0; b < d; b++)
                if (!diagonal || a == b)
                    c[a * d + b] += (t->q[i * d + a] - mean[a]) * (t->q[i * d + b] - mean[b]) / (double)n;
    for (size_t j = 0; j < s->n; j++) {
        const float *key = t->key[0] + s->held[j] * d;
        rank[j] = log(fabs(t->value[0][s->held[j]]));
        for (size_t a = 0; a < d; a++) {
            rank[j] += mean[a] * key[a];
            for (size_t b = 0; b < d; b++)
                rank[j] += c[a * d + b] * key[a] * key[b] / 2;
        }
    }
    free(mean);
    free(c);
}

static void the_rows_that_queries_like_these_see_least_go(void)
{
    struct simulation every = {.choice = "expected,rows=40,sink_tokens=2,recent_tokens=5,interval=1",
                               .limit = 40,
                               .sinks = 2,
                               .recent = 5,
                               .interval = 1,
                               .rank = rank_by_expectation};
    struct simulation seldom = {.choice = "expected,rows=300,sink_tokens=3,interval=13,covariance=full",
                                .limit = 300,
                                .sinks = 3,
                                .recent = 75,
                                .interval = 13,
                                .rank = rank_by_expectation};
    struct simulation by_diagonal = {.choice = "expected,rows=60,sink_tokens=2,interval=8,covariance=diagonal",
                                     .limit = 60,
                                     .sinks = 2,
                                     .recent = 15,
                                     .interval = 8,
                                     .rank = rank_by_expectation};
    diagonal = false;
    simulate(&every, 200, 9, 71);
    simulate(&seldom, 400, 20, 72);
    diagonal = true;
    simulate(&by_diagonal, 200, 9, 73);
    simulate(&by_diagonal, 200, 2, 74); /* where a page holds either */
}

/* All of C takes 8,584 bytes at d = 64: an eighth of 68,672. */
static void the_covariance_takes_at_most_an_eighth_of_the_budget(void)
{
    static const struct {
        const char *choice;
        size_t bytes; /* beside the rows */
    } cases[] = {
        {"expected,budget_bytes=69000", 64 * 65 / 2 * 4 + 64 * 4 + 8},
        {"expected,budget_bytes=68000", 2 * 64 * 4 + 8},
        {"expected,budget_bytes=68000,covariance=full", 64 * 65 / 2 * 4 + 64 * 4 + 8},
        {"expected,budget_bytes=69000,covariance=diagonal", 2 * 64 * 4 + 8},
        {"expected,rows=50", 64 * 65 / 2 * 4 + 64 * 4 + 8},
    };
    struct tokens t;
    tokens_random(&t, ATTENTION_SOFTMAX, 1, 1, 64, 64, 75);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct drive drive;
        if (drive_open(&drive, &t, cases[i].choice, kernels_best(), 0))
            CU_ASSERT_EQUAL(drive.cache->account.allocated, page_rounded(cases[i].bytes));
        drive_close(&drive);
    }
    tokens_free(&t);
}

TEST_SUITE("lib/cache/ranked/expected", TEST(expected_conforms), TEST(the_rows_that_queries_like_these_see_least_go),
           TEST(the_covariance_takes_at_most_an_eighth_of_the_budget))
