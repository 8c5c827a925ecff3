#include "tests/lib/cache/conform.h"
#include "tests/lib/cache/ranked/simulate.h"
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

static void snapkv_conforms(void)
{
    static const struct conform cases[] = {
        {"snapkv,rows=100", ATTENTION_SOFTMAX, 400, 0},
        {"snapkv,rows=80,interval=8,sink_tokens=0,recent_tokens=0", ATTENTION_SOFTMAX, 150, 0},
        {"snapkv,budget_fraction=0.25", ATTENTION_SOFTMAX, 300, 1000},
        {"snapkv,budget_fraction=0.25,storage=f16,interval=16,observe_tokens=5", ATTENTION_SOFTMAX, 300, 1000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        conform_check(&cases[i]);
}

enum { N = 400, OBSERVE = 32 };

/* Attention of the last OBSERVE tokens, by token that gave and token that got it. */
static double given[N][N];

static void note_attention(struct simulation *s, size_t token)
{
    double p[N];
    simulate_probabilities(s, token, p);
    for (size_t j = 0; j < s->n; j++)
        given[token][s->held[j]] = p[j];
}

static size_t observe_tokens;

static void rank_by_pooled_attention(struct simulation *s, double *rank)
{
    size_t last = s->held[s->n - 1], end = s->limit - s->recent;
    for (size_t j = 0; j < s->n; j++) {
        rank[j] = 0;
        for (size_t near = j < 2 ? 0 : j - 2; near <= j + 2; near++)
            for (size_t i = last + 1 - observe_tokens; near >= s->sinks && near < end && i <= last; i++)
                rank[j] += given[i][s->held[near]] / 5;
    }
}

static void the_last_queries_and_the_neighbours_decide(void)
{
    static const struct {
        const char *choice;
        size_t limit, sinks, recent, interval, observe;
    } cases[] = {
        {"snapkv,rows=90,sink_tokens=2,recent_tokens=11,interval=32", 90, 2, 11, 32, 32},
        {"snapkv,rows=90,sink_tokens=2,recent_tokens=11,interval=8", 90, 2, 11, 8, 32}, /* four places */
        {"snapkv,rows=60,sink_tokens=0,recent_tokens=0,interval=20,observe_tokens=7", 60, 0, 0, 20, 7},
        {"snapkv,rows=60,sink_tokens=1,recent_tokens=10,interval=1,observe_tokens=4", 60, 1, 10, 1, 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct simulation s = {.choice = cases[i].choice,
                               .limit = cases[i].limit,
                               .sinks = cases[i].sinks,
                               .recent = cases[i].recent,
                               .interval = cases[i].interval,
                               .learn = note_attention,
                               .rank = rank_by_pooled_attention};
        memset(given, 0, sizeof given);
        observe_tokens = cases[i].observe;
        simulate(&s, N, 10, 58 + i);
    }
}

static void observed_tokens_must_fill_intervals(void)
{
    struct tokens t;
    struct fault fault = {0};
    tokens_random(&t, ATTENTION_SOFTMAX, 4, 1, 4, 4, 59);
    CU_ASSERT_EQUAL(drive_refusal(&t, "snapkv,rows=200,interval=24", 0, &fault), ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, "observe_tokens is 32"));
    CU_ASSERT_EQUAL(drive_refusal(&t, "snapkv,rows=200,interval=24,observe_tokens=24", 0, NULL), 0);
    CU_ASSERT_EQUAL(drive_refusal(&t, "snapkv,rows=200,interval=24,observe_tokens=20", 0, NULL), 0);
    tokens_free(&t);
}

TEST_SUITE("lib/cache/ranked/snapkv", TEST(snapkv_conforms), TEST(the_last_queries_and_the_neighbours_decide),
           TEST(observed_tokens_must_fill_intervals))
