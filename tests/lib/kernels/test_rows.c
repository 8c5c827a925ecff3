/* Storage: what is packed lies where kernels/storage.h says and is rounded as kernels/element.h says, on every table. */
#include "isas.h"
#include "kernels/element.h"
#include "numbers.h"
#include "tests/test.h"

#include <math.h>

static bool same(float a, float b)
{
    return f32_bits(a) == f32_bits(b) || (isnan(a) && isnan(b));
}

static void narrowing_rounds_to_nearest_ties_to_even(void)
{
    static const struct {
        float x;
        uint16_t bf16, f16;
    } table[] = {
        {0, 0, 0},
        {-0.0f, 0x8000, 0x8000},
        {1, 0x3f80, 0x3c00},
        {-2, 0xc000, 0xc000},
        {0x1.01p0f, 0x3f80, 0x3c04},     /* a tie for bf16: down to even */
        {0x1.03p0f, 0x3f82, 0x3c0c},     /* up to even */
        {0x1.030002p0f, 0x3f82, 0x3c0c}, /* above the tie */
        {0x1.010002p0f, 0x3f81, 0x3c04},
        {0x1.002p0f, 0x3f80, 0x3c00}, /* a tie for f16: down to even */
        {0x1.006p0f, 0x3f80, 0x3c02}, /* up to even */
        {0x1.002002p0f, 0x3f80, 0x3c01},
        {65504, 0x4780, 0x7bff},
        {65519.996f, 0x4780, 0x7bff},
        {65520, 0x4780, 0x7c00}, /* the tie above the largest half */
        {0x1.fefffep127f, 0x7f7f, 0x7c00},
        {0x1.ffp127f, 0x7f80, 0x7c00}, /* the tie above the largest bf16 */
        {0x1p-24f, 0x3380, 0x0001},    /* the smallest half */
        {0x1p-25f, 0x3300, 0x0000},    /* a tie with 0 */
        {0x1.000002p-25f, 0x3300, 0x0001},
        {0x1.8p-24f, 0x33c0, 0x0002},       /* a tie of denormals: up to even */
        {0x1.ff8p-15f, 0x387f + 1, 0x03ff}, /* the largest denormal half: 1023 * 2^-24 */
        {0x1.ffcp-15f, 0x3880, 0x0400},     /* the tie above it, to the smallest normal */
        {0x1p-133f, 0x0001, 0},             /* the smallest bf16 */
        {0x1p-134f, 0x0000, 0},
        {INFINITY, 0x7f80, 0x7c00},
        {-INFINITY, 0xff80, 0xfc00},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        CU_ASSERT_EQUAL(bf16_of_f32(table[i].x), table[i].bf16);
        CU_ASSERT_EQUAL(f16_of_f32(table[i].x), table[i].f16);
    }
}

static void a_nan_stays_a_nan_and_becomes_quiet(void)
{
    for (uint32_t payload = 1; payload < 0x800000; payload = payload * 2 + 1) {
        float x = f32_of_bits(0xff800000u | payload);
        CU_ASSERT_EQUAL(bf16_of_f32(x), 0xffc0u | payload >> 16);
        CU_ASSERT_EQUAL(f16_of_f32(x), 0xfe00u | payload >> 13);
    }
}

static void every_16_bit_number_survives_a_round_trip(void)
{
    for (uint32_t h = 0; h <= 0xffff; h++) {
        float b = bf16_to_f32((uint16_t)h), f = f16_to_f32((uint16_t)h);
        CU_ASSERT_EQUAL(bf16_of_f32(b), isnan(b) ? h | 0x40 : h);
        CU_ASSERT_EQUAL(f16_of_f32(f), isnan(f) ? h | 0x200 : h);
    }
}

static void a_half_has_the_value_that_its_fields_say(void)
{
    for (uint32_t h = 0; h < 0x7c00; h++) {
        double fraction = h & 0x3ff, value = h >> 10 ? ldexp(1024 + fraction, (int)(h >> 10) - 25) : ldexp(fraction, -24);
        CU_ASSERT_EQUAL(f16_to_f32((uint16_t)h), value);
        CU_ASSERT_EQUAL(f16_to_f32((uint16_t)(h | 0x8000)), -value);
    }
}

static void the_largest_magnitude_still_rounds_to_a_finite_number(void)
{
    CU_ASSERT(isfinite(storage_table[STORAGE_F32].max_magnitude));
    float b = storage_table[STORAGE_BF16].max_magnitude, h = storage_table[STORAGE_F16].max_magnitude;
    CU_ASSERT(isfinite(bf16_to_f32(bf16_of_f32(b))) && isinf(bf16_to_f32(bf16_of_f32(nextafterf(b, INFINITY)))));
    CU_ASSERT(isfinite(f16_to_f32(f16_of_f32(h))) && isinf(f16_to_f32(f16_of_f32(nextafterf(h, INFINITY)))));
}

/* Any bit patterns: denormals, infinities and NaNs among them. */
static void fill_with_any_bits(struct numbers *r, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = f32_of_bits(numbers_below(r, 4) ? f32_bits(numbers_unit(r)) : numbers_bits(r));
}

/* Rows of one kind or another: any bits; numbers alike, as codes are made for; few whole numbers, full of ties. */
static void fill_rows(struct numbers *r, float *x, size_t n)
{
    size_t kind = numbers_below(r, 3);
    if (kind == 0)
        fill_with_any_bits(r, x, n);
    for (size_t i = 0; kind > 0 && i < n; i++)
        x[i] = kind == 1 ? numbers_unit(r) * (1 + numbers_unit(r)) : (float)numbers_below(r, 9) - 4;
}

/* Packs n rows at `row` on table k, compares the whole block with scalar's, and unpacks. */
static void check_pack(const struct kernels *scalar, const struct kernels *k, enum storage_id id, size_t row, size_t n,
                       size_t d, struct numbers *r)
{
    size_t room = (row + n + PANEL) / PANEL * PANEL, key_bytes = room * storage_table[id].key_bytes(d);
    size_t value_bytes = room * storage_table[id].value_bytes(d);
    float *rows = malloc(n * d * 4 + 4), *back = malloc(n * d * 4 + 4);
    unsigned char *a = numbers_block(key_bytes), *b = numbers_block(key_bytes), *v = numbers_block(value_bytes);
    unsigned char *w = numbers_block(value_bytes);
    memset(a, 0x5a, key_bytes);
    memset(b, 0x5a, key_bytes);
    fill_rows(r, rows, n * d);
    scalar->pack_keys[id](rows, n, d, a, row);
    k->pack_keys[id](rows, n, d, b, row);
    CU_ASSERT(memcmp(a, b, key_bytes) == 0);
    scalar->pack_values[id](rows, n, d, v, row);
    k->pack_values[id](rows, n, d, w, row);
    CU_ASSERT(memcmp(v, w, value_bytes) == 0);
    const bool plain = id == STORAGE_F32 || id == STORAGE_BF16 || id == STORAGE_F16;
    for (size_t what = 0; what < 2; what++) {
        back[n * d] = -77;
        if (what)
            k->unpack_values[id](w, row, n, d, back);
        else
            k->unpack_keys[id](b, row, n, d, back);
        bool right = back[n * d] == -77;
        for (size_t i = 0; i < n * d && plain; i++)
            right &= same(back[i], id == STORAGE_F32    ? rows[i]
                                   : id == STORAGE_BF16 ? bf16_to_f32(bf16_of_f32(rows[i]))
                                                        : f16_to_f32(f16_of_f32(rows[i])));
        if (!plain) { /* what it must be: test_quant.c */
            scalar->unpack_values[id](v, row, n, d, rows);
            for (size_t i = 0; i < n * d; i++)
                right &= same(back[i], rows[i]);
        }
        CU_ASSERT(right);
    }
    free(rows);
    free(back);
    free(a);
    free(b);
    free(v);
    free(w);
}

static void packed_rows_have_the_same_bytes_on_every_table_and_unpack_rounded(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {7};
    for (size_t i = 0; i < n_isas; i++)
        for (enum storage_id id = 0; id < N_ROW_STORAGE; id++) {
            for (size_t size = 0; size <= 67; size++) {
                check_pack(isa[0], isa[i], id, numbers_below(&r, 40), size, 1 + numbers_below(&r, 20), &r);
                check_pack(isa[0], isa[i], id, numbers_below(&r, 40), numbers_below(&r, 20), size + 1, &r);
                check_pack(isa[0], isa[i], id, 0, 3, 60 + numbers_below(&r, 250), &r);
            }
            check_pack(isa[0], isa[i], id, 15, 2, 1024, &r);
            check_pack(isa[0], isa[i], id, 0, 2, 1023, &r);
        }
}

static void keys_copied_from_wire_elements_have_the_bytes_of_packed_ones(void)
{
    static const struct {
        enum storage_id id;
        enum element element;
        size_t bytes;
    } types[] = {{STORAGE_F32, ELEMENT_F32, 4}, {STORAGE_BF16, ELEMENT_BF16, 2}, {STORAGE_F16, ELEMENT_F16, 2}};
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {17};
    for (size_t i = 0; i < n_isas; i++)
        for (size_t round = 0; round < 200; round++) {
            size_t type = numbers_below(&r, 3), bytes = types[type].bytes, n = numbers_below(&r, 68);
            size_t d = 1 + numbers_below(&r, round % 10 ? 70 : 1024), stride = d + numbers_below(&r, 40);
            size_t row = numbers_below(&r, 40), block = (row + n + PANEL) / PANEL * PANEL * ((d + 1) / 2 * 2) * bytes;
            float *rows = malloc(n * d * 4 + 4);
            unsigned char *a = numbers_block(block), *b = numbers_block(block);
            char *wire = malloc(n * stride * bytes + 1), *odd = wire + 1; /* elements may be unaligned */
            for (size_t x = 0; x < n * stride * bytes; x++)
                odd[x] = (char)numbers_below(&r, 64); /* small numbers of every type: none is NaN */
            memset(a, 0x5a, block);
            memset(b, 0x5a, block);
            isa[0]->widen[types[type].element](odd, n, d, stride, 1, rows);
            isa[0]->pack_keys[types[type].id](rows, n, d, a, row);
            isa[i]->copy_keys(odd, n, d * bytes, stride * bytes, b, row);
            CU_ASSERT(memcmp(a, b, block) == 0);
            free(rows);
            free(a);
            free(b);
            free(wire);
        }
}

static void keys_lie_in_panels_of_16_rows_coordinate_after_coordinate(void)
{
    const struct kernels *k = kernels_best();
    enum { N = 20, D = 3 };
    float rows[N * D];
    for (size_t i = 0; i < N * D; i++)
        rows[i] = (float)i;
    float *f32 = numbers_block(32 * D * 4);
    uint16_t *bf16 = numbers_block(32 * 4 * 2);
    k->pack_keys[STORAGE_F32](rows, N, D, f32, 0);
    k->pack_keys[STORAGE_BF16](rows, N, D, bf16, 0);
    CU_ASSERT_EQUAL(f32[0 * PANEL + 5], rows[5 * D]);                  /* row 5, coordinate 0 */
    CU_ASSERT_EQUAL(f32[D * PANEL + 2 * PANEL + 1], rows[17 * D + 2]); /* row 17, coordinate 2 */
    CU_ASSERT_EQUAL(bf16_to_f32(bf16[5 * 2 + 1]), rows[5 * D + 1]);
    CU_ASSERT_EQUAL(bf16_to_f32(bf16[2 * PANEL * 2 + (PANEL + 1) * 2]), rows[17 * D + 2]);
    CU_ASSERT_EQUAL(bf16[2 * PANEL * 2 + (PANEL + 1) * 2 + 1], 0); /* beside an odd last coordinate */
    CU_ASSERT_EQUAL(storage_table[STORAGE_BF16].key_bytes(D), 8);
    CU_ASSERT_EQUAL(storage_table[STORAGE_F16].value_bytes(D), 6);
    free(f32);
    free(bf16);
}

static void wire_elements_widen_from_any_address_and_stride(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {8};
    for (size_t i = 0; i < n_isas; i++)
        for (enum element element = 0; element < N_ELEMENT; element++)
            for (size_t width = 0; width <= 67; width++) {
                size_t n = 1 + numbers_below(&r, 3), stride = width + numbers_below(&r, 4),
                       size = element == ELEMENT_F32 ? 4 : 2;
                size_t elements = (n - 1) * stride + width;
                char *bytes = malloc(elements * size + 1);
                for (size_t j = 0; j < elements * size + 1; j++)
                    bytes[j] = (char)numbers_bits(&r);
                float *a = malloc(n * width * 4 + 4), *b = malloc(n * width * 4 + 4);
                b[n * width] = -77;
                isa[0]->widen[element](bytes + 1, n, width, stride, 0.3f, a);
                isa[i]->widen[element](bytes + 1, n, width, stride, 0.3f, b);
                bool right = b[n * width] == -77;
                for (size_t j = 0; j < n * width; j++)
                    right &= same(a[j], b[j]);
                CU_ASSERT(right);
                free(bytes);
                free(a);
                free(b);
            }
}

static void magnitude_is_the_largest_and_infinity_when_anything_is_not_finite(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {9};
    for (size_t i = 0; i < n_isas; i++)
        for (enum element element = 0; element < N_ELEMENT; element++)
            for (size_t n = 0; n <= 67; n++) {
                size_t size = element == ELEMENT_F32 ? 4 : 2, at = n ? numbers_below(&r, n) : 0;
                char *bytes = malloc(n * size + 1);
                float largest = 0;
                for (size_t j = 0; j < n; j++) {
                    float x = numbers_unit(&r);
                    uint16_t h = element == ELEMENT_F16 ? f16_of_f32(x) : bf16_of_f32(x);
                    memcpy(bytes + 1 + j * size, size == 4 ? (void *)&x : (void *)&h, size);
                    x = fabsf(size == 4 ? x : element == ELEMENT_F16 ? f16_to_f32(h) : bf16_to_f32(h));
                    largest = x > largest ? x : largest;
                }
                CU_ASSERT_EQUAL(isa[i]->magnitude[element](bytes + 1, n), largest);
                for (size_t what = 0; what < 3 && n; what++) {
                    float x = what == 0 ? NAN : what == 1 ? -INFINITY : f32_of_bits(0xff800001u | 0x20000u);
                    uint16_t h = element == ELEMENT_F16 ? f16_of_f32(x) : bf16_of_f32(x);
                    memcpy(bytes + 1 + at * size, size == 4 ? (void *)&x : (void *)&h, size);
                    CU_ASSERT_EQUAL(isa[i]->magnitude[element](bytes + 1, n), INFINITY);
                }
                free(bytes);
            }
}

TEST_SUITE("lib/kernels/rows", TEST(narrowing_rounds_to_nearest_ties_to_even), TEST(a_nan_stays_a_nan_and_becomes_quiet),
           TEST(every_16_bit_number_survives_a_round_trip), TEST(a_half_has_the_value_that_its_fields_say),
           TEST(the_largest_magnitude_still_rounds_to_a_finite_number),
           TEST(packed_rows_have_the_same_bytes_on_every_table_and_unpack_rounded),
           TEST(keys_copied_from_wire_elements_have_the_bytes_of_packed_ones),
           TEST(keys_lie_in_panels_of_16_rows_coordinate_after_coordinate),
           TEST(wire_elements_widen_from_any_address_and_stride),
           TEST(magnitude_is_the_largest_and_infinity_when_anything_is_not_finite))
