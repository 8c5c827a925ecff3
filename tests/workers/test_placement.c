#include "tests/test.h"
#include "workers/placement.h"

#include <stdint.h>

static void heads_go_to_the_pool_that_names_them(void)
{
    struct placement_pool pools[] = {
        {.heads_auto = true, .threads = 4},
        {.first_head = 2, .last_head = 3, .threads = 1},
        {.first_head = 8, .last_head = UINT64_MAX, .threads = 1},
    };
    for (int again = 0; again < 3; again++) {
        CU_ASSERT_EQUAL(placement_choose(pools, 3, 2), 1);
        CU_ASSERT_EQUAL(placement_choose(pools, 3, 3), 1);
        CU_ASSERT_EQUAL(placement_choose(pools, 3, 8), 2);
        CU_ASSERT_EQUAL(placement_choose(pools, 3, 1000), 2);
        CU_ASSERT_EQUAL(placement_choose(pools, 3, 0), 0);
        CU_ASSERT_EQUAL(placement_choose(pools, 3, 7), 0);
    }
    CU_ASSERT_EQUAL(pools[0].placed, 6);
    CU_ASSERT_EQUAL(pools[1].placed, 6);
    CU_ASSERT_EQUAL(pools[2].placed, 6);
}

static void other_heads_are_spread_by_load_per_thread(void)
{
    struct placement_pool pools[] = {{.heads_auto = true, .threads = 1}, {.heads_auto = true, .threads = 3}};
    for (uint64_t i = 0; i < 400; i++) {
        placement_choose(pools, 2, i % 8);
        CU_ASSERT(pools[1].placed <= 3 * (pools[0].placed + 1));
        CU_ASSERT(pools[0].placed <= pools[1].placed / 3 + 1);
    }
    CU_ASSERT_EQUAL(pools[0].placed, 100);
    CU_ASSERT_EQUAL(pools[1].placed, 300);
}

static void ties_go_to_the_first_pool(void)
{
    struct placement_pool pools[] = {{.heads_auto = true, .threads = 2}, {.heads_auto = true, .threads = 2}};
    CU_ASSERT_EQUAL(placement_choose(pools, 2, 0), 0);
    CU_ASSERT_EQUAL(placement_choose(pools, 2, 0), 1);
    CU_ASSERT_EQUAL(placement_choose(pools, 2, 0), 0);
}

static void a_pool_that_lost_heads_is_chosen_again(void)
{
    struct placement_pool pools[] = {{.heads_auto = true, .threads = 1, .placed = 5},
                                     {.heads_auto = true, .threads = 1, .placed = 4}};
    CU_ASSERT_EQUAL(placement_choose(pools, 2, 0), 1);
    pools[0].placed = 0;
    CU_ASSERT_EQUAL(placement_choose(pools, 2, 0), 0);
}

static void heads_that_no_pool_names_go_to_the_least_loaded_when_none_is_auto(void)
{
    struct placement_pool pools[] = {{.first_head = 0, .last_head = 0, .threads = 1, .placed = 9},
                                     {.first_head = 1, .last_head = 1, .threads = 1, .placed = 2}};
    CU_ASSERT_EQUAL(placement_choose(pools, 2, 5), 1);
    CU_ASSERT_EQUAL(placement_choose(pools, 2, 0), 0);
    CU_ASSERT_EQUAL(pools[1].placed, 3);
}

TEST_SUITE("workers/placement", TEST(heads_go_to_the_pool_that_names_them), TEST(other_heads_are_spread_by_load_per_thread),
           TEST(ties_go_to_the_first_pool), TEST(a_pool_that_lost_heads_is_chosen_again),
           TEST(heads_that_no_pool_names_go_to_the_least_loaded_when_none_is_auto))
