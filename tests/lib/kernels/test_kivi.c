/* kivi2: bytes against arithmetic of this file's own, every table against scalar, and attention against float64. */
#include "isas.h"
#include "kernels/kivi.h"
#include "numbers.h"
#include "tests/test.h"

#include <math.h>

static const enum storage_id ID = STORAGE_KIVI2;

/* Numbers of one kind or another: any bits; alike, far from 0; few whole numbers, full of ties. */
static void fill(struct numbers *r, size_t kind, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = kind == 0   ? f32_of_bits(numbers_below(r, 4) ? f32_bits(numbers_unit(r)) : numbers_bits(r))
               : kind == 1 ? 10 + numbers_unit(r)
                           : (float)numbers_below(r, 9) - 4;
}

static void a_key_group_is_a_channel_of_32_rows(void)
{
    enum { D = 40, PADDED = 64 };
    const struct kernels *k = kernels_best();
    float rows[32 * D], back[32 * D];
    unsigned char *keys = numbers_block(32 * storage_table[ID].key_bytes(D));
    for (size_t j = 0; j < 32; j++)
        for (size_t c = 0; c < D; c++)
            rows[j * D + c] = (float)c + (float)(j % 4) * (c % 2 ? 1.0f : 0.5f); /* four numbers in a channel: kept exactly */
    k->pack_keys[ID](rows, 32, D, keys, 0);
    k->unpack_keys[ID](keys, 0, 32, D, back);
    CU_ASSERT(memcmp(rows, back, sizeof rows) == 0);
    CU_ASSERT_EQUAL(storage_table[ID].key_bytes(D), 24);
    for (size_t c = 0; c < D; c++)
        for (size_t panel = 0; panel < 2; panel++) {
            uint32_t word;
            uint16_t half;
            memcpy(&word, keys + panel * PANEL * 24 + 4 * c, 4);
            CU_ASSERT_EQUAL(word, 0xe4e4e4e4u); /* 3, 2, 1, 0 and again */
            memcpy(&half, keys + panel * PANEL * 24 + 4 * PADDED + 2 * c, 2);
            CU_ASSERT_EQUAL(f16_to_f32(half), panel ? (float)c : c % 2 ? 1.0f : 0.5f);
        }
    free(keys);
}

static void a_value_group_is_a_block_of_32_columns(void)
{
    enum { E = 40 };
    const struct kernels *k = kernels_best();
    float row[E], back[E];
    unsigned char block[24];
    uint16_t half[2];
    for (size_t c = 0; c < E; c++)
        row[c] = (c < 32 ? -1.0f : 5.0f) + (float)(c % 4) * 2;
    k->pack_values[ID](row, 1, E, block, 0);
    k->unpack_values[ID](block, 0, 1, E, back);
    CU_ASSERT(memcmp(row, back, sizeof row) == 0);
    CU_ASSERT_EQUAL(storage_table[ID].value_bytes(E), 24);
    for (size_t b = 0; b < 2; b++) {
        memcpy(half, block + 12 * b, sizeof half);
        CU_ASSERT(f16_to_f32(half[0]) == 2 && f16_to_f32(half[1]) == (b ? 5 : -1));
        CU_ASSERT_EQUAL(block[12 * b + 4], 0xe4);
    }
}

static void every_table_has_scalars_bytes_and_numbers(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {1};
    for (size_t i = 1; i < n_isas; i++)
        for (size_t d = 1; d <= 1024; d += d < 70 ? 1 : 106) {
            size_t n = numbers_below(&r, 70), row = KIVI_ROWS * numbers_below(&r, 3), room = 5 * KIVI_ROWS;
            size_t bytes = room * storage_table[ID].key_bytes(d);
            float *rows = malloc(n * d * 4 + 4), *a = malloc(n * d * 4 + 4), *b = malloc(n * d * 4 + 4), x[1024], near[2];
            unsigned char *one = numbers_block(bytes), *other = numbers_block(bytes);
            size_t kind = numbers_below(&r, 3);
            fill(&r, kind, rows, n * d);
            fill(&r, 1 + kind % 2, x, d);
            for (size_t what = 0; what < 2; what++) {
                memset(one, 0x2a, bytes);
                memset(other, 0x2a, bytes);
                (what ? isa[0]->pack_values : isa[0]->pack_keys)[ID](rows, n, d, one, row);
                (what ? isa[i]->pack_values : isa[i]->pack_keys)[ID](rows, n, d, other, row);
                CU_ASSERT(memcmp(one, other, bytes) == 0);
                size_t from = numbers_below(&r, n + 1);
                b[(n - from) * d] = -77;
                (what ? isa[0]->unpack_values : isa[0]->unpack_keys)[ID](one, row + from, n - from, d, a);
                (what ? isa[i]->unpack_values : isa[i]->unpack_keys)[ID](one, row + from, n - from, d, b);
                bool same = b[(n - from) * d] == -77;
                for (size_t y = 0; y < (n - from) * d; y++)
                    same &= f32_bits(a[y]) == f32_bits(b[y]) || (isnan(a[y]) && isnan(b[y]));
                CU_ASSERT(same);
                if (!what && kind > 0) {
                    CU_ASSERT_EQUAL(isa[0]->nearest[ID](x, d, one, row + n, &near[0]),
                                    isa[i]->nearest[ID](x, d, one, row + n, &near[1]));
                    CU_ASSERT_EQUAL(f32_bits(near[0]), f32_bits(near[1]));
                }
            }
            free(rows);
            free(a);
            free(b);
            free(one);
            free(other);
        }
}

/* A code is the nearest of four numbers from a group's smallest to its largest: off by half a step of a third of the range, and by
 * what f16 rounds zero (2^-11 of it) and scale (three times 2^-11 of it) by. */
static void numbers_are_off_by_half_a_step_at_most(void)
{
    enum { N = 64, D = 70 };
    struct numbers r = {2};
    float rows[N * D], back[N * D];
    unsigned char *block = numbers_block(N * storage_table[ID].key_bytes(D));
    for (size_t round = 0; round < 20; round++) {
        numbers_fill(&r, rows, N * D, 1);
        for (size_t i = 0; i < N * D; i++)
            rows[i] += 3 * (float)(i % D % 3);
        kernels_best()->pack_keys[ID](rows, N, D, block, 0);
        kernels_best()->unpack_keys[ID](block, 0, N, D, back);
        for (size_t i = 0; i < N * D; i++)
            CU_ASSERT(fabsf(rows[i] - back[i]) <= 2.0f / 6 + 7 * 0x1p-11f + 2 * 0x1p-11f);
        kernels_best()->pack_values[ID](rows, N, D, block, 0);
        kernels_best()->unpack_values[ID](block, 0, N, D, back);
        for (size_t i = 0; i < N * D; i++)
            CU_ASSERT(fabsf(rows[i] - back[i]) <= 8.0f / 6 + 7 * 0x1p-11f + 8 * 0x1p-11f);
    }
    free(block);
}

/* Sums of d or n products in some order: relative to the sum of magnitudes, off by (d + 2) 2^-24. */
static void attention_is_that_of_the_rows_as_they_read_back(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {3};
    for (size_t i = 0; i < n_isas; i++)
        for (size_t round = 0; round < 60; round++) {
            enum { ROOM = 4 * KIVI_ROWS };
            size_t d = 1 + numbers_below(&r, 90), n = numbers_below(&r, 60), n_q = numbers_below(&r, 70), lda = d + 3;
            size_t row = numbers_below(&r, 3) * PANEL;
            float *rows = malloc(ROOM * d * 4), *q = malloc(n_q * d * 4 + 4), *s = malloc((n_q + 1) * 64 * 4),
                  *f = malloc(n_q * 4 + 4);
            float *acc = malloc((n_q * lda + 1) * 4), one[64];
            unsigned char *block = numbers_block(ROOM * storage_table[ID].key_bytes(d));
            numbers_fill(&r, rows, ROOM * d, 1);
            numbers_fill(&r, q, n_q * d, 1);
            isa[i]->pack_keys[ID](rows, ROOM, d, block, 0);
            isa[i]->unpack_keys[ID](block, 0, ROOM, d, rows);
            isa[i]->score[ID](q, n_q, d, block, row, n, s, 64);
            bool close = true;
            for (size_t a = 0; a < n_q; a++)
                for (size_t j = 0; j < n; j++) {
                    double dot = 0, all = 0;
                    for (size_t c = 0; c < d; c++) {
                        dot += (double)q[a * d + c] * rows[(row + j) * d + c];
                        all += fabs((double)q[a * d + c] * rows[(row + j) * d + c]);
                    }
                    close &= fabs(s[a * 64 + j] - dot) <= all * (double)(d + 2) * 0x1p-24;
                }
            CU_ASSERT(close);
            if (n_q) {
                isa[i]->score[ID](q + (n_q - 1) * d, 1, d, block, row, n, one, 64);
                CU_ASSERT(memcmp(one, s + (n_q - 1) * 64, n * sizeof *one) == 0);
            }
            isa[i]->pack_values[ID](rows, ROOM, d, block, 0);
            isa[i]->unpack_values[ID](block, 0, ROOM, d, rows);
            for (size_t a = 0; a < n_q; a++) {
                f[a] = numbers_below(&r, 2) ? 0.5f : 0;
                for (size_t c = 0; c < lda; c++)
                    acc[a * lda + c] = f[a] == 0 && c < d ? NAN : 1;
            }
            isa[i]->accumulate[ID](s, 64, f, n_q, block, row + 1, n, d, acc, lda);
            for (size_t a = 0; a < n_q; a++) {
                for (size_t c = 0; c < d; c++) {
                    double sum = f[a], all = f[a];
                    for (size_t j = 0; j < n; j++) {
                        sum += (double)s[a * 64 + j] * rows[(row + 1 + j) * d + c];
                        all += fabs((double)s[a * 64 + j] * rows[(row + 1 + j) * d + c]);
                    }
                    close &= fabs(acc[a * lda + c] - sum) <= all * (double)(n + 3) * 0x1p-24;
                }
                for (size_t c = d; c < lda; c++)
                    close &= acc[a * lda + c] == 1;
            }
            CU_ASSERT(close);
            free(rows);
            free(q);
            free(s);
            free(f);
            free(acc);
            free(block);
        }
}

TEST_SUITE("lib/kernels/kivi", TEST(a_key_group_is_a_channel_of_32_rows), TEST(a_value_group_is_a_block_of_32_columns),
           TEST(every_table_has_scalars_bytes_and_numbers), TEST(numbers_are_off_by_half_a_step_at_most),
           TEST(attention_is_that_of_the_rows_as_they_read_back))
