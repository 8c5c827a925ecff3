#include "tests/test.h"

#include "base/coins.h"
#include "tools/lm/divergence.h"

#include <float.h>
#include <math.h>

enum { N = 50 };

/* By the definition, in long double, from normalised probabilities. Logits of at most 40 need no shift. */
static double kl_by_definition(const float *full, const float *other, size_t n)
{
    long double p = 0, q = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        p += expl(full[i]);
        q += expl(other[i]);
    }
    for (size_t i = 0; i < n; i++)
        sum += expl(full[i]) / p * logl(expl(full[i]) / p / (expl(other[i]) / q));
    return (double)sum;
}

static void fill(float *x, size_t n, double range, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((2 * coin(seed, 0, i, 0) - 1) * range);
}

static void two_tokens_have_the_divergence_that_paper_gives(void)
{
    const float half[] = {0, 0}, quarter[] = {logf(3), 0};
    ASSERT_NEAR(lm_kl(half, quarter, 2), 0.5 * log(4.0 / 3), 1e-7); /* .5 log(.5/.75) + .5 log(.5/.25) */
    ASSERT_NEAR(lm_kl(quarter, half, 2), 0.75 * log(1.5) + 0.25 * log(0.5), 1e-7);
}

static void divergence_follows_its_definition(void)
{
    for (unsigned seed = 0; seed < 20; seed++) {
        float full[N], other[N];
        fill(full, N, 40, 2 * seed);
        fill(other, N, seed + 1, 2 * seed + 1);
        const double expected = kl_by_definition(full, other, N);
        CU_ASSERT(expected > 0.01);
        ASSERT_NEAR(lm_kl(full, other, N), expected, 1e-12 * expected);
    }
}

static void equal_distributions_diverge_by_nothing_and_none_by_less(void)
{
    float full[N], other[N];
    fill(full, N, 30, 1);
    CU_ASSERT_EQUAL(lm_kl(full, full, N), 0);
    for (unsigned k = 0; k < 50; k++) {
        for (size_t i = 0; i < N; i++)
            other[i] = full[i] + (coin(k, 1, i, 0) < 0.5 ? 1e-6F : 0);
        CU_ASSERT(lm_kl(full, other, N) >= 0);
    }
    for (size_t i = 0; i < N; i++) { /* all of them moved: the same distribution; the numbers are multiples of 2^-10 */
        full[i] = rintf(full[i] * 1024) / 1024;
        other[i] = full[i] + 64;
    }
    ASSERT_NEAR(lm_kl(full, other, N), 0, 1e-12);
}

static void logits_far_apart_stay_finite(void)
{
    const float full[] = {1e4F, 0, -1e4F}, other[] = {-1e4F, 0, 1e4F};
    ASSERT_NEAR(lm_kl(full, other, 3), 2e4, 1e-6); /* all of p is on one token, log q of it is -2e4 */
    CU_ASSERT(isfinite(lm_kl((const float[]){FLT_MAX, -FLT_MAX}, (const float[]){-FLT_MAX, FLT_MAX}, 2)));
}

static void a_summary_is_over_all_positions(void)
{
    static const float full[4][3] = {{0, 0, 0}, {0, 2, 1}, {5, 5, 1}, {0, 1, 2}};
    static const float other[4][3] = {{0, 0, 0}, {1, 0, 2}, {5, 4, 1}, {0, 4, 2}};
    struct lm_divergence *d;
    struct lm_divergence_summary s;
    double kl[4];
    CU_ASSERT_EQUAL_FATAL(lm_divergence_create(&d, 4, NULL), 0);
    for (size_t i = 0; i < 4; i++) {
        kl[i] = kl_by_definition(full[i], other[i], 3);
        lm_divergence_add(d, full[i], other[i], 3);
    }
    lm_divergence_summary(d, &s);
    CU_ASSERT(kl[0] < kl[2] && kl[2] < kl[1] && kl[1] < kl[3]); /* what the quantiles below are of */
    ASSERT_NEAR(s.kl_mean, (kl[0] + kl[1] + kl[2] + kl[3]) / 4, 1e-12);
    ASSERT_NEAR(s.kl_p50, (kl[2] + kl[1]) / 2, 1e-12);
    ASSERT_NEAR(s.kl_p999, kl[3] - 0.003 * (kl[3] - kl[1]), 1e-12); /* at 0.999 * 3 = 2.997 of the sorted ones */
    CU_ASSERT_EQUAL(s.same_top, 0.5); /* 0 with 0 and, the first of equals, 0 with 0; 1 is not 2 and 2 is not 1 */
    lm_divergence_destroy(d);
}

static void more_positions_than_memory_are_refused(void)
{
    struct lm_divergence *d;
    struct fault fault;
    CU_ASSERT_EQUAL(lm_divergence_create(&d, SIZE_MAX / 8, &fault), ERR_NO_MEMORY);
    CU_ASSERT_PTR_NULL(d);
    lm_divergence_destroy(NULL);
}

TEST_SUITE("tools/lm/divergence", TEST(two_tokens_have_the_divergence_that_paper_gives),
           TEST(divergence_follows_its_definition), TEST(equal_distributions_diverge_by_nothing_and_none_by_less),
           TEST(logits_far_apart_stay_finite), TEST(a_summary_is_over_all_positions),
           TEST(more_positions_than_memory_are_refused))
