#include "isas.h"
#include "numbers.h"
#include "tests/test.h"

#include <math.h>

enum { SIZE = 67, ROOM = SIZE + 2 };
static const float CANARY = -77;

struct tile {
    float s[ROOM], log_w[ROOM];
    size_t lo, hi, n;
    bool weighted;
    float max, sum;
};

/* One of the tables against scalar. Weights: exp differs by 2 ulp on one side and 4 on the other (kernels/vector_math.h): 6e-7;
 * what is below 2.7e-38 may be 0. */
static void compare(const struct kernels *scalar, const struct kernels *k, const struct tile *t)
{
    struct tile a = *t, b = *t;
    float *log_a = t->weighted ? a.log_w + 1 : NULL, *log_b = t->weighted ? b.log_w + 1 : NULL;
    float fa = scalar->weigh(a.s + 1, t->lo, t->hi, t->n, log_a, &a.max, &a.sum);
    float fb = k->weigh(b.s + 1, t->lo, t->hi, t->n, log_b, &b.max, &b.sum);
    CU_ASSERT_EQUAL(a.max, b.max);
    ASSERT_NEAR(fb, fa, 6e-7 * fa);
    ASSERT_NEAR(b.sum, a.sum, 2e-6 * a.sum);
    for (size_t j = 1; j <= t->n; j++)
        ASSERT_NEAR(b.s[j], a.s[j], 6e-7 * a.s[j] + 2.8e-38);
    CU_ASSERT(b.s[0] == CANARY && b.s[t->n + 1] == CANARY);
    CU_ASSERT(memcmp(b.log_w, t->log_w, sizeof b.log_w) == 0);
}

static void fill(struct tile *t, struct numbers *r, size_t n, float scale)
{
    memset(t, 0, sizeof *t);
    numbers_fill(r, t->s, ROOM, scale);
    numbers_fill(r, t->log_w, ROOM, 3);
    t->n = n;
    t->lo = numbers_below(r, n + 1);
    t->hi = t->lo + numbers_below(r, n - t->lo + 1);
    if (numbers_below(r, 3) == 0) {
        t->lo = 0;
        t->hi = n;
    }
    t->weighted = numbers_below(r, 2);
    if (numbers_below(r, 2)) {
        t->max = numbers_unit(r) * scale;
        t->sum = 1.5f;
    } else {
        t->max = -INFINITY;
    }
    t->s[0] = t->s[n + 1] = CANARY;
}

static void every_table_agrees_with_scalar_over_sizes_ranges_and_weights(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {1};
    for (size_t n = 0; n <= SIZE; n++)
        for (size_t round = 0; round < 12; round++) {
            struct tile t;
            fill(&t, &r, n, round % 2 ? 30 : 1);
            for (size_t i = 1; i < n_isas; i++)
                compare(isa[0], isa[i], &t);
        }
}

static void extreme_scores_and_rows_left_out_stay_finite(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {2};
    for (size_t n = 1; n <= SIZE; n++) {
        struct tile t;
        fill(&t, &r, n, 1e4f);
        for (size_t j = 1; j <= n; j++)
            if (numbers_below(&r, 3) == 0) {
                t.s[j] = numbers_below(&r, 2) ? -INFINITY : t.s[j];
                t.log_w[j] = numbers_below(&r, 2) ? -INFINITY : t.log_w[j];
            }
        for (size_t i = 0; i < n_isas; i++) {
            compare(isa[0], isa[i], &t);
            struct tile u = t;
            float f = isa[i]->weigh(u.s + 1, u.lo, u.hi, u.n, u.weighted ? u.log_w + 1 : NULL, &u.max, &u.sum);
            CU_ASSERT(isfinite(f) && isfinite(u.sum));
            for (size_t j = 1; j <= n; j++)
                CU_ASSERT(isfinite(u.s[j]));
        }
    }
}

static void all_rows_left_out_changes_nothing_and_weighs_0(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    for (size_t i = 0; i < n_isas; i++)
        for (size_t n = 0; n <= SIZE; n++)
            for (size_t how = 0; how < 4; how++) {
                float s[SIZE], log_w[SIZE], max = how & 1 ? 2.5f : -INFINITY, sum = how & 1 ? 1.25f : 0, before = max,
                                            total = sum;
                for (size_t j = 0; j < n; j++) {
                    s[j] = how & 2 ? 5 : -INFINITY;
                    log_w[j] = how & 2 ? -INFINITY : 1;
                }
                float f = isa[i]->weigh(s, 0, n, n, log_w, &max, &sum);
                CU_ASSERT_EQUAL(f, how & 1 ? 1 : 0);
                CU_ASSERT(max == before && sum == total);
                for (size_t j = 0; j < n; j++)
                    CU_ASSERT_EQUAL(s[j], 0);
            }
}

static void a_larger_maximum_rebases_the_sum_and_a_smaller_one_leaves_it(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    for (size_t i = 0; i < n_isas; i++) {
        float s[3] = {1, 3, 2}, max = 2, sum = 4;
        ASSERT_NEAR(isa[i]->weigh(s, 0, 3, 3, NULL, &max, &sum), exp(-1), 1e-7);
        CU_ASSERT_EQUAL(max, 3);
        ASSERT_NEAR(sum, 4 * exp(-1) + exp(-2) + 1 + exp(-1), 1e-6);
        float t[3] = {1, 0, 2};
        CU_ASSERT_EQUAL(isa[i]->weigh(t, 0, 3, 3, NULL, &max, &sum), 1);
        CU_ASSERT_EQUAL(max, 3);
    }
}

TEST_SUITE("lib/kernels/weigh", TEST(every_table_agrees_with_scalar_over_sizes_ranges_and_weights),
           TEST(extreme_scores_and_rows_left_out_stay_finite), TEST(all_rows_left_out_changes_nothing_and_weighs_0),
           TEST(a_larger_maximum_rebases_the_sum_and_a_smaller_one_leaves_it))
