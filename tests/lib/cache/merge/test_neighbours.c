#include "base/coins.h"
#include "cache/merge/neighbours.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>

static double square(const float *diagonal, const float *k, const float *l, size_t d)
{
    double sum = 0;
    for (size_t c = 0; c < d; c++)
        sum += (double)diagonal[c] * (k[c] - l[c]) * (k[c] - l[c]);
    return sum;
}

/* The row nearest to `row` by plain search, those found before left out. */
static uint32_t nearest(const float *keys, const float *diagonal, size_t d, size_t row, size_t first, size_t end,
                        const uint32_t *before, size_t n_before)
{
    size_t best = SIZE_MAX;
    double least = INFINITY;
    for (size_t j = first; j < end; j++) {
        size_t apart = j > row ? j - row : row - j;
        bool skip = j == row || apart > NEIGHBOURS_REACH;
        for (size_t x = 0; x < n_before; x++)
            skip |= before[x] == j;
        double distance = skip ? INFINITY : square(diagonal, keys + row * d, keys + j * d, d);
        if (distance < least) {
            least = distance;
            best = j;
        }
    }
    return (uint32_t)best;
}

struct search_case {
    size_t n, d, first, end, every; /* every so many rows ask */
};

static void check(const struct search_case *s, const struct kernels *kernels)
{
    const struct storage *f32 = &storage_table[STORAGE_F32];
    struct row_format format = {f32, f32, s->d, 1, ROWS_WEIGHTED, 0};
    struct page_account account = {0};
    struct rows rows = {0};
    struct neighbours *of = calloc(s->n, sizeof *of);
    float *keys = malloc(s->n * s->d * sizeof *keys), *values = calloc(s->n, sizeof *values);
    float *diagonal = malloc(s->d * sizeof *diagonal);
    size_t n_of = 0, n_wrong = 0;
    CU_ASSERT_EQUAL_FATAL(rows_create(&rows, &format, &account, (s->n + PANEL - 1) / PANEL * PANEL), 0);
    for (size_t i = 0; i < s->n * s->d; i++)
        keys[i] = (float)(2 * coin(5, s->n, i, 0) - 1);
    for (size_t c = 0; c < s->d; c++)
        diagonal[c] = (float)coin(5, s->n, c, 1);
    rows_write(&rows, &format, kernels, 0, s->n, keys, values);
    for (size_t row = s->first; row < s->end; row += s->every)
        of[n_of++].row = (uint32_t)row;
    struct metric metric = {kernels, s->d, NULL, diagonal};
    neighbours_find(of, n_of, &rows, &format, &metric, s->first, s->end);
    for (size_t i = 0; i < n_of; i++) {
        size_t others = s->end - s->first - 1;
        CU_ASSERT_EQUAL(of[i].n, others < NEIGHBOURS_MAX ? others : NEIGHBOURS_MAX);
        for (size_t x = 0; x < of[i].n; x++)
            n_wrong += of[i].near[x] != nearest(keys, diagonal, s->d, of[i].row, s->first, s->end, of[i].near, x);
    }
    CU_ASSERT_EQUAL(n_wrong, 0);
    rows_release(&rows);
    free(of);
    free(keys);
    free(values);
    free(diagonal);
}

/* Few rows, many that ask at once, long rows (fewer at a time), and blocks beyond the reach. */
static void neighbours_are_those_of_a_plain_search(void)
{
    static const struct search_case cases[] = {
        {2, 4, 0, 2, 1},      {3, 1, 0, 3, 1},        {40, 8, 4, 31, 1},         {300, 17, 5, 290, 3},
        {90, 1024, 3, 85, 2}, {1500, 6, 10, 1450, 9}, {2000, 64, 100, 2000, 40},
    };
    const struct kernels *kernels[KERNELS_MAX];
    size_t n_kernels = kernels_runnable(kernels);
    for (size_t k = 0; k < n_kernels; k++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            check(&cases[i], kernels[k]);
}

static void the_nearest_is_forgotten_first(void)
{
    struct neighbours g = {.row = 9, .n = 3, .near = {4, 5, 6}, .apart = {1, 2, 3}};
    neighbours_pop(&g);
    CU_ASSERT(g.n == 2 && g.near[0] == 5 && g.near[1] == 6 && g.apart[0] == 2 && g.apart[1] == 3);
}

TEST_SUITE("lib/cache/merge/neighbours", TEST(neighbours_are_those_of_a_plain_search), TEST(the_nearest_is_forgotten_first))
