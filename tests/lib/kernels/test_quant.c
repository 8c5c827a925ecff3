/* Quantised rows: bytes and rounding of ggml's blocks against arithmetic of this file's own, distortion against theory, and what a
 * rotation must keep. */
#include "isas.h"
#include "kernels/element.h"
#include "numbers.h"
#include "tests/test.h"

#include <math.h>

static const struct kernels *scalar(void)
{
    return kernels_find("scalar");
}

/* Normal deviates (Box and Muller). */
static void fill_normal(struct numbers *r, float *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) {
        double u = (numbers_bits(r) + 1.0) * 0x1p-32, angle = numbers_bits(r) * 0x1p-32 * 6.283185307179586;
        x[i] = scale * (float)(sqrt(-2 * log(u)) * cos(angle));
    }
}

static void rows_take_the_bytes_that_their_storage_says(void)
{
    static const struct {
        enum storage_id id;
        size_t n, key, value;
    } table[] = {
        {STORAGE_Q8_0, 128, 136, 136},    {STORAGE_Q4_0, 128, 72, 72},    {STORAGE_Q4_0H, 128, 72, 72},
        {STORAGE_ROT8, 128, 132, 132},    {STORAGE_ROT4, 128, 68, 68},    {STORAGE_ROT3, 128, 52, 52},
        {STORAGE_ROT2, 128, 36, 36},      {STORAGE_Q8_0, 32, 36, 34},     {STORAGE_Q4_0, 33, 36, 36},
        {STORAGE_ROT4, 96, 56, 56},       {STORAGE_ROT2, 1, 12, 12},      {STORAGE_ROT4, 100, 76, 76},
        {STORAGE_Q8_0, 1024, 1088, 1088}, {STORAGE_ROT2, 1024, 260, 260}, {STORAGE_ROT8, 1024, 1056, 1056},
        {STORAGE_ROT8, 160, 168, 168},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        CU_ASSERT_EQUAL(storage_table[table[i].id].key_bytes(table[i].n), table[i].key);
        CU_ASSERT_EQUAL(storage_table[table[i].id].value_bytes(table[i].n), table[i].value);
    }
}

/* A block of 32 as ggml's users know it: f16 scale, then 32 signed bytes, or 16 bytes with coordinates c and c + 16. */
static void expected_block(bool four_bits, const float *x, unsigned char *block)
{
    double most = 0, extreme = 0;
    for (size_t c = 0; c < 32; c++)
        if (fabs((double)x[c]) > most) {
            most = fabs((double)x[c]);
            extreme = (double)x[c];
        }
    float scale = four_bits ? (float)extreme / -8 : (float)most / 127, inverse = scale != 0 ? 1 / scale : 0;
    uint16_t half = f16_of_f32(scale);
    memcpy(block, &half, 2);
    for (size_t c = 0; c < 32; c++) {
        float scaled = x[c] * inverse;
        if (!four_bits)
            block[2 + c] = (unsigned char)(signed char)lround((double)scaled);
        else if (c < 16)
            block[2 + c] = (unsigned char)fmin(15, (double)floorf(scaled + 8.5f));
        else
            block[2 + c - 16] |= (unsigned char)((unsigned)fmin(15, (double)floorf(scaled + 8.5f)) << 4);
    }
}

static void blocks_have_ggmls_bytes(void)
{
    struct numbers r = {1};
    for (int four = 0; four < 2; four++)
        for (size_t round = 0; round < 500; round++) {
            enum storage_id id = four ? STORAGE_Q4_0 : STORAGE_Q8_0;
            size_t bytes = four ? 18 : 34, n = 64;
            float x[64];
            unsigned char got[68], expected[68];
            fill_normal(&r, x, n, round % 3 ? 1 : 1e-3f);
            if (round % 7 == 0)
                memset(x, 0, 32 * sizeof *x);
            expected_block(four, x, expected);
            expected_block(four, x + 32, expected + bytes);
            scalar()->pack_values[id](x, 1, n, got, 0);
            CU_ASSERT(memcmp(got, expected, 2 * bytes) == 0);

            /* A key has the same, in units of 32 bits PANEL apart: codes of both blocks, then the pair of scales. */
            unsigned char keys[PANEL * 72] = {0}, row[72];
            size_t units = storage_table[id].key_bytes(n) / 4, codes = bytes - 2;
            scalar()->pack_keys[id](x, 1, n, keys, 5);
            for (size_t u = 0; u < units; u++)
                memcpy(row + 4 * u, keys + (u * PANEL + 5) * 4, 4);
            CU_ASSERT(memcmp(row, expected + 2, codes) == 0);
            CU_ASSERT(memcmp(row + codes, expected + bytes + 2, codes) == 0);
            CU_ASSERT(memcmp(row + 2 * codes, expected, 2) == 0);
            CU_ASSERT(memcmp(row + 2 * codes + 2, expected + bytes, 2) == 0);

            float back[64], scale = f16_to_f32((uint16_t)(expected[0] | expected[1] << 8));
            scalar()->unpack_values[id](got, 0, 1, n, back);
            for (size_t c = 0; c < 32; c++) {
                int level =
                    !four ? (signed char)expected[2 + c] : (c < 16 ? expected[2 + c] & 15 : expected[2 + c - 16] >> 4) - 8;
                CU_ASSERT_EQUAL(back[c], scale * (float)level);
            }
        }
}

/* sum |x - stored x|^2 / sum |x|^2 over n rows of width d. */
static double distortion(enum storage_id id, const float *rows, size_t n, size_t d)
{
    float *back = malloc(n * d * sizeof *back);
    void *block = malloc(n * storage_table[id].value_bytes(d));
    double off = 0, all = 0;
    kernels_best()->pack_values[id](rows, n, d, block, 0); /* scalar's bits: test_rows.c */
    kernels_best()->unpack_values[id](block, 0, n, d, back);
    for (size_t i = 0; i < n * d; i++) {
        off += ((double)rows[i] - back[i]) * ((double)rows[i] - back[i]);
        all += (double)rows[i] * rows[i];
    }
    free(back);
    free(block);
    return off / all;
}

/* Lloyd-Max distortion of a normal deviate: 0.1175, 0.03454, 0.009497 at 2, 3, 4 bits (Max 1960); at 8 bits (Panter and Dite)
 * sqrt(3) pi / 2 / 4^8. A row's own norm or largest magnitude is known beside its codes, so short spans lose less; rescaling to the
 * row's norm loses up to D/4 more (2 - 2 sqrt(1 - D) against D). */
static void the_distortion_of_normal_rows_is_within_a_tenth_of_theory(void)
{
    static const struct {
        enum storage_id id;
        double theory;
    } table[] = {{STORAGE_ROT2, 0.1175}, {STORAGE_ROT3, 0.03454}, {STORAGE_ROT4, 0.009497}, {STORAGE_ROT8, 4.1515e-5}};
    static const size_t widths[] = {64, 128, 256, 1024};
    enum { COORDINATES = 1 << 20 };
    struct numbers r = {2};
    float *rows = malloc(COORDINATES * sizeof *rows);
    fill_normal(&r, rows, COORDINATES, 3);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
            double ratio = distortion(table[i].id, rows, COORDINATES / widths[w], widths[w]) / table[i].theory;
            CU_ASSERT(ratio < 1.1);
            CU_ASSERT(ratio > (widths[w] == 64 ? 0.8 : 0.93));
        }
    free(rows);
}

/* The same however a row's energy lies over its coordinates: here half of it in one. Without a rotation q4_0 loses the others of
 * the block. */
static void a_rotation_spreads_outliers(void)
{
    enum { N = 500, D = 128 };
    struct numbers r = {3};
    float *rows = malloc(N * D * sizeof *rows), *plain = malloc(N * D * sizeof *plain);
    fill_normal(&r, plain, N * D, 1);
    fill_normal(&r, rows, N * D, 1);
    for (size_t j = 0; j < N; j++)
        rows[j * D + 7] = 12 * (1 + numbers_unit(&r));
    static const enum storage_id rotated[] = {STORAGE_Q4_0H, STORAGE_ROT8, STORAGE_ROT4, STORAGE_ROT3, STORAGE_ROT2};
    for (size_t i = 0; i < sizeof rotated / sizeof *rotated; i++) {
        double ratio = distortion(rotated[i], rows, N, D) / distortion(rotated[i], plain, N, D);
        CU_ASSERT(ratio > 0.7 && ratio < 1.3);
    }
    CU_ASSERT(distortion(STORAGE_Q4_0H, rows, N, D) < 0.7 * distortion(STORAGE_Q4_0, rows, N, D));
    free(rows);
    free(plain);
}

/* rot* scale a span so that its norm is kept, to the 12 bits of a scale. */
static void norms_are_kept(void)
{
    static const enum storage_id ids[] = {STORAGE_ROT4, STORAGE_ROT3, STORAGE_ROT2};
    struct numbers r = {4};
    for (size_t i = 0; i < 3; i++)
        for (size_t d = 1; d <= 67; d++) {
            float x[67], back[67];
            unsigned char block[200];
            double before = 0, after = 0;
            fill_normal(&r, x, d, 1e3f);
            scalar()->pack_values[ids[i]](x, 1, d, block, 0);
            scalar()->unpack_values[ids[i]](block, 0, 1, d, back);
            for (size_t c = 0; c < d; c++) {
                before += (double)x[c] * x[c];
                after += (double)back[c] * back[c];
            }
            ASSERT_NEAR(sqrt(after / before), 1, 0x1p-12);
            if (d == 1)
                ASSERT_NEAR(back[0] / x[0], 1, 0x1p-12);
        }
}

/* Sketches store what they read (sketch/net.h): that must not wear rows out. */
static void storing_what_was_read_back_changes_nothing(void)
{
    struct numbers r = {5};
    for (enum storage_id id = STORAGE_Q8_0; id < N_ROW_STORAGE; id++)
        for (size_t d = 1; d <= 200; d += d < 67 ? 1 : 19) {
            size_t bytes = storage_table[id].value_bytes(d);
            float x[200], back[200];
            unsigned char once[400] = {0}, twice[400] = {0};
            fill_normal(&r, x, d, d % 2 ? 1 : 1e4f);
            scalar()->pack_values[id](x, 1, d, once, 0);
            scalar()->unpack_values[id](once, 0, 1, d, back);
            scalar()->pack_values[id](back, 1, d, twice, 0);
            CU_ASSERT(memcmp(once, twice, bytes) == 0);
        }
}

static void the_largest_magnitudes_are_stored_finite(void)
{
    struct numbers r = {6};
    for (enum storage_id id = STORAGE_Q8_0; id < N_ROW_STORAGE; id++)
        for (size_t round = 0; round < 40; round++) {
            size_t d = round < 2 ? 1024 : 1 + numbers_below(&r, 1024);
            float x[1024], back[1024];
            unsigned char block[1120];
            for (size_t c = 0; c < d; c++)
                x[c] = storage_table[id].max_magnitude * (round % 2 || numbers_below(&r, 2) ? 1.0f : -1.0f);
            scalar()->pack_values[id](x, 1, d, block, 0);
            scalar()->unpack_values[id](block, 0, 1, d, back);
            double off = 0;
            for (size_t c = 0; c < d; c++)
                off += pow((double)back[c] / x[c] - 1, 2);
            CU_ASSERT(off < 0.4 * (double)d); /* no NaN, no infinity */
        }
}

static void zeros_and_the_smallest_numbers_are_harmless(void)
{
    static const float tiny[] = {0, 1e-45f, 1e-38f, 1e-12f};
    for (enum storage_id id = STORAGE_Q8_0; id < N_ROW_STORAGE; id++)
        for (size_t i = 0; i < 4; i++) {
            float x[70], back[70];
            unsigned char block[256];
            for (size_t c = 0; c < 70; c++)
                x[c] = c % 3 ? tiny[i] : -tiny[i];
            scalar()->pack_values[id](x, 1, 70, block, 0);
            scalar()->unpack_values[id](block, 0, 1, 70, back);
            for (size_t c = 0; c < 70; c++)
                CU_ASSERT(fabsf(back[c]) <= 9 * tiny[i]);
        }
}

TEST_SUITE("lib/kernels/quant", TEST(rows_take_the_bytes_that_their_storage_says), TEST(blocks_have_ggmls_bytes),
           TEST(the_distortion_of_normal_rows_is_within_a_tenth_of_theory), TEST(a_rotation_spreads_outliers),
           TEST(norms_are_kept), TEST(storing_what_was_read_back_changes_nothing),
           TEST(the_largest_magnitudes_are_stored_finite), TEST(zeros_and_the_smallest_numbers_are_harmless))
