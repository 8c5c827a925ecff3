/* From numbers to codes and back, in vectors of any width: the same bits as kernels/quant_code.h. Include after a
 * vector_<isa>_quant.h.
 *
 * Rows lie in buffers of QUANT_ROOM floats, whole blocks with zeros behind the last coordinate. Which storage it is is asked once
 * a span, not known to the compiler: one piece of code for all of them. */
#ifndef ATTND_KERNELS_VECTOR_QUANT_CODE_H
#define ATTND_KERNELS_VECTOR_QUANT_CODE_H

#include "kernels/quant_code.h"
#include "kernels/vector_tile.h"

/* Over n numbers, whole blocks. */
INLINE float largest_magnitude(const float *x, size_t n)
{
    vf most = v_set1(0), also = most;
    for (size_t c = 0; c < n; c += 2 * W) {
        most = v_max(v_magnitude(v_load(x + c)), most);
        also = v_max(v_magnitude(v_load(x + c + W)), also);
    }
    return v_max_lanes(v_max(most, also));
}

/* quant_round(x factor, 127). */
INLINE void codes_of_8(const float *x, size_t n, float factor, uint8_t *code)
{
    vf by = v_set1(factor), least = v_set1(-127), most = v_set1(127);
    vi sign = v_set1_bits(INT32_MIN), half = v_bits(v_set1(0.5f));
    for (size_t c = 0; c < n; c += W) {
        vf y = v_min(v_max(v_mul(v_load(x + c), by), least), most);
        v_store_bytes(code + c, v_truncate(v_add(y, v_floats(v_or(v_and(v_bits(y), sign), half)))));
    }
}

INLINE float block_of_8(const float *x, uint8_t *code)
{
    float d = largest_magnitude(x, QUANT_BLOCK) / 127, stored = f16_to_f32(f16_of_f32(d));
    codes_of_8(x, QUANT_BLOCK, stored > 0 ? 1 / d : 0, code);
    return stored;
}

/* The number that has the largest magnitude, the first of equal ones. */
INLINE float extreme_of_block(const float *x)
{
    vf high = v_set1(0), low = high;
    for (size_t c = 0; c < QUANT_BLOCK; c += W) {
        high = v_max(v_load(x + c), high);
        low = v_min(v_load(x + c), low);
    }
    float most = v_max_lanes(high), least = v_max_lanes(v_sub(v_set1(0), low)), extreme = 0;
    if (most != least)
        return most > least ? most : -least;
    for (size_t c = QUANT_BLOCK; c-- > 0;)
        extreme = fabsf(x[c]) >= most ? x[c] : extreme;
    return most > 0 ? extreme : 0;
}

INLINE float block_of_4(const float *x, uint8_t *code)
{
    float d = extreme_of_block(x) / -8, stored = f16_to_f32(f16_of_f32(d));
    vf by = v_set1(stored != 0 ? 1 / d : 0), middle = v_set1(8.5f), least = v_set1(0), most = v_set1(15);
    for (size_t c = 0; c < QUANT_BLOCK; c += W) {
        vf y = v_add(v_mul(v_load(x + c), by), middle);
        v_store_bytes(code + c, v_truncate(v_min(v_max(y, least), most)));
    }
    return stored;
}

INLINE float span_norm(const float *x, size_t n)
{
    float near_one = quant_near_one(largest_magnitude(x, n)), lane[QUANT_LANES];
    vf by = v_set1(near_one), sum[QUANT_LANES / W];
    for (size_t v = 0; v < QUANT_LANES / W; v++)
        sum[v] = v_set1(0);
    for (size_t c = 0; c < n; c += QUANT_LANES)
        for (size_t v = 0; v < QUANT_LANES / W; v++) {
            vf y = v_mul(v_load(x + c + v * W), by);
            sum[v] = v_add(sum[v], v_mul(y, y));
        }
    for (size_t v = 0; v < QUANT_LANES / W; v++)
        v_store(lane + v * W, sum[v]);
    return sqrtf(quant_sum_lanes(lane)) / near_one;
}

/* How the nearest level is found: magnitudes in halves, 0 to 255, are cut into sixteenths, none of which has more than one threshold
 * between levels. count: 16 times the thresholds below this sixteenth, and what carries to the next 16 from its own on. */
struct level_finder {
    int8_t count[16], level[16];
};

INLINE void find_levels(enum storage_id id, struct level_finder *f)
{
    int half = 1 << (quant_bits(id) - 1), n = 0;
    const int8_t *level = quant_levels(id) + half; /* the positive ones */
    for (int k = 0; k < 16; k++) {
        int next = n + 1 < half ? level[n] + level[n + 1] : 256;
        bool here = next < 16 * (k + 1);
        f->level[k] = k < half ? level[k] : 0;
        f->count[k] = (int8_t)(16 * n + (here ? 16 * (k + 1) - next : 0));
        n += here;
    }
}

/* quant_nearest_level of n coordinates, whole blocks; returns the sum of the levels' squares. */
INLINE int32_t codes_of_levels(size_t bits, const struct level_finder *f, const float *x, size_t n, float factor, uint8_t *code)
{
    vf by = v_set1(factor), most = v_set1(255);
    vi squares = v_set1_bits(0), below = v_set1_bits(-1), sixteenth = v_set1_bits(15), byte = v_set1_bits(255);
    vi least = v_set1_bits(1 << (bits - 1)), mirrored = v_add_bits(least, below);
    for (size_t c = 0; c < n; c += W) {
        vf y = v_mul(v_load(x + c), by);
        vi magnitude = v_truncate(v_min(v_magnitude(y), most));
        vi count = v_and(v_lookup(f->count, v_shift_down(magnitude, 4)), byte);
        vi k = v_shift_down(v_add_bits(count, v_and(magnitude, sixteenth)), 4);
        vi level = v_and(v_lookup(f->level, k), byte);
        squares = v_add_bits(squares, v_multiply_pairs(level, level));
        v_store_bytes(code + c, v_select_above(v_bits(y), below, v_add_bits(least, k), v_sub_bits(mirrored, k)));
    }
    int32_t lane[W], sum = 0;
    v_store_bits(lane, squares);
    for (size_t l = 0; l < W; l++)
        sum += lane[l];
    return sum;
}

/* The `here` coordinates of a span of `whole`. */
INLINE float span_of_levels(enum storage_id id, const struct level_finder *f, const float *x, size_t here, size_t whole,
                            uint8_t *code)
{
    size_t bits = quant_bits(id);
    float norm = span_norm(x, whole), factor = quant_factor(id, norm, here);
    int32_t absent = (int32_t)(whole - here) * f->level[0] * f->level[0], squares = 0;
    if (factor > 0)
        squares = codes_of_levels(bits, f, x, whole, factor, code) - absent;
    else
        memset(code, 1 << (bits - 1), here);
    memset(code + here, 0, whole - here);
    return factor > 0 ? quant_level_scale(norm, squares) : 0;
}

/* As quant_encode, of a row with zeros behind. f: of the storages with levels of their own. */
INLINE void encode_row(enum storage_id id, const struct level_finder *f, const float *x, size_t n, struct quant_row *row)
{
    bool bytes = quant_bits(id) == 8, blocks = quant_scales_blocks(id);
    size_t k = 0;
    for (size_t b = 0, end; b < quant_blocks(n); b = end, k++) {
        end = quant_scale_end(id, n, b);
        size_t at = b * QUANT_BLOCK, whole = (end - b) * QUANT_BLOCK;
        uint8_t *code = row->code + at;
        if (blocks) {
            row->scale[k] = bytes ? block_of_8(x + at, code) : block_of_4(x + at, code);
        } else if (bytes) {
            row->scale[k] = quant_scale_8(largest_magnitude(x + at, whole));
            codes_of_8(x + at, whole, quant_inverse_8(row->scale[k]), code);
        } else {
            row->scale[k] = span_of_levels(id, f, x + at, n - at < whole ? n - at : whole, whole, code);
        }
    }
}

/* As quant_decode, whole blocks of x, what is past n of no meaning; codes become levels where they lie. */
INLINE void decode_row(enum storage_id id, struct quant_row *row, size_t n, float *x)
{
    size_t n_blocks = quant_blocks(n), k = 0;
    if (quant_bits(id) < 8) {
        memset(row->code + n, 0, (n + 4 * W - 1) / (4 * W) * (4 * W) - n);
        for (size_t c = 0; c < n; c += 4 * W)
            v_store_bits(row->code + c, v_lookup(quant_levels(id), v_load_bits(row->code + c)));
    }
    for (size_t b = 0, end; b < n_blocks; b = end, k++) {
        vf scale = v_set1(row->scale[k]);
        end = quant_scale_end(id, n, b);
        for (size_t c = b * QUANT_BLOCK; c < end * QUANT_BLOCK; c += W)
            v_store(x + c, v_mul(scale, v_to_floats(v_load_bytes(row->code + c))));
    }
}

#endif
