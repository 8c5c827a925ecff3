#include "base/coins.h"
#include "sketch/gather.h"
#include "tests/test.h"

#include <string.h>

enum { N_MAX = 40 };

struct rows {
    uint32_t row[N_MAX], spare;
    size_t copies;
};

static void copy(void *context, size_t to, size_t source)
{
    struct rows *rows = context;
    uint32_t row = source == GATHER_SPARE ? rows->spare : rows->row[source];
    *(to == GATHER_SPARE ? &rows->spare : &rows->row[to]) = row;
    rows->copies++;
}

static void check(const uint32_t *from, size_t n, size_t n_rows)
{
    uint32_t sources[N_MAX], needed[N_MAX];
    struct rows rows = {.copies = 0};
    for (size_t i = 0; i < n_rows; i++)
        rows.row[i] = 100 + (uint32_t)i;
    memcpy(sources, from, n * sizeof *from);
    gather(sources, needed, n, n_rows, copy, &rows);
    for (size_t i = 0; i < n; i++)
        CU_ASSERT_EQUAL(rows.row[i], 100 + from[i]);
    CU_ASSERT(rows.copies <= n + n / 2); /* a cycle of two costs three */
}

static void every_row_arrives_whatever_the_sources(void)
{
    uint64_t state = 1;
    for (size_t round = 0; round < 20000; round++) {
        size_t n_rows = 1 + (state = mix(state)) % N_MAX, n = (state = mix(state)) % (n_rows + 1);
        size_t reach = 1 + (state = mix(state)) % n_rows; /* few sources, or many */
        uint32_t from[N_MAX];
        for (size_t i = 0; i < n; i++)
            from[i] = (uint32_t)((state = mix(state)) % reach);
        check(from, n, n_rows);
    }
}

static void permutations_arrive(void)
{
    uint64_t state = 2;
    for (size_t round = 0; round < 5000; round++) {
        size_t n = 1 + (state = mix(state)) % N_MAX;
        uint32_t from[N_MAX];
        for (size_t i = 0; i < n; i++)
            from[i] = (uint32_t)i;
        for (size_t i = n - 1; i > 0; i--) {
            size_t j = (state = mix(state)) % (i + 1);
            uint32_t swap = from[i];
            from[i] = from[j];
            from[j] = swap;
        }
        check(from, n, n);
    }
}

TEST_SUITE("lib/sketch/gather", TEST(every_row_arrives_whatever_the_sources), TEST(permutations_arrive))
