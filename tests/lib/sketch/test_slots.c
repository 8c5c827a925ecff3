/* Slots: the whole-number test of a draw against the coins themselves. */
#include "base/coins.h"
#include "sketch/slots.h"
#include "tests/test.h"

#include <stdbool.h>

static bool takes(const struct slots_draw *draw, uint64_t slot)
{
    return slots_taking(draw, slot / SLOTS_AT_ONCE * SLOTS_AT_ONCE, SLOTS_AT_ONCE) >> slot % SLOTS_AT_ONCE & 1;
}

static void a_draw_is_the_coins_of_its_slots(void)
{
    uint64_t state = 3;
    for (size_t round = 0; round < 2000; round++) {
        uint64_t seed = state = mix(state), lane = round % 12, token = mix(seed) >> (round % 60);
        double total = (double)(mix(token) >> 20) * 0x1p-30 + 1e-9, weight = total * coin(seed, 90, round, 0);
        struct slots_draw draw = slots_draw(seed, lane, token, total, weight);
        for (uint64_t slot = 0; slot < 200; slot++)
            CU_ASSERT_EQUAL(takes(&draw, slot), coin(seed, lane, token, slot) * total < weight);
    }
}

/* On both sides of the limit, where rounding decides. */
static void the_limit_is_the_first_coin_that_does_not_take(void)
{
    uint64_t state = 4;
    for (size_t round = 0; round < 20000; round++) {
        state = mix(state);
        double total = (double)(state >> 11) * 0x1p-33, weight = total * coin(state, 1, 2, 3);
        if (total == 0)
            continue;
        uint64_t limit = slots_draw(0, 0, 0, total, weight).limit;
        CU_ASSERT(limit == 0 || (double)(limit - 1) * 0x1p-53 * total < weight);
        CU_ASSERT(limit == UINT64_C(1) << 53 || (double)limit * 0x1p-53 * total >= weight);
    }
}

static void certain_rows_are_taken_by_every_slot_and_weightless_ones_by_none(void)
{
    static const double totals[] = {1e-90, 1e-9, 1, 3, 1e15, 1e60};
    for (size_t i = 0; i < sizeof totals / sizeof *totals; i++) {
        struct slots_draw all = slots_draw(7, 1, i, totals[i], totals[i]), none = slots_draw(7, 1, i, totals[i], 0);
        CU_ASSERT_EQUAL(slots_taking(&all, 0, 64), UINT64_MAX);
        CU_ASSERT_EQUAL(slots_taking(&none, 0, 64), 0);
        CU_ASSERT_EQUAL(slots_taking(&all, 5, 3), 7);
        CU_ASSERT_EQUAL(slots_taking(&all, 0, 0), 0);
    }
}

TEST_SUITE("lib/sketch/slots", TEST(a_draw_is_the_coins_of_its_slots), TEST(the_limit_is_the_first_coin_that_does_not_take),
           TEST(certain_rows_are_taken_by_every_slot_and_weightless_ones_by_none))
