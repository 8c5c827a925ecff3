/* The kernels of keys with a sketch (kernels/sketch.h) in their plainest form; values are those of the plain storage. */
#include "kernels/sketch.h"
#include "kernels/tables.h"

/* A key as it is scored: rotated, its sketch projected back. */
static void rotated_key(enum storage_id id, const void *keys, size_t row, size_t d, const struct sketch_maps *maps, float *x)
{
    float y[SHAPE_DIM_MAX] = {0};
    struct sketch_key key = {{{0}, {0}}, {{0}, {0}}};
    sketch_get_key(id, (const uint32_t *)keys + quant_key_unit(sketch_plain(id), d, row), d, &key);
    sketch_decode(id, &key, d, x, y);
    unrotate(y, d, maps->projection[1]);
    unrotate(y, d, maps->projection[0]);
    for (size_t c = 0; c < d; c++)
        x[c] += y[c];
}

static void score_sketch(enum storage_id id, const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n,
                         float *s, size_t lds)
{
    float rotated[SHAPE_DIM_MAX] = {0}, key[SHAPE_DIM_MAX] = {0};
    struct sketch_maps maps;
    sketch_maps_of(d, &maps);
    for (size_t i = 0; i < n_q; i++, q += d, s += lds) {
        rotate(q, d, maps.rotation, rotated);
        for (size_t j = 0; j < n; j++) {
            float dot = 0;
            rotated_key(id, keys, row + j, d, &maps, key);
            for (size_t c = 0; c < d; c++)
                dot += rotated[c] * key[c];
            s[j] = dot;
        }
    }
}

static void pack_sketch(enum storage_id id, const float *rows, size_t n, size_t d, void *keys, size_t row)
{
    float x[SHAPE_DIM_MAX] = {0}, rest[SHAPE_DIM_MAX] = {0}, norm[QUANT_BLOCKS_MAX] = {0};
    size_t bits = sketch_code_bits(id);
    struct sketch_key key = {{{0}, {0}}, {{0}, {0}}};
    struct sketch_maps maps;
    sketch_maps_of(d, &maps);
    for (size_t j = 0; j < n; j++, rows += d) {
        rotate(rows, d, maps.rotation, x);
        if (bits == 1)
            sketch_signs(x, d, key.base.code);
        else
            quant_encode(sketch_base(bits), x, d, &key.base);
        sketch_fit(bits, x, d, &key.base, rest, norm);
        rotate(rest, d, maps.projection[0], rest);
        rotate(rest, d, maps.projection[1], rest);
        sketch_project(rest, d, norm, &key.sign);
        sketch_put_key(id, &key, d, (uint32_t *)keys + quant_key_unit(sketch_plain(id), d, row + j));
    }
}

static void unpack_sketch(enum storage_id id, const void *keys, size_t row, size_t n, size_t d, float *rows)
{
    struct sketch_maps maps;
    sketch_maps_of(d, &maps);
    for (size_t j = 0; j < n; j++, rows += d) {
        rotated_key(id, keys, row + j, d, &maps, rows);
        unrotate(rows, d, maps.rotation);
    }
}

static size_t nearest_sketch(enum storage_id id, const float *x, size_t d, const void *keys, size_t n, float *distance)
{
    float key[SHAPE_DIM_MAX] = {0};
    size_t row = 0;
    *distance = INFINITY;
    for (size_t j = 0; j < n; j++) {
        float sum = 0;
        unpack_sketch(id, keys, j, 1, d, key);
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

#define SLOTS(id, x)                                                                                                           \
    void scalar_score_##x(const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n, float *s, size_t lds)  \
    {                                                                                                                          \
        score_sketch(id, q, n_q, d, keys, row, n, s, lds);                                                                     \
    }                                                                                                                          \
    void scalar_pack_keys_##x(const float *rows, size_t n, size_t d, void *keys, size_t row)                                   \
    {                                                                                                                          \
        pack_sketch(id, rows, n, d, keys, row);                                                                                \
    }                                                                                                                          \
    void scalar_unpack_keys_##x(const void *keys, size_t row, size_t n, size_t d, float *rows)                                 \
    {                                                                                                                          \
        unpack_sketch(id, keys, row, n, d, rows);                                                                              \
    }                                                                                                                          \
    size_t scalar_nearest_##x(const float *key, size_t d, const void *keys, size_t n, float *distance)                         \
    {                                                                                                                          \
        return nearest_sketch(id, key, d, keys, n, distance);                                                                  \
    }
SLOTS(STORAGE_ROT4S, rot4s)
SLOTS(STORAGE_ROT3S, rot3s)
SLOTS(STORAGE_ROT2S, rot2s)
