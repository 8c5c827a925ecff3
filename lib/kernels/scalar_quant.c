/* The kernels of quantised rows in their plainest form: the twin that faster ones are tested against, and what a table has where
 * it has nothing faster. Rotated storages meet rotated queries, and sums of rotated values are rotated back once, so nobody
 * outside knows of the rotation; a row that is read back is rotated back, too. */
#include "kernels/quant_code.h"
#include "kernels/rotate.h"
#include "kernels/tables.h"

enum { QUERIES = 8 }; /* side by side, so that a row is decoded once for them */

static inline void score_quant(enum storage_id id, const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n,
                               float *s, size_t lds)
{
    float factor[SHAPE_DIM_MAX], rotated[QUERIES * SHAPE_DIM_MAX], key[SHAPE_DIM_MAX];
    struct quant_row codes = {0};
    if (quant_rotates(id))
        rotate_factors(d, factor);
    for (size_t first = 0, m; first < n_q; first += m, q += m * d, s += m * lds) {
        m = n_q - first < QUERIES ? n_q - first : QUERIES;
        for (size_t i = 0; i < m && quant_rotates(id); i++)
            rotate(q + i * d, d, factor, rotated + i * d);
        const float *use = quant_rotates(id) ? rotated : q;
        for (size_t j = 0; j < n; j++) {
            quant_get_key(id, (const uint32_t *)keys + quant_key_unit(id, d, row + j), d, &codes);
            quant_decode(id, &codes, d, key);
            for (size_t i = 0; i < m; i++) {
                float dot = 0;
                for (size_t c = 0; c < d; c++)
                    dot += use[i * d + c] * key[c];
                s[i * lds + j] = dot;
            }
        }
    }
}

static inline void accumulate_quant(enum storage_id id, const float *p, size_t ldp, const float *f, size_t n_q,
                                    const void *values, size_t row, size_t n, size_t e, float *acc, size_t lda)
{
    float factor[SHAPE_DIM_MAX], sum[QUERIES * SHAPE_DIM_MAX], value[SHAPE_DIM_MAX];
    struct quant_row codes = {0};
    size_t row_bytes = quant_value_bytes(id, e);
    if (quant_rotates(id))
        rotate_factors(e, factor);
    for (size_t first = 0, m; first < n_q; first += m, p += m * ldp, acc += m * lda, f += m) {
        m = n_q - first < QUERIES ? n_q - first : QUERIES;
        memset(sum, 0, m * e * sizeof *sum);
        for (size_t j = 0; j < n; j++) {
            quant_get_value(id, (const uint8_t *)values + (row + j) * row_bytes, e, &codes);
            quant_decode(id, &codes, e, value);
            for (size_t i = 0; i < m; i++)
                for (size_t c = 0; c < e; c++)
                    sum[i * e + c] += p[i * ldp + j] * value[c];
        }
        for (size_t i = 0; i < m; i++) {
            if (quant_rotates(id))
                unrotate(sum + i * e, e, factor);
            for (size_t c = 0; c < e; c++)
                acc[i * lda + c] = (f[i] == 0 ? 0 : acc[i * lda + c] * f[i]) + sum[i * e + c];
        }
    }
}

static inline void pack_quant(enum storage_id id, bool keys, const float *rows, size_t n, size_t width, void *block, size_t row)
{
    float factor[SHAPE_DIM_MAX], rotated[SHAPE_DIM_MAX];
    struct quant_row codes = {0};
    if (quant_rotates(id))
        rotate_factors(width, factor);
    for (size_t j = 0; j < n; j++, rows += width) {
        if (quant_rotates(id))
            rotate(rows, width, factor, rotated);
        quant_encode(id, quant_rotates(id) ? rotated : rows, width, &codes);
        if (keys)
            quant_put_key(id, &codes, width, (uint32_t *)block + quant_key_unit(id, width, row + j));
        else
            quant_put_value(id, &codes, width, (uint8_t *)block + (row + j) * quant_value_bytes(id, width));
    }
}

static inline void unpack_quant(enum storage_id id, bool keys, const void *block, size_t row, size_t n, size_t width,
                                float *rows)
{
    float factor[SHAPE_DIM_MAX];
    struct quant_row codes = {0};
    if (quant_rotates(id))
        rotate_factors(width, factor);
    for (size_t j = 0; j < n; j++, rows += width) {
        if (keys)
            quant_get_key(id, (const uint32_t *)block + quant_key_unit(id, width, row + j), width, &codes);
        else
            quant_get_value(id, (const uint8_t *)block + (row + j) * quant_value_bytes(id, width), width, &codes);
        quant_decode(id, &codes, width, rows);
        if (quant_rotates(id))
            unrotate(rows, width, factor);
    }
}

static inline size_t nearest_quant(enum storage_id id, const float *x, size_t d, const void *keys, size_t n, float *distance)
{
    float key[SHAPE_DIM_MAX] = {0};
    size_t row = 0;
    *distance = INFINITY;
    for (size_t j = 0; j < n; j++) {
        float sum = 0;
        unpack_quant(id, true, keys, j, 1, d, key);
        for (size_t c = 0; c < d; c++) {
            float off = x[c] - key[c], square = off * off;
            sum += square;
        }
        if (sum < *distance) {
            *distance = sum;
            row = j;
        }
    }
    return row;
}

/* The slots of one storage: the functions above with the storage as a constant. */
#define SLOTS(id, x)                                                                                                           \
    void scalar_score_##x(const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n, float *s, size_t lds)  \
    {                                                                                                                          \
        score_quant(id, q, n_q, d, keys, row, n, s, lds);                                                                      \
    }                                                                                                                          \
    void scalar_accumulate_##x(const float *p, size_t ldp, const float *f, size_t n_q, const void *values, size_t row,         \
                               size_t n, size_t e, float *acc, size_t lda)                                                     \
    {                                                                                                                          \
        accumulate_quant(id, p, ldp, f, n_q, values, row, n, e, acc, lda);                                                     \
    }                                                                                                                          \
    void scalar_pack_keys_##x(const float *rows, size_t n, size_t d, void *keys, size_t row)                                   \
    {                                                                                                                          \
        pack_quant(id, true, rows, n, d, keys, row);                                                                           \
    }                                                                                                                          \
    void scalar_pack_values_##x(const float *rows, size_t n, size_t e, void *values, size_t row)                               \
    {                                                                                                                          \
        pack_quant(id, false, rows, n, e, values, row);                                                                        \
    }                                                                                                                          \
    void scalar_unpack_keys_##x(const void *keys, size_t row, size_t n, size_t d, float *rows)                                 \
    {                                                                                                                          \
        unpack_quant(id, true, keys, row, n, d, rows);                                                                         \
    }                                                                                                                          \
    void scalar_unpack_values_##x(const void *values, size_t row, size_t n, size_t e, float *rows)                             \
    {                                                                                                                          \
        unpack_quant(id, false, values, row, n, e, rows);                                                                      \
    }                                                                                                                          \
    size_t scalar_nearest_##x(const float *key, size_t d, const void *keys, size_t n, float *distance)                         \
    {                                                                                                                          \
        return nearest_quant(id, key, d, keys, n, distance);                                                                   \
    }

SLOTS(STORAGE_Q8_0, q8_0)
SLOTS(STORAGE_Q4_0, q4_0)
SLOTS(STORAGE_Q4_0H, q4_0h)
SLOTS(STORAGE_ROT8, rot8)
SLOTS(STORAGE_ROT4, rot4)
SLOTS(STORAGE_ROT3, rot3)
SLOTS(STORAGE_ROT2, rot2)
