/* score and accumulate against plain sums in double. Bounds: a chain of n products rounds at most n + 1 times, each time by at
 * most 2^-24 of the sum of magnitudes so far. Quantised rows may meet a query rounded to 16 bits of its largest coordinate, and
 * weights rounded to 16 bits of the largest of 32 rows (avx2_values.h: 2^-11; levels of rows differ by a factor of 2). Rows
 * and queries may be rotated, which rounds 10 times more and spreads a coordinate's error over the row: there, norms bound what
 * magnitudes bound otherwise. */
#include "isas.h"
#include "kernels/element.h"
#include "numbers.h"
#include "tests/test.h"

#include <math.h>

static const float CANARY = -77;

static bool is_quantised(enum storage_id id)
{
    return id > STORAGE_F16;
}

static float rounded(enum storage_id id, float x)
{
    return id == STORAGE_BF16 ? bf16_to_f32(bf16_of_f32(x)) : id == STORAGE_F16 ? f16_to_f32(f16_of_f32(x)) : x;
}

/* What the rows are once stored: of elements by rounded, of codes by the scalar kernels, which test_quant.c tests. */
static void store(enum storage_id id, float *rows, size_t n, size_t width)
{
    const struct kernels *scalar = kernels_find("scalar");
    void *block = calloc(n + 1, storage_table[id].value_bytes(width));
    for (size_t i = 0; i < n * width && !is_quantised(id); i++)
        rows[i] = rounded(id, rows[i]);
    if (is_quantised(id)) {
        scalar->pack_values[id](rows, n, width, block, 0);
        scalar->unpack_values[id](block, 0, n, width, rows);
    }
    free(block);
}

static double norm(const float *x, size_t n)
{
    double squares = 0;
    for (size_t c = 0; c < n; c++)
        squares += (double)x[c] * x[c];
    return sqrt(squares);
}

/* n_q queries, rows [row, row + n), d coordinates, lds beyond what is needed. */
static void check_score(const struct kernels *k, enum storage_id id, size_t n_q, size_t n, size_t d, float scale,
                        struct numbers *r)
{
    size_t row = numbers_below(r, 3) * PANEL, panels = (n + PANEL - 1) / PANEL * PANEL, lds = panels + numbers_below(r, 5);
    float *rows = numbers_block(n * d * 4), *q = numbers_block(n_q * d * 4 + 4), *s = numbers_block((n_q * lds + 1) * 4);
    void *keys = numbers_block((row + panels) * storage_table[id].key_bytes(d));
    numbers_fill(r, rows, n * d, scale);
    numbers_fill(r, q + 1, n_q * d, scale);
    k->pack_keys[id](rows, n, d, keys, row);
    for (size_t i = 0; i < n_q * lds + 1; i++)
        s[i] = CANARY;
    k->score[id](q + 1, n_q, d, keys, row, n, s, lds);
    store(id, rows, n, d);
    bool close = true, kept = s[n_q * lds] == CANARY;
    for (size_t i = 0; i < n_q; i++) {
        for (size_t j = 0; j < n; j++) {
            double dot = 0, bound = 0;
            for (size_t c = 0; c < d; c++) {
                double product = (double)q[1 + i * d + c] * rows[j * d + c];
                dot += product;
                bound += fabs(product);
            }
            bound *= (double)(d + 1) * 0x1p-24;
            if (is_quantised(id))
                bound =
                    norm(q + 1 + i * d, d) * norm(rows + j * d, d) * ((double)(d + 20) * 0x1p-24 + sqrt((double)d) * 0x1p-16);
            close &= fabs(s[i * lds + j] - dot) <= bound + 1e-37;
        }
        for (size_t j = panels; j < lds; j++)
            kept &= s[i * lds + j] == CANARY;
    }
    CU_ASSERT(close);
    CU_ASSERT(kept);
    free(rows);
    free(q);
    free(s);
    free(keys);
}

static void score_is_the_inner_product_for_every_size_storage_and_table(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {3};
    for (size_t i = 0; i < n_isas; i++)
        for (enum storage_id id = 0; id < N_ROW_STORAGE; id++) {
            for (size_t size = 0; size <= 67; size++) {
                check_score(isa[i], id, 1 + numbers_below(&r, 9), size, 1 + numbers_below(&r, 40), 1, &r);
                check_score(isa[i], id, numbers_below(&r, 22), numbers_below(&r, 150), size + 1, 1, &r);
                check_score(isa[i], id, size, numbers_below(&r, 80), 1 + numbers_below(&r, 20), 100, &r);
            }
            check_score(isa[i], id, 7, 100, 1024, 1, &r);
            check_score(isa[i], id, 6, 40, 128, 1e-20f, &r); /* f16 keys of 0, products near the smallest floats */
            check_score(isa[i], id, 6, 40, 5, 3e-5f, &r);    /* denormal halves */
        }
}

static void check_accumulate(const struct kernels *k, enum storage_id id, size_t n_q, size_t n, size_t e, struct numbers *r)
{
    size_t row = numbers_below(r, 20), ldp = n + numbers_below(r, 5), lda = e + numbers_below(r, 5);
    float *rows = numbers_block(n * e * 4), *p = numbers_block(n_q * ldp * 4), *f = numbers_block(n_q * 4);
    float *acc = numbers_block((n_q * lda + 2) * 4), *before = numbers_block((n_q * lda + 2) * 4);
    void *values = malloc((row + n) * storage_table[id].value_bytes(e) + 1); /* exactly: a read past the end is an error */
    numbers_fill(r, rows, n * e, 1);
    numbers_fill(r, p, n_q * ldp, 1);
    numbers_fill(r, before, n_q * lda + 2, 1);
    k->pack_values[id](rows, n, e, values, row);
    for (size_t i = 0; i < n_q; i++) {
        f[i] = numbers_below(r, 3) ? (numbers_below(r, 2) ? 1 : 0.3f) : 0;
        for (size_t c = 0; c < e && f[i] == 0; c++)
            before[1 + i * lda + c] = NAN;
    }
    memcpy(acc, before, (n_q * lda + 2) * 4);
    k->accumulate[id](p, ldp, f, n_q, values, row, n, e, acc + 1, lda);
    store(id, rows, n, e);
    double *norms = malloc((n + 1) * sizeof *norms);
    for (size_t j = 0; j < n; j++)
        norms[j] = norm(rows + j * e, e);
    bool close = true, kept = acc[0] == before[0] && acc[1 + n_q * lda] == before[1 + n_q * lda];
    for (size_t i = 0; i < n_q; i++) {
        for (size_t c = 0; c < e; c++) {
            double sum = f[i] == 0 ? 0 : before[1 + i * lda + c] * (double)f[i], bound = fabs(sum);
            for (size_t j = 0; j < n; j++) {
                double product = (double)p[i * ldp + j] * rows[j * e + c];
                sum += product;
                bound += is_quantised(id) ? fabs((double)p[i * ldp + j]) * norms[j] : fabs(product);
            }
            bound *= is_quantised(id) ? (double)(n + 20) * 0x1p-24 + 0x1p-10 : (double)(n + 2) * 0x1p-24;
            close &= fabs(acc[1 + i * lda + c] - sum) <= bound;
        }
        for (size_t c = e; c < lda; c++)
            kept &= acc[1 + i * lda + c] == before[1 + i * lda + c];
    }
    CU_ASSERT(close);
    CU_ASSERT(kept);
    free(rows);
    free(p);
    free(f);
    free(acc);
    free(before);
    free(values);
    free(norms);
}

static void accumulate_is_the_weighted_sum_for_every_size_storage_and_table(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {4};
    for (size_t i = 0; i < n_isas; i++)
        for (enum storage_id id = 0; id < N_ROW_STORAGE; id++) {
            for (size_t size = 0; size <= 67; size++) {
                check_accumulate(isa[i], id, 1 + numbers_below(&r, 9), size, 1 + numbers_below(&r, 90), &r);
                check_accumulate(isa[i], id, numbers_below(&r, 22), numbers_below(&r, 60), size + 1, &r);
                check_accumulate(isa[i], id, size, numbers_below(&r, 40), 1 + numbers_below(&r, 20), &r);
            }
            check_accumulate(isa[i], id, 7, 200, 300, &r); /* rows in several blocks */
            check_accumulate(isa[i], id, 3, 40, 1024, &r);
        }
}

/* What lets batches of any size give the same outputs. */
static void a_query_gets_the_same_bits_whichever_others_share_the_call(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    enum { N_Q = 13, N = 96, D = 37, E = 45 };
    struct numbers r = {5};
    float *rows = numbers_block(N * E * 4), *q = numbers_block(N_Q * D * 4), *s = numbers_block(N_Q * N * 4), one[N], acc[E],
          f[N_Q] = {0};
    float *all = numbers_block(N_Q * E * 4);
    void *keys = numbers_block(N * D * 4), *values = numbers_block(N * E * 4);
    numbers_fill(&r, rows, N * E, 1);
    numbers_fill(&r, q, N_Q * D, 1);
    for (size_t i = 0; i < n_isas; i++)
        for (enum storage_id id = 0; id < N_ROW_STORAGE; id++) {
            isa[i]->pack_keys[id](rows, N, D, keys, 0);
            isa[i]->pack_values[id](rows, N, E, values, 0);
            isa[i]->score[id](q, N_Q, D, keys, 0, N, s, N);
            isa[i]->accumulate[id](s, N, f, N_Q, values, 0, N, E, all, E);
            for (size_t j = 0; j < N_Q; j++) {
                isa[i]->score[id](q + j * D, 1, D, keys, 0, N, one, N);
                CU_ASSERT(memcmp(one, s + j * N, sizeof one) == 0);
                isa[i]->accumulate[id](one, N, f, 1, values, 0, N, E, acc, E);
                CU_ASSERT(memcmp(acc, all + j * E, sizeof acc) == 0);
                isa[i]->score[id](q + j * D, 1, D, keys, 2 * PANEL, PANEL, one, N);
                CU_ASSERT(memcmp(one, s + j * N + 2 * PANEL, PANEL * sizeof *one) == 0);
            }
        }
    free(rows);
    free(q);
    free(s);
    free(all);
    free(keys);
    free(values);
}

static void the_small_vector_work_agrees_with_scalar(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {6};
    for (size_t i = 1; i < n_isas; i++)
        for (size_t n = 0; n <= 67; n++) {
            float a[69], b[69], x[3][69], y[3][69];
            numbers_fill(&r, a, 69, 1);
            numbers_fill(&r, b, 69, 1);
            for (size_t j = 0; j < 3; j++) {
                numbers_fill(&r, x[j], 69, 1);
                memcpy(y[j], x[j], sizeof y[j]);
            }
            isa[0]->multiply(a + 1, b + 1, n, x[0] + 1);
            isa[i]->multiply(a + 1, b + 1, n, y[0] + 1);
            isa[0]->multiply_add(0.7f, a + 1, b + 1, n, x[1] + 1);
            isa[i]->multiply_add(0.7f, a + 1, b + 1, n, y[1] + 1);
            isa[0]->combine(0.7f, x[2] + 1, -0.2f, a + 1, n);
            isa[i]->combine(0.7f, y[2] + 1, -0.2f, a + 1, n);
            for (size_t j = 0; j < 3; j++)
                for (size_t c = 0; c < 69; c++)
                    ASSERT_NEAR(y[j][c], x[j][c], c >= 1 && c <= n ? 3 * 0x1p-24 : 0);
            isa[i]->multiply(a + 1, b + 1, n, a + 1); /* in place */
            CU_ASSERT(memcmp(a + 1, y[0] + 1, n * sizeof *a) == 0);
        }
}

TEST_SUITE("lib/kernels/tile", TEST(score_is_the_inner_product_for_every_size_storage_and_table),
           TEST(accumulate_is_the_weighted_sum_for_every_size_storage_and_table),
           TEST(a_query_gets_the_same_bits_whichever_others_share_the_call), TEST(the_small_vector_work_agrees_with_scalar))
