#include "attention/partial.h"
#include "tests/lib/kernels/isas.h"
#include "tests/lib/kernels/numbers.h"
#include "tests/test.h"

#include <math.h>

enum { E = 13, SIZE = PARTIAL_HEAD + E };

/* A partial with maxima up to 50 apart. */
static void fill(struct numbers *r, float *p)
{
    numbers_fill(r, p, SIZE, 1);
    p[PARTIAL_MAX_NUM] *= 25;
    p[PARTIAL_MAX_DEN] *= 25;
    p[PARTIAL_SUM] = 1 + fabsf(p[PARTIAL_SUM]);
}

/* What a partial stands for: its sums without a shift. */
static void stands_for(const float *p, double *x)
{
    x[0] = p[PARTIAL_SUM] * exp(p[PARTIAL_MAX_DEN]);
    for (size_t c = 0; c < E; c++)
        x[1 + c] = p[PARTIAL_HEAD + c] * exp(p[PARTIAL_MAX_NUM]);
}

static void merging_adds_what_the_partials_stand_for(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n = test_isas(isa);
    struct numbers r = {20};
    for (size_t i = 0; i < n; i++)
        for (size_t round = 0; round < 50; round++) {
            float a[SIZE], b[SIZE];
            double x[1 + E], y[1 + E], z[1 + E];
            fill(&r, a);
            fill(&r, b);
            stands_for(a, x);
            stands_for(b, y);
            partial_merge(isa[i], a, b, E);
            stands_for(a, z);
            for (size_t c = 0; c < 1 + E; c++)
                ASSERT_NEAR(z[c], x[c] + y[c], 5e-7 * (fabs(x[c]) + fabs(y[c])));
        }
}

static void merging_is_associative_up_to_rounding(void)
{
    const struct kernels *k = kernels_best();
    struct numbers r = {21};
    for (size_t round = 0; round < 50; round++) {
        float a[SIZE], b[SIZE], c[SIZE], left[SIZE], right[SIZE], out[2][E], lse[2];
        fill(&r, a);
        fill(&r, b);
        fill(&r, c);
        memcpy(left, a, sizeof left);
        partial_merge(k, left, b, E);
        partial_merge(k, left, c, E);
        partial_merge(k, b, c, E);
        memcpy(right, a, sizeof right);
        partial_merge(k, right, b, E);
        partial_finish(k, left, E, out[0], &lse[0]);
        partial_finish(k, right, E, out[1], &lse[1]);
        ASSERT_NEAR(lse[0], lse[1], 3e-6);
        for (size_t i = 0; i < E; i++) /* terms may cancel: relative to the largest that the sum can have */
            ASSERT_NEAR(out[0][i], out[1][i], 1e-6 * 3 * exp(left[PARTIAL_MAX_NUM] - left[PARTIAL_MAX_DEN]));
    }
}

static void empty_is_neutral_on_both_sides_to_the_bit(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n = test_isas(isa);
    struct numbers r = {22};
    for (size_t i = 0; i < n; i++) {
        float a[SIZE], kept[SIZE], empty[SIZE];
        fill(&r, a);
        memcpy(kept, a, sizeof a);
        partial_clear(empty, E);
        partial_merge(isa[i], a, empty, E);
        CU_ASSERT(memcmp(a, kept, sizeof a) == 0);
        partial_merge(isa[i], empty, a, E);
        CU_ASSERT(memcmp(empty, kept, sizeof a) == 0);
    }
}

static void two_empty_ones_merge_to_empty_and_finish_as_nothing(void)
{
    const struct kernels *k = kernels_best();
    float a[SIZE], b[SIZE], out[E], lse;
    partial_clear(a, E);
    partial_clear(b, E);
    partial_merge(k, a, b, E);
    CU_ASSERT(memcmp(a, b, sizeof a) == 0);
    partial_finish(k, a, E, out, &lse);
    CU_ASSERT_EQUAL(lse, -INFINITY);
    for (size_t c = 0; c < E; c++)
        CU_ASSERT_EQUAL(out[c], 0);
    partial_finish(k, a, E, out, NULL);
}

static void a_sink_is_one_more_row_of_the_denominator(void)
{
    const struct kernels *k = kernels_best();
    for (int logit = -60; logit <= 60; logit += 20) {
        float a[SIZE] = {1, 2, 3}, out[E], lse;
        a[PARTIAL_HEAD] = 5;
        partial_add_logit(a, (float)logit);
        partial_finish(k, a, E, out, &lse);
        double sum = 3 * exp(2) + exp(logit);
        ASSERT_NEAR(lse, log(sum), 1e-5);
        ASSERT_NEAR(out[0], 5 * exp(1) / sum, 1e-6 * 5 * exp(1) / sum);
    }
    float empty[SIZE], out[E], lse;
    partial_clear(empty, E);
    partial_add_logit(empty, -INFINITY);
    CU_ASSERT(empty[PARTIAL_MAX_DEN] == -INFINITY && empty[PARTIAL_SUM] == 0);
    partial_add_logit(empty, 1.5f);
    partial_finish(k, empty, E, out, &lse);
    CU_ASSERT_EQUAL(lse, 1.5f);
    CU_ASSERT_EQUAL(out[0], 0);
}

static void far_apart_maxima_give_0_or_the_largest_float_but_no_nan(void)
{
    const struct kernels *k = kernels_best();
    float a[SIZE] = {300, -300, 1}, out[E];
    a[PARTIAL_HEAD] = 0.5f;
    partial_finish(k, a, E, out, NULL);
    CU_ASSERT(out[0] > 1e38f && out[1] == 0);
    a[PARTIAL_MAX_NUM] = -900;
    partial_finish(k, a, E, out, NULL);
    CU_ASSERT(out[0] == 0);
}

TEST_SUITE("lib/attention/partial", TEST(merging_adds_what_the_partials_stand_for), TEST(merging_is_associative_up_to_rounding),
           TEST(empty_is_neutral_on_both_sides_to_the_bit), TEST(two_empty_ones_merge_to_empty_and_finish_as_nothing),
           TEST(a_sink_is_one_more_row_of_the_denominator), TEST(far_apart_maxima_give_0_or_the_largest_float_but_no_nan))
