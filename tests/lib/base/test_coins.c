#include "base/coins.h"
#include "tests/test.h"

#include <stdint.h>

/* tests/golden/coins.json */
static void coins_equal_the_golden_file(void)
{
    static const struct {
        uint64_t seed, lane, token, slot;
        double u;
    } golden[] = {
        {0, 0, 0, 0, 0.1296456182997474},
        {7, 1, 12, 3, 0.8438346532842809},
        {UINT64_C(9223372036854775808), 3, 1000000000, 1023, 0.2641648541059509},
        {UINT64_MAX, 2, UINT64_C(1099511627776), 65535, 0.5136004058824358},
    };
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++)
        CU_ASSERT_EQUAL(coin(golden[i].seed, golden[i].lane, golden[i].token, golden[i].slot), golden[i].u);
}

/* Values of the reference's mix and head_seed. */
static void seeds_of_heads_equal_the_reference(void)
{
    CU_ASSERT_EQUAL(mix(0), UINT64_C(0xe220a8397b1dcdaf));
    CU_ASSERT_EQUAL(mix(1), UINT64_C(0x910a2dec89025cc1));
    CU_ASSERT_EQUAL(head_seed(0, 0, 0), UINT64_C(0x238275bc38fcbe91));
    CU_ASSERT_EQUAL(head_seed(7, 3, 5), UINT64_C(0xf647de43e60ec467));
    CU_ASSERT_EQUAL(head_seed(UINT64_MAX, 1023, 1023), UINT64_C(0xccec6b1f7a2bfd7a));
}

/* The mean of N = 2^16 uniform coins has standard deviation 1 / sqrt(12 N) = 0.00113; neighbours in one argument are as
 * independent as any: their product has mean 1/4 and, over N pairs, standard deviation sqrt(7/144/N) = 0.00086. Five of
 * each. */
static void coins_are_uniform_and_neighbours_independent(void)
{
    enum { N = 1 << 16 };
    double sum = 0, by_token = 0, by_slot = 0, by_lane = 0;
    for (uint64_t i = 0; i < N; i++) {
        double u = coin(3, 0, i, 0);
        CU_ASSERT_FATAL(u >= 0 && u < 1);
        sum += u;
        by_token += u * coin(3, 0, i + 1, 0);
        by_slot += u * coin(3, 0, i, 1);
        by_lane += u * coin(3, 1, i, 0);
    }
    ASSERT_NEAR(sum / N, 0.5, 5 * 0.00113);
    ASSERT_NEAR(by_token / N, 0.25, 5 * 0.00086);
    ASSERT_NEAR(by_slot / N, 0.25, 5 * 0.00086);
    ASSERT_NEAR(by_lane / N, 0.25, 5 * 0.00086);
}

TEST_SUITE("lib/base/coins", TEST(coins_equal_the_golden_file), TEST(seeds_of_heads_equal_the_reference),
           TEST(coins_are_uniform_and_neighbours_independent))
