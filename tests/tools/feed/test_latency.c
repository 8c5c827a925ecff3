#include "tests/test.h"

#include "tools/feed/latency.h"

#include <math.h>

static struct latency latency, other;

static void quantiles_are_right_to_a_bucket(void)
{
    latency = other = (struct latency){0};
    for (int i = 1; i <= 1000; i++)
        latency_add(i % 2 ? &latency : &other, i * 1e-5);
    latency_merge(&latency, &other);
    CU_ASSERT_EQUAL(latency.n, 1000);
    ASSERT_NEAR(latency_quantile(&latency, 0.5) / 5e-3, 1, 0.011);
    ASSERT_NEAR(latency_quantile(&latency, 0.99) / 9.9e-3, 1, 0.011);
    ASSERT_NEAR(latency_quantile(&latency, 0.999) / 9.99e-3, 1, 0.011);
    ASSERT_NEAR(latency_quantile(&latency, 1) / 10e-3, 1, 0.011);
}

static void what_is_outside_counts_at_the_ends(void)
{
    latency = (struct latency){0};
    CU_ASSERT(isnan(latency_quantile(&latency, 0.5)));
    latency_add(&latency, 0);
    CU_ASSERT(latency_quantile(&latency, 0.5) < 1.1e-6);
    latency_add(&latency, 1e9);
    CU_ASSERT(latency_quantile(&latency, 0.5) < 1.1e-6 && latency_quantile(&latency, 1) > 3600);
}

TEST_SUITE("tools/feed/latency", TEST(quantiles_are_right_to_a_bucket), TEST(what_is_outside_counts_at_the_ends))
