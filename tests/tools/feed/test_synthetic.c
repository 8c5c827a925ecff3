/* Synthetic streams: the header's formulas, and what they are for. */
#include "tests/test.h"

#include "base/coins.h"
#include "tools/feed/synthetic.h"

#include <math.h>
#include <stdbool.h>

enum { D = 64, E = 32, H = 4, G = 2, N = 512 };

static struct shape shape_of(enum attention_kind kind)
{
    return (struct shape){
        .n_layers = 2, .kind = {kind, kind}, .heads = H, .kv_heads = G, .key_dim = D, .value_dim = E, .scale = 0.125F};
}

static struct synthetic stream_of(enum synthetic_kind kind)
{
    return (struct synthetic){.kind = kind, .seed = 5, .period = N, .clusters = 8, .spread = 0.25, .hitters = 1.0 / 64};
}

/* The header's G, written down again. */
static double g_of(uint64_t seed, uint64_t layer, uint64_t lane, uint64_t token, uint64_t i)
{
    uint64_t w = mix(mix(mix(mix(mix(seed) ^ layer) ^ lane) ^ token) + i);
    double sum = 0;
    for (int quarter = 0; quarter < 4; quarter++)
        sum += (double)(w >> 16 * quarter & 0xffff);
    return sqrt(3) / 65536 * (sum - 131070);
}

static void isotropic_numbers_are_the_formula_and_normal(void)
{
    struct shape shape = shape_of(ATTENTION_SOFTMAX);
    struct synthetic s = stream_of(SYNTHETIC_ISOTROPIC);
    float q[H * D];
    double sum = 0, squares = 0, fourth = 0;
    for (uint64_t t = 0; t < N; t++) {
        synthetic_fill(&s, &shape, 1, t, 0, q);
        for (size_t i = 0; i < H * D; i++) {
            double x = (double)q[i];
            ASSERT_NEAR(x, g_of(5, 1, 0, t, i), 1e-5);
            sum += x;
            squares += x * x;
            fourth += x * x * x * x;
        }
    }
    /* n = 131,072 numbers: mean within 5 / sqrt(n), variance within 5 sqrt(1.7 / n). Kurtosis of four uniforms: 3 - 1.2 / 4. */
    double n = (double)N * H * D;
    ASSERT_NEAR(sum / n, 0, 0.014);
    ASSERT_NEAR(squares / n, 1, 0.018);
    ASSERT_NEAR(fourth / n, 2.7, 0.1);
}

static double distance(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum);
}

/* How many tokens' keys of kv head 0 lie within `radius` of token t's. */
static size_t neighbours(const struct synthetic *s, uint64_t t, double radius)
{
    struct shape shape = shape_of(ATTENTION_SOFTMAX);
    float here[G * D], there[G * D];
    size_t n = 0;
    synthetic_fill(s, &shape, 0, t, 1, here);
    for (uint64_t i = 0; i < N; i++) {
        synthetic_fill(s, &shape, 0, i, 1, there);
        n += distance(here, there, D) < radius;
    }
    return n;
}

static void clustered_keys_lie_around_few_centres(void)
{
    /* Members differ by spread sqrt(2 d) = 2.8 on average, centres by sqrt(2 d) = 11.3. */
    struct synthetic s = stream_of(SYNTHETIC_CLUSTERED);
    size_t near = neighbours(&s, 3, 5);
    CU_ASSERT(near > N / 8 / 2 && near < N / 8 * 2);
    CU_ASSERT_EQUAL(neighbours(&s, 3, 30), N);
    s.kind = SYNTHETIC_ISOTROPIC;
    CU_ASSERT_EQUAL(neighbours(&s, 3, 5), 1);
}

static void drifting_clusters_forget_their_old_keys(void)
{
    struct shape shape = shape_of(ATTENTION_SOFTMAX);
    struct synthetic s = stream_of(SYNTHETIC_DRIFTING);
    float now[G * D], later[G * D];
    s.clusters = 1;
    s.spread = 0;
    synthetic_fill(&s, &shape, 0, 0, 1, now);
    double norm2 = 0, same = 0, quarter = 0, opposite = 0;
    for (size_t i = 0; i < D; i++)
        norm2 += (double)now[i] * (double)now[i];
    synthetic_fill(&s, &shape, 0, 1, 1, later);
    for (size_t i = 0; i < D; i++)
        same += (double)now[i] * (double)later[i];
    synthetic_fill(&s, &shape, 0, N / 4, 1, later);
    for (size_t i = 0; i < D; i++)
        quarter += (double)now[i] * (double)later[i];
    synthetic_fill(&s, &shape, 0, N / 2, 1, later);
    for (size_t i = 0; i < D; i++)
        opposite += (double)now[i] * (double)later[i];
    ASSERT_NEAR(same / norm2, 1, 0.02);
    ASSERT_NEAR(quarter / norm2, 0, 0.5); /* two random vectors of 64 numbers: within 4 / 8 */
    ASSERT_NEAR(opposite / norm2, -1, 1e-5);
}

/* Mean score of a query of the last token against the keys, hitters and others apart. */
static void heavy_hitters_score_six_nats_higher(void)
{
    struct shape shape = shape_of(ATTENTION_SOFTMAX);
    struct synthetic s = stream_of(SYNTHETIC_HEAVY);
    float q[H * D], key[G * D], plain[G * D];
    double hitter = 0, other = 0;
    size_t n_hitters = 0, n = 0;
    s.hitters = 0.25; /* many, for the mean */
    for (uint64_t t = 0; t < N; t++) {
        struct synthetic same = s;
        same.hitters = 0;
        synthetic_fill(&s, &shape, 0, t, 1, key);
        synthetic_fill(&same, &shape, 0, t, 1, plain);
        bool hits = t == 0 || distance(key, plain, D) > 0;
        for (uint64_t asks = 0; asks < 8; asks++, n++) {
            double score = 0;
            synthetic_fill(&s, &shape, 0, N - 1 - asks, 0, q);
            for (size_t i = 0; i < D; i++)
                score += (double)shape.scale * (double)q[i] * (double)key[i];
            hitter += hits ? score : 0;
            other += hits ? 0 : score;
            n_hitters += hits;
        }
    }
    CU_ASSERT(n_hitters > n / 6 && n_hitters < n / 3);
    /* 6 |M|^2 / d, whose standard deviation over M is 6 sqrt(1.7 / 64) = 1, beside the mean of the others, which is within 0.4 */
    ASSERT_NEAR(hitter / (double)n_hitters - other / (double)(n - n_hitters), 6, 4);
}

static void tensors_and_layers_have_numbers_of_their_own(void)
{
    struct shape shape = shape_of(ATTENTION_TENSOR);
    for (int kind = 0; kind < N_SYNTHETIC; kind++) {
        struct synthetic s = stream_of((enum synthetic_kind)kind);
        float a[G * D], b[G * D];
        synthetic_fill(&s, &shape, 0, 7, 1, a);
        synthetic_fill(&s, &shape, 0, 7, 3, b);
        CU_ASSERT(distance(a, b, D) > 1);
        synthetic_fill(&s, &shape, 1, 7, 1, b);
        CU_ASSERT(distance(a, b, D) > 1);
        synthetic_fill(&s, &shape, 0, 7, 1, b);
        CU_ASSERT_EQUAL(distance(a, b, D), 0);
        CU_ASSERT_EQUAL(synthetic_from_name(synthetic_name((enum synthetic_kind)kind)), kind);
    }
    CU_ASSERT_EQUAL(synthetic_from_name("white"), ERR_INVALID);
}

TEST_SUITE("tools/feed/synthetic", TEST(isotropic_numbers_are_the_formula_and_normal),
           TEST(clustered_keys_lie_around_few_centres), TEST(drifting_clusters_forget_their_old_keys),
           TEST(heavy_hitters_score_six_nats_higher), TEST(tensors_and_layers_have_numbers_of_their_own))
