#include "base/coins.h"
#include "cache/ranked/lowest.h"
#include "tests/test.h"

#include <stdlib.h>

struct ranked {
    float rank;
    uint32_t row;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return x->row < y->row ? -1 : 1;
}

static int by_row(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->row < y->row ? -1 : 1;
}

/* Ranks of few different values, so that ties decide; sizes on both sides of what is wanted. */
static void the_lowest_are_those_of_a_sort(void)
{
    static const size_t sizes[][2] = {{1, 1}, {2, 1}, {7, 7}, {40, 5}, {300, 17}, {1000, HELD_INTERVAL_MAX}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (uint64_t seed = 0; seed < 20; seed++) {
            size_t n = sizes[i][0], wanted = sizes[i][1];
            struct ranked *all = malloc(n * sizeof *all);
            uint32_t rows[HELD_INTERVAL_MAX];
            struct lowest lowest;
            lowest_init(&lowest, wanted);
            for (size_t j = 0; j < n; j++) {
                all[j] = (struct ranked){(float)(mix(seed ^ mix(j)) % (seed % 2 ? 5 : 100000)), (uint32_t)(3 * j)};
                lowest_offer(&lowest, all[j].rank, all[j].row);
            }
            lowest_rows(&lowest, rows);
            qsort(all, n, sizeof *all, by_rank);
            qsort(all, wanted, sizeof *all, by_row);
            for (size_t j = 0; j < wanted; j++)
                CU_ASSERT_EQUAL(rows[j], all[j].row);
            free(all);
        }
}

static void wanting_none_gives_none(void)
{
    struct lowest lowest;
    uint32_t rows[1] = {7};
    lowest_init(&lowest, 0);
    lowest_offer(&lowest, 1, 1);
    lowest_rows(&lowest, rows);
    CU_ASSERT(lowest.n == 0 && rows[0] == 7);
}

TEST_SUITE("lib/cache/ranked/lowest", TEST(the_lowest_are_those_of_a_sort), TEST(wanting_none_gives_none))
