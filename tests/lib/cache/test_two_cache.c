#include "tests/lib/cache/conform.h"
#include "tests/lib/cache/drive.h"
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

static void two_cache_conforms(void)
{
    conform_check(&(struct conform){"two_cache", ATTENTION_TENSOR, 60, 0});
    conform_check(&(struct conform){"two_cache,storage=bf16", ATTENTION_TENSOR, 30, 30});
}

/* Factors (k1_a, k2_b) of product row r: token i adds (i,0..i), then (0..i-1,i). */
static void pair_of(size_t r, size_t *a, size_t *b)
{
    size_t i = 0;
    while ((i + 1) * (i + 1) <= r)
        i++;
    r -= i * i;
    *a = r <= i ? i : r - i - 1;
    *b = r <= i ? r : i;
}

static void rows_are_products_in_the_order_of_tokens(void)
{
    struct tokens t;
    struct drive drive;
    struct view view[2];
    const struct kernels *scalar = kernels_find("scalar");
    float key[3], value[2];
    tokens_random(&t, ATTENTION_TENSOR, 40, 1, 3, 2, 21); /* 1,600 products: four pages */
    if (drive_open(&drive, &t, "two_cache", kernels_best(), 0)) {
        drive_run(&drive, 0, t.n, 1, NULL);
        CU_ASSERT_EQUAL_FATAL(drive.cache->ops->view(drive.cache, t.n - 1, t.q, view), 1);
        size_t row = 0, a, b;
        for (size_t s = 0; s < view[0].n_seg; s++)
            for (size_t r = 0; r < view[0].seg[s].n; r++, row++) {
                const struct segment *seg = &view[0].seg[s];
                pair_of(row, &a, &b);
                scalar->unpack_keys[seg->key_storage->id](seg->keys, seg->row + r, 1, 3, key);
                scalar->unpack_values[seg->value_storage->id](seg->values, seg->row + r, 1, 2, value);
                CU_ASSERT(seg->span == 0 && seg->first + r == row);
                for (size_t c = 0; c < 3; c++)
                    CU_ASSERT(key[c] == t.key[0][a * 3 + c] * t.key[1][b * 3 + c]);
                for (size_t c = 0; c < 2; c++)
                    CU_ASSERT(value[c] == t.value[0][a * 2 + c] * t.value[1][b * 2 + c]);
            }
        CU_ASSERT_EQUAL(row, t.n * t.n);
    }
    drive_close(&drive);
    tokens_free(&t);
}

/* In bf16 the products are what is rounded, not the factors: the rows as tokens of a softmax stream, rounded by the test. */
static void products_in_bf16_equal_float64_on_rounded_products(void)
{
    enum { N = 24, D = 6, E = 4 };
    struct tokens t, products;
    struct drive drive;
    tokens_random(&t, ATTENTION_TENSOR, N, 1, D, E, 22);
    tokens_random(&products, ATTENTION_SOFTMAX, N * N, 1, D, E, 0);
    for (size_t r = 0, a, b; r < N * N; r++) {
        pair_of(r, &a, &b);
        for (size_t c = 0; c < D; c++)
            products.key[0][r * D + c] = t.key[0][a * D + c] * t.key[1][b * D + c];
        for (size_t c = 0; c < E; c++)
            products.value[0][r * E + c] = t.value[0][a * E + c] * t.value[1][b * E + c];
    }
    tokens_round(&products, STORAGE_BF16, STORAGE_BF16);
    memcpy(products.q, t.q, N * D * sizeof *t.q);
    float *out = malloc(N * E * sizeof *out);
    double *reference = malloc(N * E * sizeof *reference);
    unsigned char see[N * N];
    for (size_t token = 0; token < N; token++) {
        for (size_t r = 0; r < N * N; r++)
            see[r] = r < (token + 1) * (token + 1) ? SEEN : HIDDEN;
        reference_attend(&products, token, 0, see, NULL, reference + token * E);
    }
    if (drive_open(&drive, &t, "two_cache,storage=bf16", kernels_best(), 0)) {
        drive_run(&drive, 0, N, 0, out);
        ASSERT_NEAR(drive_worst_error(out, reference, N, E), 0, 1e-5);
    }
    drive_close(&drive);
    free(out);
    free(reference);
    tokens_free(&t);
    tokens_free(&products);
}

/* n^2 products of d + e numbers and n factors of 2 (d + e), in pages; exactly what worst_bytes says. */
static void bytes_are_those_of_products_and_factors(void)
{
    struct tokens t;
    struct drive drive;
    tokens_random(&t, ATTENTION_TENSOR, 64, 1, 16, 16, 23);
    if (drive_open(&drive, &t, "two_cache", kernels_best(), 64)) {
        for (size_t i = 0; i < t.n; i++) {
            drive_run(&drive, i, 1, 1, NULL);
            CU_ASSERT_EQUAL(drive.cache->account.allocated, drive.policy.ops->worst_bytes(&drive.policy, &drive.dims, i + 1));
        }
        size_t rows = 64 * 64 * 32 * 4, factors = 64 * 64 * 4, directories = 1024 + 128;
        CU_ASSERT(drive.cache->account.allocated >= rows + factors);
        CU_ASSERT(drive.cache->account.allocated <= rows + factors + directories);
        CU_ASSERT(drive.policy.ops->worst_bytes(&drive.policy, &drive.dims, UINT64_MAX) >= SIZE_MAX / 2);
    }
    drive_close(&drive);
    tokens_free(&t);
}

/* Token 64 begins a page of products (64^2 = 8 CHUNK) and outgrows the first 64 factors. */
static void products_without_factors_are_given_back(void)
{
    struct tokens t;
    struct drive drive;
    tokens_random(&t, ATTENTION_TENSOR, 65, 1, 8, 8, 24);
    if (drive_open(&drive, &t, "two_cache", kernels_best(), 0)) {
        drive_run(&drive, 0, 64, 1, NULL);
        size_t allocated = drive.cache->account.allocated, page = CHUNK * 16 * sizeof(float),
               factors = 128 * 32 * sizeof(float);
        size_t directory = 8 * (sizeof(struct segment) + 16); /* what its doubling adds */
        CU_ASSERT_EQUAL(drive_append_within(&drive, 64, 1, page + directory + factors - 64), ERR_NO_MEMORY);
        CU_ASSERT_EQUAL(drive.cache->account.allocated, allocated + directory);
        drive_run(&drive, 64, 1, 1, NULL);
    }
    drive_close(&drive);
    tokens_free(&t);
}

TEST_SUITE("lib/cache/two_cache", TEST(two_cache_conforms), TEST(rows_are_products_in_the_order_of_tokens),
           TEST(products_in_bf16_equal_float64_on_rounded_products), TEST(bytes_are_those_of_products_and_factors),
           TEST(products_without_factors_are_given_back))
