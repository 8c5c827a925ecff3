/* The nearest row: every table the same to the bit as scalar, and scalar against plain sums. */
#include "isas.h"
#include "kernels/element.h"
#include "numbers.h"
#include "tests/test.h"

#include <math.h>

/* Keys of n rows in a block, and what they are when read back. */
struct block {
    size_t n, d;
    void *keys;
    float *read;
};

static struct block block_of(enum storage_id id, const float *rows, size_t n, size_t d)
{
    const struct kernels *scalar = kernels_find("scalar");
    size_t panels = (n + PANEL - 1) / PANEL;
    struct block b = {n, d, numbers_block(panels * PANEL * storage_table[id].key_bytes(d)),
                      malloc((n * d + 1) * sizeof(float))};
    scalar->pack_keys[id](rows, n, d, b.keys, 0);
    scalar->unpack_keys[id](b.keys, 0, n, d, b.read);
    return b;
}

static void block_free(struct block *b)
{
    free(b->keys);
    free(b->read);
}

static void every_table_finds_the_same_row_at_the_same_distance(void)
{
    static const size_t widths[] = {1, 2, 3, 8, 17, 64, 67};
    const struct kernels *isa[TEST_ISAS_MAX], *scalar = kernels_find("scalar");
    size_t n_isas = test_isas(isa);
    struct numbers r = {5};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (size_t n = 0; n <= 150; n += n < 67 ? 1 : 83) {
            size_t d = widths[w];
            float rows[150 * 67], x[67];
            numbers_fill(&r, rows, n * d, 1);
            numbers_fill(&r, x, d, 1);
            for (enum storage_id id = 0; id < N_ROW_STORAGE; id++) {
                struct block b = block_of(id, rows, n, d);
                float expected, got;
                size_t row = scalar->nearest[id](x, d, b.keys, n, &expected);
                for (size_t i = 0; i < n_isas; i++) {
                    CU_ASSERT_EQUAL(isa[i]->nearest[id](x, d, b.keys, n, &got), row);
                    CU_ASSERT_EQUAL(f32_bits(got), f32_bits(expected));
                }
                block_free(&b);
            }
        }
}

/* d products and sums, each rounded: relative error at most (d + 1) 2^-24, since nothing cancels. */
static void distances_keep_their_digits_far_from_the_origin(void)
{
    enum { N = 50, D = 40 };
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {6};
    for (size_t round = 0; round < 20; round++) {
        float rows[N * D], x[D];
        numbers_fill(&r, rows, N * D, 0.01f);
        numbers_fill(&r, x, D, 0.01f);
        for (size_t c = 0; c < D; c++) {
            x[c] += 1000;
            for (size_t j = 0; j < N; j++)
                rows[j * D + c] += 1000;
        }
        struct block b = block_of(STORAGE_F32, rows, N, D);
        double best = INFINITY;
        size_t row = 0;
        for (size_t j = 0; j < N; j++) {
            double sum = 0;
            for (size_t c = 0; c < D; c++)
                sum += ((double)x[c] - b.read[j * D + c]) * ((double)x[c] - b.read[j * D + c]);
            if (sum < best) {
                best = sum;
                row = j;
            }
        }
        for (size_t i = 0; i < n_isas; i++) {
            float distance;
            CU_ASSERT_EQUAL(isa[i]->nearest[STORAGE_F32](x, D, b.keys, N, &distance), row);
            ASSERT_NEAR(distance / best, 1, (D + 1) * 0x1p-24);
        }
        block_free(&b);
    }
}

static void of_equally_near_rows_the_first_is_found(void)
{
    enum { N = 100, D = 3 };
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    for (size_t first = 0; first < N; first++) {
        float rows[N * D], x[D] = {1, 2, 3}, distance;
        for (size_t j = 0; j < N; j++)
            for (size_t c = 0; c < D; c++)
                rows[j * D + c] = x[c] + (j < first ? 2.0f : j % 2 ? 1.0f : -1.0f);
        for (enum storage_id id = 0; id <= STORAGE_F16; id++) { /* which keep these numbers exactly */
            struct block b = block_of(id, rows, N, D);
            for (size_t i = 0; i < n_isas; i++) {
                CU_ASSERT_EQUAL(isa[i]->nearest[id](x, D, b.keys, N, &distance), first);
                CU_ASSERT_EQUAL(distance, D);
            }
            block_free(&b);
        }
    }
}

static void sums_that_overflow_are_infinite_and_never_chosen(void)
{
    enum { N = 20, D = 2 };
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    float rows[N * D], x[D] = {0, 0}, distance;
    for (size_t j = 0; j < N * D; j++)
        rows[j] = 1e30f;
    struct block b = block_of(STORAGE_F32, rows, N, D);
    for (size_t i = 0; i < n_isas; i++) {
        CU_ASSERT_EQUAL(isa[i]->nearest[STORAGE_F32](x, D, b.keys, N, &distance), 0);
        CU_ASSERT(isinf(distance));
    }
    block_free(&b);
    rows[2 * 17] = rows[2 * 17 + 1] = 5;
    b = block_of(STORAGE_F32, rows, N, D);
    for (size_t i = 0; i < n_isas; i++) {
        CU_ASSERT_EQUAL(isa[i]->nearest[STORAGE_F32](x, D, b.keys, N, &distance), 17);
        CU_ASSERT_EQUAL(distance, 50);
    }
    block_free(&b);
}

TEST_SUITE("lib/kernels/nearest", TEST(every_table_finds_the_same_row_at_the_same_distance),
           TEST(distances_keep_their_digits_far_from_the_origin), TEST(of_equally_near_rows_the_first_is_found),
           TEST(sums_that_overflow_are_infinite_and_never_chosen))
