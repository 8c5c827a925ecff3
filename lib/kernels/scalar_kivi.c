/* The kernels of kivi2 (kernels/kivi.h) in their plainest form. */
#include "kernels/kivi.h"
#include "kernels/tables.h"
#include <math.h>

static float half_of(const char *at, size_t i)
{
    uint16_t half;
    memcpy(&half, at + 2 * i, sizeof half);
    return f16_to_f32(half);
}

static uint32_t word_of(const char *at, size_t i)
{
    uint32_t word;
    memcpy(&word, at + 4 * i, sizeof word);
    return word;
}

static float read_back(float zero, float scale, uint32_t code)
{
    float above = scale * (float)code;
    return zero + above;
}

/* x, `stride` apart. */
static struct kivi_group group_of(const float *x, size_t n, size_t stride)
{
    float low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        low = x[i * stride] < low ? x[i * stride] : low;
        high = x[i * stride] > high ? x[i * stride] : high;
    }
    return kivi_group_of(low, high);
}

static uint32_t code_of(float x, float zero, float inverse)
{
    float above = (x - zero) * inverse, at = above + 0.5f;
    return (uint32_t)(!(at > 0) ? 0 : at < 3 ? at : 3);
}

/* Up to 16 codes, from bit 0 on. */
static uint32_t word_of_codes(const float *x, size_t n, size_t stride, const struct kivi_group *group)
{
    float zero = f16_to_f32(group->zero), inverse = kivi_inverse(f16_to_f32(group->scale));
    uint32_t word = 0;
    for (size_t i = 0; i < n; i++)
        word |= code_of(x[i * stride], zero, inverse) << 2 * i;
    return word;
}

static float key_at(const void *keys, size_t d, size_t row, size_t c)
{
    struct kivi_params params = kivi_params_of(keys, d, row);
    uint32_t code = word_of(kivi_panel(keys, d, row), c) >> 2 * (row % PANEL) & 3;
    return read_back(half_of(params.zero, c), half_of(params.scale, c), code);
}

static float value_at(const void *values, size_t e, size_t row, size_t c)
{
    const char *block = (const char *)values + row * kivi_bytes(e) + c / QUANT_BLOCK * KIVI_BLOCK_BYTES;
    uint32_t code = word_of(block + 4, c % QUANT_BLOCK / 16) >> 2 * (c % 16) & 3;
    return read_back(half_of(block, 1), half_of(block, 0), code);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

void scalar_pack_keys_kivi2(const float *rows, size_t n, size_t d, void *keys, size_t row)
{
    for (size_t j = 0; j < n; j += KIVI_ROWS, rows += KIVI_ROWS * d) {
        size_t here = smaller(n - j, KIVI_ROWS), first = smaller(here, PANEL), padded = kivi_padded(d);
        char *panel = (char *)keys + (row + j) / PANEL * kivi_panel_bytes(d), *second = panel + kivi_panel_bytes(d);
        for (size_t c = 0; c < padded; c++) {
            struct kivi_group group = {0};
            uint32_t word[2] = {0};
            if (c < d) {
                group = group_of(rows + c, here, d);
                word[0] = word_of_codes(rows + c, first, d, &group);
                word[1] = word_of_codes(rows + c + first * d, here - first, d, &group);
            }
            memcpy(panel + 4 * c, &word[0], 4);
            memcpy(second + 4 * c, &word[1], 4);
            memcpy(panel + 4 * padded + 2 * c, &group.scale, 2);
            memcpy(second + 4 * padded + 2 * c, &group.zero, 2);
        }
    }
}

/* The columns that a last block lacks have code 0. */
void scalar_pack_values_kivi2(const float *rows, size_t n, size_t e, void *values, size_t row)
{
    char *to = (char *)values + row * kivi_bytes(e);
    for (size_t j = 0; j < n; j++, rows += e)
        for (size_t c = 0; c < e; c += QUANT_BLOCK, to += KIVI_BLOCK_BYTES) {
            size_t here = smaller(e - c, QUANT_BLOCK), first = smaller(here, 16);
            struct kivi_group group = group_of(rows + c, here, 1);
            uint32_t word[2] = {word_of_codes(rows + c, first, 1, &group),
                                word_of_codes(rows + c + first, here - first, 1, &group)};
            memcpy(to, &group.scale, 2);
            memcpy(to + 2, &group.zero, 2);
            memcpy(to + 4, word, sizeof word);
        }
}

void scalar_unpack_keys_kivi2(const void *keys, size_t row, size_t n, size_t d, float *rows)
{
    for (size_t j = 0; j < n; j++)
        for (size_t c = 0; c < d; c++)
            rows[j * d + c] = key_at(keys, d, row + j, c);
}

void scalar_unpack_values_kivi2(const void *values, size_t row, size_t n, size_t e, float *rows)
{
    for (size_t j = 0; j < n; j++)
        for (size_t c = 0; c < e; c++)
            rows[j * e + c] = value_at(values, e, row + j, c);
}

void scalar_score_kivi2(const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n, float *s, size_t lds)
{
    for (size_t j = 0; j < n; j++)
        for (size_t i = 0; i < n_q; i++) {
            float dot = 0;
            for (size_t c = 0; c < d; c++)
                dot += q[i * d + c] * key_at(keys, d, row + j, c);
            s[i * lds + j] = dot;
        }
}

void scalar_accumulate_kivi2(const float *p, size_t ldp, const float *f, size_t n_q, const void *values, size_t row, size_t n,
                             size_t e, float *acc, size_t lda)
{
    for (size_t i = 0; i < n_q; i++) {
        float *a = acc + i * lda;
        for (size_t c = 0; c < e; c++)
            a[c] = f[i] == 0 ? 0 : a[c] * f[i];
        for (size_t j = 0; j < n; j++)
            for (size_t c = 0; c < e; c++)
                a[c] += p[i * ldp + j] * value_at(values, e, row + j, c);
    }
}

size_t scalar_nearest_kivi2(const float *key, size_t d, const void *keys, size_t n, float *distance)
{
    size_t row = 0;
    *distance = INFINITY;
    for (size_t j = 0; j < n; j++) {
        float sum = 0;
        for (size_t c = 0; c < d; c++) {
            float off = key[c] - key_at(keys, d, j, c), square = off * off;
            sum += square;
        }
        if (sum < *distance) {
            *distance = sum;
            row = j;
        }
    }
    return row;
}
