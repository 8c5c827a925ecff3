#include "tests/lib/cache/conform.h"
#include "tests/lib/cache/ranked/simulate.h"
#include "tests/test.h"

#include <stdlib.h>

static void h2o_conforms(void)
{
    static const struct conform cases[] = {
        {"h2o,rows=100", ATTENTION_SOFTMAX, 400, 0},
        {"h2o,rows=80,interval=5,sink_tokens=0,recent_tokens=0", ATTENTION_SOFTMAX, 150, 0},
        {"h2o,budget_fraction=0.25", ATTENTION_SOFTMAX, 300, 1000},
        {"h2o,budget_fraction=0.125,storage=f16,interval=1", ATTENTION_SOFTMAX, 300, 1000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        conform_check(&cases[i]);
}

static void add_attention(struct simulation *s, size_t token)
{
    double *p = malloc(s->n * sizeof *p);
    simulate_probabilities(s, token, p);
    for (size_t j = 0; j < s->n; j++)
        s->score[s->held[j]] += p[j];
    free(p);
}

static void rank_by_sum(struct simulation *s, double *rank)
{
    for (size_t j = 0; j < s->n; j++)
        rank[j] = s->score[s->held[j]];
}

static void the_rows_with_most_attention_so_far_stay(void)
{
    struct simulation every = {.choice = "h2o,rows=40,sink_tokens=2,recent_tokens=11,interval=1",
                               .limit = 40,
                               .sinks = 2,
                               .recent = 11,
                               .interval = 1,
                               .learn = add_attention,
                               .rank = rank_by_sum};
    struct simulation seldom = {.choice = "h2o,rows=70,sink_tokens=0,interval=13", /* half of the rows are recent */
                                .limit = 70,
                                .sinks = 0,
                                .recent = 35,
                                .interval = 13,
                                .learn = add_attention,
                                .rank = rank_by_sum};
    simulate(&every, 300, 9, 51);
    simulate(&seldom, 400, 16, 52);
}

TEST_SUITE("lib/cache/ranked/h2o", TEST(h2o_conforms), TEST(the_rows_with_most_attention_so_far_stay))
