#include "tests/test.h"

#include "tests/tools/support.h"
#include "tools/lm/ops.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Sizes around the tiles' borders, and one large enough for several threads. */
static void products_match_float64_at_every_size(void)
{
    static const size_t size[][3] = {{1, 1, 1},    {1, 7, 513},    {2, 33, 5},     {63, 8, 512},
                                     {64, 9, 511}, {65, 16, 1030}, {1, 300, 9000}, {130, 90, 700}};
    struct lm_team *team;
    lm_ops_start();
    CU_ASSERT_EQUAL_FATAL(lm_team_create(&team, 3, NULL), 0);
    for (size_t k = 0; k < sizeof size / sizeof *size; k++) {
        const size_t n = size[k][0], n_in = size[k][1], n_out = size[k][2];
        float *x = support_array(n * n_in, sizeof *x), *w = support_array(n_in * n_out, sizeof *w);
        float *y = support_array(n * n_out, sizeof *y), *bias = support_array(n_out, sizeof *bias);
        support_fill(x, n * n_in, 1, 1);
        support_fill(w, n_in * n_out, 1, 2);
        support_fill(bias, n_out, 1, 3);
        for (int with_bias = 0; with_bias < 2; with_bias++) {
            const struct lm_linear linear = {n_in, n_out, w, with_bias ? bias : NULL};
            double worst = 0;
            lm_product(with_bias ? team : NULL, &linear, x, n, y);
            for (size_t t = 0; t < n; t++)
                for (size_t o = 0; o < n_out; o++) {
                    double sum = with_bias ? bias[o] : 0;
                    for (size_t i = 0; i < n_in; i++)
                        sum += (double)x[t * n_in + i] * w[o * n_in + i];
                    worst = fmax(worst, fabs(sum - y[t * n_out + o]));
                }
            ASSERT_NEAR(worst, 0, 1e-5); /* numbers up to 1, at most 300 of them: rounding stays under 300 * 2^-24 */
        }
        free(x);
        free(w);
        free(y);
        free(bias);
    }
    lm_team_destroy(team);
}

static void products_have_the_same_bits_for_every_number_of_threads(void)
{
    enum { TOKENS = 200, IN = 96, OUT = 1100 };
    static float x[TOKENS * IN], w[OUT * IN], alone[TOKENS * OUT], shared[TOKENS * OUT];
    const struct lm_linear linear = {IN, OUT, w, NULL};
    support_fill(x, sizeof x / sizeof *x, 1, 1);
    support_fill(w, sizeof w / sizeof *w, 1, 2);
    lm_ops_start();
    lm_product(NULL, &linear, x, TOKENS, alone);
    for (size_t n_threads = 1; n_threads <= 4; n_threads++) {
        struct lm_team *team;
        CU_ASSERT_EQUAL_FATAL(lm_team_create(&team, n_threads, NULL), 0);
        lm_product(team, &linear, x, TOKENS, shared);
        CU_ASSERT(support_same(alone, shared, sizeof shared / sizeof *shared));
        lm_team_destroy(team);
    }
}

static void count_item(void *context, size_t i)
{
    atomic_uint *count = context;
    atomic_fetch_add(&count[i], 1);
}

static void a_team_does_each_item_once_job_after_job(void)
{
    atomic_uint count[50];
    struct lm_team *team;
    CU_ASSERT_EQUAL_FATAL(lm_team_create(&team, 4, NULL), 0);
    for (unsigned job = 1; job <= 300; job++) {
        const size_t n = job % 50;
        for (size_t i = 0; i < 50; i++)
            atomic_init(&count[i], 0);
        lm_team_run(team, n, count_item, count);
        for (size_t i = 0; i < 50; i++)
            CU_ASSERT_EQUAL(atomic_load(&count[i]), i < n);
    }
    lm_team_destroy(team);
}

static void a_norm_divides_by_the_root_of_the_mean_square(void)
{
    float x[6] = {3, 4, 0, 0, 1, -1};
    const float gain[3] = {1, 2, -1};
    lm_rms_norm(x, 2, 3, gain, 0.5, x); /* in place */
    const double first = sqrt(25.0 / 3 + 0.5), second = sqrt(2.0 / 3 + 0.5);
    const double expected[6] = {3 / first, 8 / first, 0, 0, 2 / second, 1 / second};
    CU_ASSERT(test_relative_error(x, expected, 6) < 1e-7);
}

static void a_norm_of_zeros_is_zero(void)
{
    float x[2] = {0, 0}, gain[2] = {1, 1};
    lm_rms_norm(x, 1, 2, gain, 1e-6, x);
    CU_ASSERT(x[0] == 0 && x[1] == 0);
}

static void rotary_turns_the_halves_against_each_other(void)
{
    const struct lm_config config = {.head_dim = 4, .rope_theta = 100};
    float cosine[4], sine[4], x[16];
    for (size_t i = 0; i < 16; i++)
        x[i] = (float)(i + 1);
    lm_rotary_table(&config, 5, 2, cosine, sine);
    lm_rotary_turn(cosine, sine, 2, 2, 4, x);
    for (size_t t = 0; t < 2; t++)
        for (size_t h = 0; h < 2; h++)
            for (size_t c = 0; c < 2; c++) {
                const double angle = (double)(5 + t) * (c == 0 ? 1 : 0.1), a = (double)(t * 8 + h * 4 + c + 1), b = a + 2;
                ASSERT_NEAR(x[t * 8 + h * 4 + c], a * cos(angle) - b * sin(angle), 1e-5);
                ASSERT_NEAR(x[t * 8 + h * 4 + c + 2], b * cos(angle) + a * sin(angle), 1e-5);
            }
}

/* Scores of rotated rows depend on the distance of their positions only, also far from the beginning: angles formed in f32
 * would be off by 1e-2 at position 100,000. */
static void rotary_keeps_scores_of_equal_distance(void)
{
    const struct lm_config config = {.head_dim = 8, .rope_theta = 10000};
    double score[2];
    for (size_t k = 0; k < 2; k++) {
        const size_t position = k ? 100000 : 0;
        float x[2][8] = {{1, 2, 3, 4, 5, 6, 7, 8}, {2, -1, 0, 1, 3, -2, 1, 1}}, cosine[4], sine[4];
        for (size_t i = 0; i < 2; i++) {
            lm_rotary_table(&config, position + 3 * i, 1, cosine, sine);
            lm_rotary_turn(cosine, sine, 1, 1, 8, x[i]);
        }
        score[k] = 0;
        for (size_t c = 0; c < 8; c++)
            score[k] += (double)x[0][c] * x[1][c];
    }
    ASSERT_NEAR(score[0], score[1], 1e-4);
}

/* Frequencies of Llama 3.1 8B (theta 500000, d 128, factor 8, low 1, high 4, context 8192), worked out from the definition. */
static void llama3_scaling_leaves_short_waves_and_slows_long_ones(void)
{
    const struct lm_config config = {.head_dim = 128,
                                     .rope_theta = 500000,
                                     .rope = LM_ROPE_LLAMA3,
                                     .rope_factor = 8,
                                     .rope_low = 1,
                                     .rope_high = 4,
                                     .rope_context = 8192};
    size_t whole = 0, slowed = 0, between = 0;
    for (size_t c = 0; c < 64; c++) {
        const double plain = pow(500000, -(double)c / 64), wavelength = 2 * M_PI / plain, f = lm_rotary_frequency(&config, c);
        if (wavelength < 8192 / 4.0) {
            ASSERT_NEAR(f, plain, 0);
            whole++;
        } else if (wavelength > 8192) {
            ASSERT_NEAR(f, plain / 8, 0);
            slowed++;
        } else {
            CU_ASSERT(f > plain / 8 && f < plain);
            between++;
        }
    }
    CU_ASSERT(whole == 29 && between == 6 && slowed == 29);
}

static void silu_gates_without_overflow(void)
{
    float gate[5] = {0, 1, -1, 200, -200};
    const float up[5] = {3, 2, 2, 1, 1};
    lm_silu_gate(gate, up, 5);
    ASSERT_NEAR(gate[0], 0, 0);
    ASSERT_NEAR(gate[1], 2 / (1 + exp(-1)), 1e-6);
    ASSERT_NEAR(gate[2], -2 / (1 + exp(1)), 1e-6);
    ASSERT_NEAR(gate[3], 200, 0);
    ASSERT_NEAR(gate[4], 0, 1e-30);
}

TEST_SUITE("tools/lm/ops", TEST(products_match_float64_at_every_size),
           TEST(products_have_the_same_bits_for_every_number_of_threads), TEST(a_team_does_each_item_once_job_after_job),
           TEST(a_norm_divides_by_the_root_of_the_mean_square), TEST(a_norm_of_zeros_is_zero),
           TEST(rotary_turns_the_halves_against_each_other), TEST(rotary_keeps_scores_of_equal_distance),
           TEST(llama3_scaling_leaves_short_waves_and_slows_long_ones), TEST(silu_gates_without_overflow))
