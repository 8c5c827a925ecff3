#include "tests/lib/cache/conform.h"
#include "tests/lib/cache/ranked/simulate.h"
#include "tests/test.h"

#include <stdlib.h>

static void tova_conforms(void)
{
    static const struct conform cases[] = {
        {"tova,rows=100", ATTENTION_SOFTMAX, 400, 0},
        {"tova,rows=80,interval=5,sink_tokens=0,recent_tokens=0", ATTENTION_SOFTMAX, 150, 0},
        {"tova,budget_fraction=0.25", ATTENTION_SOFTMAX, 300, 1000},
        {"tova,budget_fraction=0.125,storage=f16,interval=1", ATTENTION_SOFTMAX, 300, 1000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        conform_check(&cases[i]);
}

static void rank_by_last_query(struct simulation *s, double *rank)
{
    simulate_probabilities(s, s->held[s->n - 1], rank);
}

static void the_rows_that_the_last_query_saw_least_go(void)
{
    struct simulation every = {.choice = "tova,rows=40,sink_tokens=2,recent_tokens=0,interval=1",
                               .limit = 40,
                               .sinks = 2,
                               .recent = 0,
                               .interval = 1,
                               .rank = rank_by_last_query};
    struct simulation seldom = {.choice = "tova,rows=72,sink_tokens=0,interval=13", /* a quarter is recent */
                                .limit = 72,
                                .sinks = 0,
                                .recent = 18,
                                .interval = 13,
                                .rank = rank_by_last_query};
    simulate(&every, 300, 9, 53);
    simulate(&seldom, 400, 16, 54);
}

TEST_SUITE("lib/cache/ranked/tova", TEST(tova_conforms), TEST(the_rows_that_the_last_query_saw_least_go))
