/* The three steps in bf16 against scalar: pairs and products to the bit (a product of two bf16 is exact in f32, so that fused or not
 * there is one result), weights within one step of a bf16. */
#include "isas.h"
#include "kernels/element.h"
#include "numbers.h"
#include "tests/test.h"

#include <math.h>

enum { SIZE = 67, PANELS = 5, UNIT = PANELS * PANEL };
static const uint32_t CANARY = 0xdeadbeef;

static void pairs_of_rows_have_the_bits_of_scalar(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {1};
    float rows[SIZE * SIZE];
    uint32_t *one = numbers_block(SIZE * UNIT * 4), *other = numbers_block(SIZE * UNIT * 4);
    for (size_t n = 0; n <= SIZE; n++) {
        size_t width = n < 2 ? n + 17 : numbers_below(&r, SIZE + 1), n_pairs = (n + 1) / 2,
               panels = (width + PANEL - 1) / PANEL;
        numbers_fill(&r, rows, n * width, n % 2 ? 1e30f : 1);
        isa[0]->pair_rows(rows, n, width, one);
        for (size_t u = 0; u < n_pairs; u++)
            for (size_t c = 0; c < width; c++) {
                uint32_t unit = one[(c / PANEL * n_pairs + u) * PANEL + c % PANEL];
                CU_ASSERT_EQUAL(unit & 0xffff, bf16_of_f32(rows[2 * u * width + c]));
                CU_ASSERT_EQUAL(unit >> 16, 2 * u + 1 < n ? bf16_of_f32(rows[(2 * u + 1) * width + c]) : 0);
            }
        for (size_t i = 1; i < n_isas; i++) {
            bool same = true;
            for (size_t x = 0; x < SIZE * UNIT; x++)
                other[x] = CANARY;
            isa[i]->pair_rows(rows, n, width, other);
            for (size_t p = 0; p < panels; p++)
                for (size_t x = 0; x < n_pairs * PANEL; x++)
                    same &= p * PANEL + x % PANEL >= width || one[p * n_pairs * PANEL + x] == other[p * n_pairs * PANEL + x];
            CU_ASSERT(same);
            CU_ASSERT_EQUAL(other[panels * n_pairs * PANEL], CANARY);
        }
    }
    free(one);
    free(other);
}

/* n_q queries of n_pairs pairs against n columns. */
static void check_product(const struct kernels *const isa[], size_t n_isas, size_t n_q, size_t n_pairs, size_t n,
                          struct numbers *r)
{
    size_t panels = (n + PANEL - 1) / PANEL * PANEL, lda = n_pairs + numbers_below(r, 4), ldo = panels + numbers_below(r, 5);
    size_t n_out = n_q * ldo + 1;
    uint32_t *a = numbers_block(n_q * lda * 4), *b = numbers_block(panels * n_pairs * 4);
    float *f = numbers_block(n_q * 4), *before = numbers_block(n_out * 4), *one = numbers_block(n_out * 4),
          *other = numbers_block(n_out * 4);
    for (size_t x = 0; x < n_q * lda; x++)
        a[x] = bf16_of_f32(numbers_unit(r)) | (uint32_t)bf16_of_f32(numbers_unit(r)) << 16;
    for (size_t x = 0; x < panels * n_pairs; x++)
        b[x] = bf16_of_f32(numbers_unit(r)) | (uint32_t)bf16_of_f32(numbers_unit(r)) << 16;
    numbers_fill(r, before, n_out, 1);
    bool overwrite = numbers_below(r, 3) == 0;
    for (size_t i = 0; i < n_q; i++) {
        f[i] = numbers_below(r, 3) ? (numbers_below(r, 2) ? 1 : 0.3f) : 0;
        for (size_t j = 0; j < panels && (overwrite || f[i] == 0); j++)
            before[i * ldo + j] = NAN;
    }
    memcpy(one, before, n_out * 4);
    isa[0]->product_bf16(a, lda, n_q, b, n_pairs, n, overwrite ? NULL : f, one, ldo);
    for (size_t k = 1; k < n_isas; k++) {
        bool same = true;
        memcpy(other, before, n_out * 4);
        isa[k]->product_bf16(a, lda, n_q, b, n_pairs, n, overwrite ? NULL : f, other, ldo);
        for (size_t i = 0; i < n_q; i++) {
            same &= memcmp(one + i * ldo, other + i * ldo, n * 4) == 0;
            same &= memcmp(before + i * ldo + panels, other + i * ldo + panels, (ldo - panels) * 4) == 0;
        }
        CU_ASSERT(same && other[n_out - 1] == before[n_out - 1]);
    }
    free(a);
    free(b);
    free(f);
    free(before);
    free(one);
    free(other);
}

static void products_have_the_bits_of_scalar_for_every_size(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {2};
    for (size_t size = 0; size <= SIZE; size++) {
        check_product(isa, n_isas, 1 + numbers_below(&r, 9), numbers_below(&r, 40), size, &r);
        check_product(isa, n_isas, numbers_below(&r, 22), size, numbers_below(&r, 150), &r);
        check_product(isa, n_isas, size, 1 + numbers_below(&r, 20), numbers_below(&r, 80), &r);
    }
    check_product(isa, n_isas, 7, 512, 300, &r);
}

/* What scalar does is the sum in double: products are exact, and a chain of 2 n of them rounds so often. */
static void scalars_product_is_the_sum_of_products_of_pairs(void)
{
    enum { PAIRS = 20, N_Q = 3 };
    struct numbers r = {3};
    const struct kernels *k = kernels_find("scalar");
    float q[N_Q][2 * PAIRS], rows[2 * PAIRS * SIZE], out[N_Q][UNIT], f[N_Q] = {0, 1, 0.5f};
    uint32_t a[N_Q * PAIRS], *b = numbers_block(PAIRS * UNIT * 4);
    numbers_fill(&r, q[0], sizeof q / sizeof(float), 1);
    numbers_fill(&r, rows, sizeof rows / sizeof *rows, 1);
    k->pack_values[STORAGE_BF16](q[0], N_Q, 2 * (size_t)PAIRS, a, 0);
    k->pair_rows(rows, 2 * (size_t)PAIRS, SIZE, b);
    for (size_t i = 0; i < N_Q; i++)
        for (size_t j = 0; j < UNIT; j++)
            out[i][j] = i ? 4 : NAN;
    k->product_bf16(a, PAIRS, N_Q, b, PAIRS, SIZE, f, out[0], UNIT);
    for (size_t i = 0; i < N_Q; i++)
        for (size_t j = 0; j < SIZE; j++) {
            double sum = i ? 4 * (double)f[i] : 0, bound = sum;
            for (size_t c = 0; c < 2 * (size_t)PAIRS; c++) {
                double product = (double)bf16_to_f32(bf16_of_f32(q[i][c])) * bf16_to_f32(bf16_of_f32(rows[c * SIZE + j]));
                sum += product;
                bound += fabs(product);
            }
            ASSERT_NEAR(out[i][j], sum, bound * (2 * PAIRS + 2) * 0x1p-24);
        }
    free(b);
}

struct tile {
    float s[SIZE + PANEL], log_w[SIZE];
    size_t lo, hi, n;
    bool weighted;
    float max, sum;
};

static float weight_at(const uint32_t *pairs, size_t j)
{
    return bf16_to_f32((uint16_t)(pairs[j / 2] >> (j % 2 ? 16 : 0)));
}

/* Weights are 1.0e-4 off before they are rounded (kernels/vector_bf16.h), which may put them a step of 2^-7 apart. */
static void compare(const struct kernels *scalar, const struct kernels *k, const struct tile *t)
{
    struct tile a = *t, b = *t;
    uint32_t one[UNIT / 2], other[UNIT / 2 + 1];
    size_t room = (t->n + PANEL - 1) / PANEL * PANEL;
    for (size_t x = 0; x < UNIT / 2 + 1; x++)
        other[x] = CANARY;
    const float *log_w = t->weighted ? t->log_w : NULL;
    float fa = scalar->weigh_bf16(a.s, t->lo, t->hi, t->n, log_w, &a.max, &a.sum, one);
    float fb = k->weigh_bf16(b.s, t->lo, t->hi, t->n, log_w, &b.max, &b.sum, other);
    CU_ASSERT_EQUAL(a.max, b.max);
    ASSERT_NEAR(fb, fa, 6e-7 * fa);
    ASSERT_NEAR(b.sum, a.sum, 1.1e-4 * a.sum);
    for (size_t j = 0; j < room; j++) {
        float x = weight_at(one, j), y = weight_at(other, j);
        ASSERT_NEAR(y, x, 0x1p-7 * x + 2.8e-38);
        CU_ASSERT(y == 0 || (j >= t->lo && j < t->hi));
    }
    CU_ASSERT_EQUAL(other[room / 2], CANARY);
    CU_ASSERT(memcmp(b.s, t->s, sizeof b.s) == 0);
}

static void weights_agree_with_scalar_over_sizes_ranges_and_extremes(void)
{
    static const float scales[] = {1, 30, 1e4f};
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {4};
    for (size_t n = 0; n <= SIZE; n++)
        for (size_t round = 0; round < 12; round++) {
            struct tile t = {.n = n, .max = -INFINITY};
            float scale = scales[round % 3];
            numbers_fill(&r, t.s, SIZE + PANEL, scale);
            numbers_fill(&r, t.log_w, SIZE, 3);
            t.lo = numbers_below(&r, 3) ? numbers_below(&r, n + 1) : 0;
            t.hi = t.lo ? t.lo + numbers_below(&r, n - t.lo + 1) : n;
            t.weighted = numbers_below(&r, 2);
            for (size_t j = 0; j < n && scale == 1e4f; j++) {
                t.s[j] = numbers_below(&r, 6) ? t.s[j] : -INFINITY;
                t.log_w[j] = numbers_below(&r, 6) ? t.log_w[j] : -INFINITY;
            }
            for (size_t j = 0; j < SIZE + PANEL; j++) /* what lies outside means nothing */
                t.s[j] = j < t.lo || j >= t.hi ? NAN : t.s[j];
            if (numbers_below(&r, 2)) {
                t.max = numbers_unit(&r) * scale;
                t.sum = 1.5f;
            }
            for (size_t i = 0; i < n_isas; i++)
                compare(isa[0], isa[i], &t);
        }
}

/* Weights are those of weigh, rounded. */
static void scalars_weights_are_those_of_f32_rounded(void)
{
    const struct kernels *k = kernels_find("scalar");
    struct numbers r = {5};
    for (size_t n = 1; n <= SIZE; n++) {
        struct tile t = {.n = n, .max = 0.5f, .sum = 2}, u;
        uint32_t pairs[UNIT / 2];
        numbers_fill(&r, t.s, n, 5);
        numbers_fill(&r, t.log_w, n, 3);
        u = t;
        float f = k->weigh(t.s, 0, n, n, t.log_w, &t.max, &t.sum);
        CU_ASSERT_EQUAL(k->weigh_bf16(u.s, 0, n, n, u.log_w, &u.max, &u.sum, pairs), f);
        CU_ASSERT_EQUAL(t.max, u.max);
        ASSERT_NEAR(u.sum, t.sum, 1e-6 * t.sum);
        for (size_t j = 0; j < n; j++)
            CU_ASSERT_EQUAL(weight_at(pairs, j), bf16_to_f32(bf16_of_f32(t.s[j])));
    }
}

static void all_rows_left_out_weighs_0_and_changes_nothing(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    for (size_t i = 0; i < n_isas; i++)
        for (size_t n = 0; n <= SIZE; n++)
            for (size_t how = 0; how < 4; how++) {
                float s[SIZE + 1], max = how & 1 ? 2.5f : -INFINITY, sum = how & 1 ? 1.25f : 0, before = max, total = sum;
                uint32_t pairs[UNIT / 2];
                for (size_t j = 0; j < n; j++)
                    s[j] = how & 2 ? 5 : -INFINITY;
                CU_ASSERT_EQUAL(isa[i]->weigh_bf16(s, 0, how & 2 ? 0 : n, n, NULL, &max, &sum, pairs), how & 1 ? 1 : 0);
                CU_ASSERT(max == before && sum == total);
                for (size_t j = 0; j < n; j++)
                    CU_ASSERT_EQUAL(weight_at(pairs, j), 0);
            }
}

TEST_SUITE("lib/kernels/bf16", TEST(pairs_of_rows_have_the_bits_of_scalar),
           TEST(products_have_the_bits_of_scalar_for_every_size), TEST(scalars_product_is_the_sum_of_products_of_pairs),
           TEST(weights_agree_with_scalar_over_sizes_ranges_and_extremes), TEST(scalars_weights_are_those_of_f32_rounded),
           TEST(all_rows_left_out_weighs_0_and_changes_nothing))
