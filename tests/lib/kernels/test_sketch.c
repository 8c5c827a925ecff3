/* Keys with a sketch: bytes against arithmetic of this file's own, every table against scalar, and what the sketch is for: inner
 * products without a bias, with the variance that theory says. */
#include "isas.h"
#include "kernels/element.h"
#include "kernels/rotate.h"
#include "kernels/sketch.h"
#include "numbers.h"
#include "tests/test.h"

#include <math.h>

static const struct {
    enum storage_id id, plain;
    double distortion; /* (pi/2 - 1) D(b-1) */
    double shrinkage;  /* of plain rot: sqrt(1 - D(b)) */
} table[] = {
    {STORAGE_ROT4S, STORAGE_ROT4, 0.570796 * 0.03454, 0.99524},
    {STORAGE_ROT3S, STORAGE_ROT3, 0.570796 * 0.1175, 0.98258},
    {STORAGE_ROT2S, STORAGE_ROT2, 0.570796 * 0.3634, 0.93943},
};
enum { N_SKETCH = sizeof table / sizeof *table };

/* Normal deviates (Box and Muller). */
static void fill_normal(struct numbers *r, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double u = (numbers_bits(r) + 1.0) * 0x1p-32, angle = numbers_bits(r) * 0x1p-32 * 6.283185307179586;
        x[i] = (float)(sqrt(-2 * log(u)) * cos(angle));
    }
}

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t c = 0; c < n; c++)
        sum += (double)a[c] * b[c];
    return sum;
}

static unsigned code_of(const uint32_t *unit, size_t bits, size_t c)
{
    const unsigned char *byte = (const unsigned char *)unit;
    if (bits == 1)
        return byte[c % 4] >> c / 4 & 1u;
    unsigned low = byte[c % 8] >> 2 * (c / 8) & 3u;
    return bits == 2 ? low : low | (byte[8 + c % 4] >> (c % 8 / 4 + 2 * (c / 8)) & 1u) << 2;
}

/* A row of 96 coordinates has spans of 64 and 32: two blocks and one. */
static void a_key_is_read_from_its_units_as_the_header_says(void)
{
    enum { D = 96, BLOCKS = 3, SPANS = 2 };
    struct numbers r = {1};
    for (size_t t = 0; t < N_SKETCH; t++) {
        size_t bits = quant_bits(table[t].plain) - 1, units = BLOCKS * (bits + 1) + SPANS;
        float row[D], back[D], x[D], y[D];
        struct sketch_maps maps;
        uint32_t unit[BLOCKS * 4 + SPANS], *keys = numbers_block(PANEL * sizeof unit);
        CU_ASSERT_EQUAL(storage_table[table[t].id].key_bytes(D), units * 4);
        CU_ASSERT_EQUAL(storage_table[table[t].id].key_bytes(D), storage_table[table[t].plain].key_bytes(D));
        CU_ASSERT_EQUAL(storage_table[table[t].id].value_bytes(D), storage_table[table[t].plain].value_bytes(D));
        fill_normal(&r, row, D);
        kernels_best()->pack_keys[table[t].id](row, 1, D, keys, 5);
        for (size_t u = 0; u < units; u++)
            unit[u] = keys[u * PANEL + 5];
        for (size_t c = 0; c < D; c++) {
            size_t b = c / 32;
            uint32_t scales = unit[BLOCKS * (bits + 1) + (c >= 64)];
            unsigned code = code_of(unit + b * bits, bits, c % 32), sign = code_of(unit + BLOCKS * bits + b, 1, c % 32);
            int level = bits == 1 ? 1 - 2 * (int)code : quant_levels(bits == 2 ? STORAGE_ROT2 : STORAGE_ROT3)[code];
            x[c] = bf16_to_f32((uint16_t)scales) * (float)level;
            y[c] = bf16_to_f32((uint16_t)(scales >> 16)) * (sign ? -1.0f : 1.0f);
        }
        sketch_maps_of(D, &maps);
        unrotate(y, D, maps.projection[1]);
        unrotate(y, D, maps.projection[0]);
        for (size_t c = 0; c < D; c++)
            x[c] += y[c];
        unrotate(x, D, maps.rotation);
        kernels_best()->unpack_keys[table[t].id](keys, 5, 1, D, back);
        for (size_t c = 0; c < D; c++)
            ASSERT_NEAR(back[c], x[c], 1e-5);
        free(keys);
    }
}

static void check_tables(enum storage_id id, const struct kernels *scalar, const struct kernels *k, size_t d, struct numbers *r)
{
    size_t n = numbers_below(r, 70), row = numbers_below(r, 40), room = 112, bytes = room * storage_table[id].key_bytes(d);
    float *rows = malloc(n * d * 4 + 4), *a = malloc(n * d * 4 + 4), *b = malloc(n * d * 4 + 4), x[1024], near[2];
    unsigned char *one = numbers_block(bytes), *other = numbers_block(bytes);
    static const float scales[] = {1, 0, 1e-42f, 1e-20f, 0x1p64f};
    numbers_fill(r, rows, n * d, scales[numbers_below(r, 5)]);
    fill_normal(r, x, d);
    memset(one, 0x2a, bytes);
    memset(other, 0x2a, bytes);
    scalar->pack_keys[id](rows, n, d, one, row);
    k->pack_keys[id](rows, n, d, other, row);
    CU_ASSERT(memcmp(one, other, bytes) == 0);
    b[n * d] = -77;
    scalar->unpack_keys[id](one, row, n, d, a);
    k->unpack_keys[id](one, row, n, d, b);
    CU_ASSERT(b[n * d] == -77 && memcmp(a, b, n * d * 4) == 0);
    bool finite = true;
    for (size_t i = 0; i < n * d; i++)
        finite &= fabsf(a[i]) < INFINITY;
    CU_ASSERT(finite);
    memset(one, 0, bytes);
    scalar->pack_keys[id](rows, n, d, one, 0);
    CU_ASSERT_EQUAL(scalar->nearest[id](x, d, one, n, &near[0]), k->nearest[id](x, d, one, n, &near[1]));
    CU_ASSERT_EQUAL(f32_bits(near[0]), f32_bits(near[1]));
    free(rows);
    free(a);
    free(b);
    free(one);
    free(other);
}

static void every_table_has_scalars_bytes_and_numbers(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {2};
    for (size_t i = 1; i < n_isas; i++)
        for (size_t t = 0; t < N_SKETCH; t++)
            for (size_t d = 1; d <= 1024; d += d < 70 ? 1 : 106)
                check_tables(table[t].id, isa[0], isa[i], d, &r);
}

/* Rounded to whole numbers of 16 bits, the query is off by 2^-16 of its largest coordinate; twice, rotated and projected, and the key
 * is the sum of two that may be as long as it. */
static void score_is_the_inner_product_with_the_key_as_it_reads_back(void)
{
    const struct kernels *isa[TEST_ISAS_MAX];
    size_t n_isas = test_isas(isa);
    struct numbers r = {3};
    for (size_t i = 0; i < n_isas; i++)
        for (size_t round = 0; round < 200; round++) {
            enum storage_id id = table[round % N_SKETCH].id;
            size_t d = 1 + numbers_below(&r, round % 8 ? 100 : 1024), n = numbers_below(&r, 68), n_q = numbers_below(&r, 12);
            size_t row = numbers_below(&r, 3) * PANEL, panels = (n + PANEL - 1) / PANEL * PANEL, lds = panels + 3;
            float *rows = malloc((n * d + 1) * 4), *q = malloc((n_q * d + 1) * 4), *s = malloc((n_q * lds + 1) * 4), one[80];
            unsigned char *keys = numbers_block((row + panels) * storage_table[id].key_bytes(d));
            fill_normal(&r, rows, n * d);
            fill_normal(&r, q, n_q * d);
            for (size_t x = 0; x < n_q * lds; x++)
                s[x] = -77;
            isa[i]->pack_keys[id](rows, n, d, keys, row);
            isa[i]->unpack_keys[id](keys, row, n, d, rows);
            isa[i]->score[id](q, n_q, d, keys, row, n, s, lds);
            bool close = true, kept = true;
            for (size_t a = 0; a < n_q; a++) {
                for (size_t j = 0; j < n; j++) {
                    double bound = sqrt(dot(q + a * d, q + a * d, d) * dot(rows + j * d, rows + j * d, d));
                    bound *= 3 * ((double)(d + 20) * 0x1p-24 + sqrt((double)d) * 0x1p-16);
                    close &= fabs(s[a * lds + j] - dot(q + a * d, rows + j * d, d)) <= bound;
                }
                for (size_t j = panels; j < lds; j++)
                    kept &= s[a * lds + j] == -77;
            }
            CU_ASSERT(close);
            CU_ASSERT(kept);
            if (n_q && n) { /* whichever others share the call */
                isa[i]->score[id](q + (n_q - 1) * d, 1, d, keys, row + (panels - PANEL), PANEL, one, 64);
                CU_ASSERT(memcmp(one, s + (n_q - 1) * lds + panels - PANEL, (n - (panels - PANEL)) * sizeof *one) == 0);
            }
            free(rows);
            free(q);
            free(s);
            free(keys);
        }
}

/* The mean of (score - <q,k>) / (|q| |k|) over trials, in standard errors of that mean, and as it is. */
struct bias {
    double mean, errors;
};

static struct bias bias_of(double sum, double squares, double n)
{
    double mean = sum / n, deviation = sqrt(squares / n - mean * mean);
    return (struct bias){mean, mean / (deviation / sqrt(n))};
}

/* N pairs of a query and a key that points its way more or less (cosine 0.45 in the mean, so that shrinkage shows): k = q + 2 noise. */
static struct bias bias_over_pairs(enum storage_id id, size_t d, struct numbers *r, double *cosine)
{
    enum { N = 8000, BATCH = 80 };
    float *q = malloc(BATCH * d * 4), *rows = malloc(BATCH * d * 4), *s = malloc(BATCH * BATCH * 4);
    unsigned char *keys = numbers_block(BATCH * storage_table[id].key_bytes(d));
    double sum = 0, squares = 0;
    *cosine = 0;
    for (size_t first = 0; first < N; first += BATCH) {
        fill_normal(r, q, BATCH * d);
        fill_normal(r, rows, BATCH * d);
        for (size_t i = 0; i < BATCH * d; i++)
            rows[i] = q[i] + 2 * rows[i];
        kernels_best()->pack_keys[id](rows, BATCH, d, keys, 0);
        kernels_best()->score[id](q, BATCH, d, keys, 0, BATCH, s, BATCH);
        for (size_t j = 0; j < BATCH; j++) {
            const float *query = q + j * d, *key = rows + j * d;
            double norms = sqrt(dot(query, query, d) * dot(key, key, d)), right = dot(query, key, d);
            double off = (s[j * BATCH + j] - right) / norms;
            sum += off;
            squares += off * off;
            *cosine += right / norms / N;
        }
    }
    free(q);
    free(rows);
    free(keys);
    free(s);
    return bias_of(sum, squares, N);
}

/* Five standard errors: by chance once in 1.7 million. The same test finds the bias of plain rot, (sqrt(1 - D) - 1) <q,k>. */
static void inner_products_are_unbiased_over_pairs_and_those_of_plain_rot_are_not(void)
{
    static const size_t dims[] = {64, 128, 96};
    struct numbers r = {4};
    for (size_t t = 0; t < N_SKETCH; t++)
        for (size_t i = 0; i < 3; i++) {
            double cosine;
            struct bias sketch = bias_over_pairs(table[t].id, dims[i], &r, &cosine);
            CU_ASSERT(fabs(sketch.errors) < 5);
            struct bias plain = bias_over_pairs(table[t].plain, dims[i], &r, &cosine);
            CU_ASSERT(plain.errors < -5);
            double expected = (table[t].shrinkage - 1) * cosine;
            CU_ASSERT(fabs(plain.mean - expected) < 0.15 * fabs(expected));
        }
}

/* Over draws of the transforms, with one key and one query for all: turning both by another random map before is another draw of R (and
 * of S R). The pairs are those that a rotation is for: few large coordinates, equal ones, and a query that is the key. */
static void turn(uint64_t seed, const float *x, size_t d, float *y)
{
    float factor[128];
    for (uint64_t step = 0; step < 2; step++, x = y) {
        rotate_factors_of(2 * seed + step, d, factor);
        rotate(x, d, factor, y);
    }
}

static void inner_products_are_unbiased_over_seeds_whatever_the_key(void)
{
    enum { D = 128, N = 8000 };
    for (size_t t = 0; t < N_SKETCH; t++)
        for (size_t pair = 0; pair < 3; pair++) {
            float key[D] = {0}, q[D] = {0}, turned[D], asked[D], s[PANEL];
            unsigned char *keys = numbers_block(PANEL * storage_table[table[t].id].key_bytes(D));
            double sum[2] = {0}, squares[2] = {0};
            for (size_t c = 0; c < D; c++) {
                key[c] = pair == 0 ? (c == 3 ? 10 : c == 40 ? -5.0f : 0) : pair == 1 ? 1 : (float)(c % 7);
                q[c] = pair == 0 ? (c == 3 ? 1 : 0.05f) : pair == 1 ? (float)(c % 3) : key[c];
            }
            double norms = sqrt(dot(q, q, D) * dot(key, key, D)), right = dot(q, key, D);
            for (uint64_t seed = 0; seed < N; seed++) {
                turn(seed, key, D, turned);
                turn(seed, q, D, asked);
                for (size_t plain = 0; plain < 2; plain++) {
                    enum storage_id id = plain ? table[t].plain : table[t].id;
                    kernels_best()->pack_keys[id](turned, 1, D, keys, 0);
                    kernels_best()->score[id](asked, 1, D, keys, 0, 1, s, PANEL);
                    double off = (s[0] - right) / norms;
                    sum[plain] += off;
                    squares[plain] += off * off;
                }
            }
            CU_ASSERT(fabs(bias_of(sum[0], squares[0], N).errors) < 5);
            CU_ASSERT(bias_of(sum[1], squares[1], N).errors < -5);
            free(keys);
        }
}

/* Keys in random directions: |k' - k|^2 / |k|^2, and d times the mean square of a score's error beside |q|^2 |k|^2 for a query of its
 * own direction. Within a tenth: short rows fit their codes a little better than D says (a of the row itself: 1/n less). */
static void the_variance_is_what_theory_says_within_a_tenth(void)
{
    static const size_t dims[] = {64, 128, 256, 1024};
    enum { N = 4096 };
    struct numbers r = {5};
    for (size_t i = 0; i < 4; i++) {
        size_t d = dims[i];
        float *rows = malloc(N * d * 4), *back = malloc(N * d * 4), *q = malloc(4 * d * 4), *s = malloc(4 * N * 4);
        for (size_t t = 0; t < N_SKETCH; t++) {
            unsigned char *keys = numbers_block(N * storage_table[table[t].id].key_bytes(d));
            double off = 0, all = 0, square = 0;
            fill_normal(&r, rows, N * d);
            fill_normal(&r, q, 4 * d);
            kernels_best()->pack_keys[table[t].id](rows, N, d, keys, 0);
            kernels_best()->unpack_keys[table[t].id](keys, 0, N, d, back);
            kernels_best()->score[table[t].id](q, 4, d, keys, 0, N, s, N);
            for (size_t j = 0; j < N; j++) {
                double norm = dot(rows + j * d, rows + j * d, d);
                all += norm;
                for (size_t a = 0; a < 4; a++) {
                    double wrong = s[a * N + j] - dot(q + a * d, rows + j * d, d);
                    square += wrong * wrong / (dot(q + a * d, q + a * d, d) * norm) * (double)d / (4.0 * N);
                }
            }
            for (size_t x = 0; x < N * d; x++)
                off += ((double)back[x] - rows[x]) * ((double)back[x] - rows[x]);
            ASSERT_NEAR(off / all / table[t].distortion, 1, 0.1);
            ASSERT_NEAR(square / table[t].distortion, 1, 0.1);
            free(keys);
        }
        free(rows);
        free(back);
        free(q);
        free(s);
    }
}

TEST_SUITE("lib/kernels/sketch", TEST(a_key_is_read_from_its_units_as_the_header_says),
           TEST(every_table_has_scalars_bytes_and_numbers), TEST(score_is_the_inner_product_with_the_key_as_it_reads_back),
           TEST(inner_products_are_unbiased_over_pairs_and_those_of_plain_rot_are_not),
           TEST(inner_products_are_unbiased_over_seeds_whatever_the_key), TEST(the_variance_is_what_theory_says_within_a_tenth))
