/* The walk and the levels against their plainest forms. */
#include "base/coins.h"
#include "cache/balance/balance_levels.h"
#include "cache/balance/balance_walk.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 256, DIM_MAX = 40 };

static double normal(uint64_t lane, uint64_t i)
{
    return sqrt(-2 * log(1 - coin(5, lane, i, 0))) * cos(2 * 3.14159265358979323846 * coin(5, lane, i, 1));
}

/* Rows near one of 5 centres, so that signs have something to balance, far from the origin, so that centring matters. */
struct block {
    struct row_format format;
    struct page_account account;
    struct rows rows;
    float keys[ROWS * DIM_MAX], values[ROWS * DIM_MAX]; /* as stored */
};

static struct block *block_of(enum storage_id storage, size_t d, size_t e, const struct kernels *kernels)
{
    struct block *b = calloc(1, sizeof *b);
    b->format = (struct row_format){.key_storage = &storage_table[storage],
                                    .value_storage = &storage_table[storage],
                                    .d = d,
                                    .e = e,
                                    .weights = ROWS_WEIGHTED};
    CU_ASSERT_EQUAL_FATAL(rows_create(&b->rows, &b->format, &b->account, ROWS), 0);
    for (size_t i = 0; i < ROWS; i++) {
        for (size_t c = 0; c < d; c++)
            b->keys[i * d + c] = (float)(2 + normal(1, i % 5 * DIM_MAX + c) + 0.1 * normal(2, i * DIM_MAX + c));
        for (size_t c = 0; c < e; c++)
            b->values[i * e + c] = (float)(normal(3, i % 5 * DIM_MAX + c) + 0.3 * normal(4, i * DIM_MAX + c));
    }
    rows_write(&b->rows, &b->format, kernels, 0, ROWS, b->keys, b->values);
    rows_read_keys(&b->rows, &b->format, kernels, 0, ROWS, b->keys);
    rows_read_values(&b->rows, &b->format, kernels, 0, ROWS, b->values);
    return b;
}

static void block_free(struct block *b)
{
    rows_release(&b->rows);
    free(b);
}

static double dot(const double *a, const double *b, size_t n)
{
    double sum = 0;
    for (size_t c = 0; c < n; c++)
        sum += a[c] * b[c];
    return sum;
}

/* All n^2 products written out. Returns |w|^2 / sum |y|^2. */
static double naive_signs(const struct block *b, const struct walk *walk, size_t first, size_t n, bool *plus)
{
    size_t d = b->format.d, e = b->format.e, n_plus = 0;
    double *keys = calloc(n * d, sizeof *keys), *values = calloc(n * e, sizeof *values), *y = calloc(n * n, sizeof *y);
    double max = -INFINITY, square = 0, largest = 0, length = 0, squares = 0;
    for (size_t c = 0; c < d; c++) {
        double mean = 0;
        for (size_t i = 0; i < n; i++)
            mean += (double)b->keys[(first + i) * d + c] / (double)n;
        for (size_t i = 0; i < n; i++)
            keys[i * d + c] = (double)b->keys[(first + i) * d + c] - mean;
    }
    for (size_t i = 0; i < n * e; i++) {
        values[i] = (double)b->values[first * e + i];
        square += values[i] * values[i] / (double)n;
    }
    for (size_t i = 0; i < n * n; i++) {
        y[i] = (double)walk->scale * dot(keys + i / n * d, keys + i % n * d, d);
        max = y[i] > max ? y[i] : max;
    }
    for (size_t i = 0; i < n * n; i++)
        y[i] = exp(y[i] - max) * (dot(values + i / n * e, values + i % n * e, e) + square);
    for (size_t i = 0; i < n; i++)
        largest = y[i * n + i] > largest ? y[i * n + i] : largest;
    for (size_t i = 0; i < n; i++) {
        double product = 0;
        for (size_t j = 0; j < i; j++)
            product += (plus[j] ? 1 : -1) * y[i * n + j];
        plus[i] = coin(walk->seed, LANE_BALANCE, walk->token, i) < 0.5 - product / (2 * walk->constant * largest);
        if (n_plus == n / 2)
            plus[i] = false;
        else if (i - n_plus == n / 2)
            plus[i] = true;
        n_plus += plus[i];
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            length += (plus[i] == plus[j] ? 1 : -1) * y[i * n + j];
            squares += i == j ? y[i * n + j] : 0;
        }
    free(keys);
    free(values);
    free(y);
    return squares > 0 ? length / squares : 0;
}

/* A sign may differ only where a coin lies within rounding of its probability: 1e-5 of 256 x 4 coins, and none does. */
static void signs_are_those_of_the_plain_form(void)
{
    static const struct {
        size_t d, e, first, n;
    } cases[] = {{3, 2, 0, 2}, {3, 2, 5, 34}, {17, 5, 16, 100}, {40, 40, 3, 252}, {1, 1, 15, 16}, {8, 1, 0, 256}};
    const struct kernels *kernels[KERNELS_MAX];
    size_t n_kernels = kernels_runnable(kernels);
    for (size_t k = 0; k < n_kernels; k++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            for (size_t s = 0; s < N_ROW_STORAGE; s++) {
                bool plus[ROWS], expected[ROWS];
                size_t n = cases[i].n, n_plus = 0;
                struct block *b = block_of((enum storage_id)s, cases[i].d, cases[i].e, kernels[k]);
                struct walk walk = {kernels[k], &b->format, 1 / sqrtf((float)cases[i].d), 0.5, 7 * i + s, 1000};
                double imbalance = walk_signs(&walk, &b->rows, cases[i].first, n, plus);
                ASSERT_NEAR(imbalance, naive_signs(b, &walk, cases[i].first, n, expected), 1e-4);
                CU_ASSERT(memcmp(plus, expected, n * sizeof *plus) == 0);
                for (size_t j = 0; j < n; j++)
                    n_plus += plus[j];
                CU_ASSERT_EQUAL(n_plus, n / 2);
                block_free(b);
            }
}

/* Fair signs of half + and half - leave about the rows' spread around their mean, a constant share; the walk leaves what two or
 * three groups of 5 have over. */
static void the_walk_leaves_less_than_fair_coins(void)
{
    const struct kernels *kernels = kernels_best();
    struct block *b = block_of(STORAGE_F32, 8, 4, kernels);
    double walked = 0, fair = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        bool plus[ROWS];
        struct walk walk = {kernels, &b->format, 0.35F, 1, seed, 9};
        walked += walk_signs(&walk, &b->rows, 0, ROWS, plus) / 50;
        walk.constant = 1e6;
        fair += walk_signs(&walk, &b->rows, 0, ROWS, plus) / 50;
    }
    CU_ASSERT(walked < 0.25 * fair);
    block_free(b);
}

static void rows_of_zeros_are_halved_too(void)
{
    const struct kernels *kernels = kernels_best();
    struct block *b = block_of(STORAGE_F32, 3, 2, kernels);
    bool plus[ROWS];
    size_t n_plus = 0;
    memset(b->values, 0, sizeof b->values);
    rows_write(&b->rows, &b->format, kernels, 0, ROWS, b->keys, b->values);
    struct walk walk = {kernels, &b->format, 1, 1, 3, 4};
    CU_ASSERT(walk_signs(&walk, &b->rows, 0, 64, plus) == 0);
    for (size_t i = 0; i < 64; i++)
        n_plus += plus[i];
    CU_ASSERT_EQUAL(n_plus, 32);
    block_free(b);
}

/* ---- levels */

static struct halving next_of(const char *levels, size_t half)
{
    float log_weight[64];
    size_t n = strlen(levels);
    for (size_t i = 0; i < n; i++)
        log_weight[i] = level_log_weight((unsigned)(levels[i] - '0'));
    return levels_next(log_weight, n, half);
}

static void groups_are_taken_from_the_lowest_level_that_has_one(void)
{
    static const struct {
        const char *levels;
        size_t half, first, n;
        bool uneven;
    } cases[] = {
        {"00000000", 2, 0, 4, false},           /* the first time */
        {"00000000", 5, 0, 8, false},           /* no group of 10: all pairs */
        {"1100000", 2, 2, 4, false},            /* the two highest levels have groups of 4 */
        {"22111100", 2, 6, 2, false},           /* one less: of 2 */
        {"2211110", 2, 2, 4, false},            /* level 0 has none: level 1 */
        {"33222222222211100", 4, 15, 2, false}, /* groups of 2, 4, 8 and 8 at levels 0 to 3 */
        {"33222222222211110", 4, 12, 4, false},
        {"33222222222221110", 4, 2, 8, false},
        {"3332221110", 4, 6, 2, false},        /* no group: pairs of the lowest level that has one */
        {"9999999990000000", 32, 9, 6, false}, /* groups have 8 rows at least, an eighth of 2 x 32: all pairs */
        {"9999999900000000", 32, 8, 8, false},
        {"543210", 3, 4, 2, true}, /* nothing alike */
        {"52", 1, 0, 2, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct halving h = next_of(cases[i].levels, cases[i].half);
        CU_ASSERT(h.first == cases[i].first && h.n == cases[i].n && h.uneven == cases[i].uneven);
    }
}

/* 60 rows, a million tokens: room is found for ever, and rows of the two highest levels are most of them. */
static void levels_keep_room_for_ever(void)
{
    enum { N = 60, HALF = 4 };
    unsigned level[N] = {0};
    uint64_t came = N, steps = 0;
    size_t high = 0;
    bool ordered = true;
    for (; came < 1000000; steps++) {
        float log_weight[N];
        for (size_t i = 0; i < N; i++)
            log_weight[i] = level_log_weight(level[i]);
        struct halving h = levels_next(log_weight, N, HALF);
        if (h.n < 2 || h.first + h.n > N || h.uneven) {
            CU_FAIL("no group");
            break;
        }
        for (size_t i = 0; i < h.n / 2; i++)
            level[h.first + i]++;
        memmove(level + h.first + h.n / 2, level + h.first + h.n, (N - h.first - h.n) * sizeof *level);
        memset(level + N - h.n / 2, 0, h.n / 2 * sizeof *level);
        came += h.n / 2;
        for (size_t i = 1; i < N; i++)
            ordered = ordered && level[i] <= level[i - 1];
        for (size_t i = 0; i < N; i++)
            high += level[i] + 1 >= level[0];
    }
    CU_ASSERT(ordered);
    CU_ASSERT((double)high > 0.6 * N * (double)steps);
}

TEST_SUITE("lib/cache/balance_walk", TEST(signs_are_those_of_the_plain_form), TEST(the_walk_leaves_less_than_fair_coins),
           TEST(rows_of_zeros_are_halved_too), TEST(groups_are_taken_from_the_lowest_level_that_has_one),
           TEST(levels_keep_room_for_ever))
