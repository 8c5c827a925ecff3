/* The scalar table: every kernel in its plainest form. It is the twin that the faster tables are tested against, and it runs
 * on any CPU. What depends on how rows are stored goes through scalar_rows.h. */
#include "kernels/scalar_nearest.h"
#include "kernels/scalar_rows.h"
#include "kernels/tables.h"
#include <math.h>

/* exp in double, rounded once to float: x = n ln2 + r, |r| <= ln2/2, and the Taylor polynomial of degree 9 of e^r, whose rest
 * is below r^10/10! < 7e-12: the result is off by 0.5001 ulp at most. The power of two is built as a double, so results that
 * are denormal floats are rounded once as well. */
static float exp_scalar(float x)
{
    static const double taylor[] = {1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1, 1};
    if (!(x > -104.0f)) /* below ln(2^-150): rounds to 0; a NaN passes through */
        return x != x ? x : 0;
    if (x > 89.0f)
        return INFINITY;
    double n = nearbyint(x * 1.4426950408889634), r = x - n * 0.6931471805599453, y = 0;
    for (size_t i = 0; i < sizeof taylor / sizeof taylor[0]; i++)
        y = y * r + taylor[i];
    uint64_t bits = (uint64_t)(1023 + (int)n) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return (float)(y * power);
}

static void exponential(const float *x, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = exp_scalar(x[i]);
}

static float weigh(float *s, size_t lo, size_t hi, size_t n, const float *log_w, float *max, float *sum)
{
    float old = *max, m = old, total = 0;
    for (size_t j = lo; j < hi; j++) {
        s[j] += log_w ? log_w[j] : 0;
        m = s[j] > m ? s[j] : m;
    }
    for (size_t j = 0; j < n; j++) {
        s[j] = j >= lo && j < hi && m > -INFINITY ? exp_scalar(s[j] - m) : 0;
        total += s[j];
    }
    float f = old > -INFINITY ? exp_scalar(old - m) : 0;
    *sum = (f > 0 ? *sum * f : 0) + total;
    *max = m;
    return f;
}

static void multiply(const float *a, const float *b, size_t n, float *out)
{
    for (size_t c = 0; c < n; c++)
        out[c] = a[c] * b[c];
}

static void multiply_add(float w, const float *a, const float *b, size_t n, float *acc)
{
    for (size_t c = 0; c < n; c++)
        acc[c] += w * a[c] * b[c];
}

static void combine(float f, float *y, float g, const float *x, size_t n)
{
    for (size_t c = 0; c < n; c++)
        y[c] = y[c] * f + x[c] * g;
}

static inline void score_any(enum storage_id id, const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n,
                             float *s, size_t lds)
{
    for (size_t i = 0; i < n_q; i++)
        for (size_t j = 0; j < n; j++) {
            float dot = 0;
            for (size_t c = 0; c < d; c++)
                dot += q[i * d + c] * key_get(id, keys, d, row + j, c);
            s[i * lds + j] = dot;
        }
}

static inline void accumulate_any(enum storage_id id, const float *p, size_t ldp, const float *f, size_t n_q,
                                  const void *values, size_t row, size_t n, size_t e, float *acc, size_t lda)
{
    for (size_t i = 0; i < n_q; i++) {
        float *a = acc + i * lda;
        for (size_t c = 0; c < e; c++)
            a[c] = f[i] == 0 ? 0 : a[c] * f[i];
        for (size_t j = 0; j < n; j++)
            for (size_t c = 0; c < e; c++)
                a[c] += p[i * ldp + j] * value_get(id, values, e, row + j, c);
    }
}

static inline void pack_keys_any(enum storage_id id, const float *rows, size_t n, size_t d, void *keys, size_t row)
{
    for (size_t j = 0; j < n; j++) {
        for (size_t c = 0; c < d; c++)
            key_put(id, keys, d, row + j, c, rows[j * d + c]);
        if (d % 2 && id != STORAGE_F32)
            key_put(id, keys, d, row + j, d, 0);
    }
}

static void copy_keys(const void *in, size_t n, size_t row_bytes, size_t stride, void *keys, size_t row)
{
    size_t n_units = (row_bytes + 3) / 4;
    for (size_t j = row; j < row + n; j++)
        for (size_t u = 0; u < n_units; u++) {
            char *unit = (char *)keys + ((j / PANEL * n_units + u) * PANEL + j % PANEL) * 4;
            memset(unit, 0, 4);
            memcpy(unit, (const char *)in + (j - row) * stride + u * 4, row_bytes - u * 4 < 4 ? row_bytes - u * 4 : 4);
        }
}

static inline void unpack_keys_any(enum storage_id id, const void *keys, size_t row, size_t n, size_t d, float *rows)
{
    for (size_t j = 0; j < n; j++)
        for (size_t c = 0; c < d; c++)
            rows[j * d + c] = key_get(id, keys, d, row + j, c);
}

static inline void pack_values_any(enum storage_id id, const float *rows, size_t n, size_t e, void *values, size_t row)
{
    for (size_t j = 0; j < n; j++)
        for (size_t c = 0; c < e; c++)
            value_put(id, values, e, row + j, c, rows[j * e + c]);
}

static inline void unpack_values_any(enum storage_id id, const void *values, size_t row, size_t n, size_t e, float *rows)
{
    for (size_t j = 0; j < n; j++)
        for (size_t c = 0; c < e; c++)
            rows[j * e + c] = value_get(id, values, e, row + j, c);
}

static inline void widen_any(enum element element, const void *in, size_t n, size_t width, size_t stride, float factor,
                             float *out)
{
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < width; c++)
            out[i * width + c] = element_get(element, in, i * stride + c) * factor;
}

static inline float magnitude_any(enum element element, const void *in, size_t n)
{
    float largest = 0;
    for (size_t i = 0; i < n; i++) {
        float x = fabsf(element_get(element, in, i));
        largest = x > largest ? x : largest;
        if (!(x < INFINITY))
            return INFINITY;
    }
    return largest;
}

/* The slots of one storage: the functions above with the storage as a constant. */
#define SLOTS_OF_STORAGE(id, x)                                                                                                \
    static void score_##x(const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n, float *s, size_t lds)  \
    {                                                                                                                          \
        score_any(id, q, n_q, d, keys, row, n, s, lds);                                                                        \
    }                                                                                                                          \
    static void accumulate_##x(const float *p, size_t ldp, const float *f, size_t n_q, const void *values, size_t row,         \
                               size_t n, size_t e, float *acc, size_t lda)                                                     \
    {                                                                                                                          \
        accumulate_any(id, p, ldp, f, n_q, values, row, n, e, acc, lda);                                                       \
    }                                                                                                                          \
    static void pack_keys_##x(const float *rows, size_t n, size_t d, void *keys, size_t row)                                   \
    {                                                                                                                          \
        pack_keys_any(id, rows, n, d, keys, row);                                                                              \
    }                                                                                                                          \
    static void pack_values_##x(const float *rows, size_t n, size_t e, void *values, size_t row)                               \
    {                                                                                                                          \
        pack_values_any(id, rows, n, e, values, row);                                                                          \
    }                                                                                                                          \
    static void unpack_keys_##x(const void *keys, size_t row, size_t n, size_t d, float *rows)                                 \
    {                                                                                                                          \
        unpack_keys_any(id, keys, row, n, d, rows);                                                                            \
    }                                                                                                                          \
    static void unpack_values_##x(const void *values, size_t row, size_t n, size_t e, float *rows)                             \
    {                                                                                                                          \
        unpack_values_any(id, values, row, n, e, rows);                                                                        \
    }

#define SLOTS_OF_ELEMENT(id, x)                                                                                                \
    static void widen_##x(const void *in, size_t n, size_t width, size_t stride, float factor, float *out)                     \
    {                                                                                                                          \
        widen_any(id, in, n, width, stride, factor, out);                                                                      \
    }                                                                                                                          \
    static float magnitude_##x(const void *in, size_t n)                                                                       \
    {                                                                                                                          \
        return magnitude_any(id, in, n);                                                                                       \
    }

SLOTS_OF_STORAGE(STORAGE_F32, f32)
SLOTS_OF_STORAGE(STORAGE_BF16, bf16)
SLOTS_OF_STORAGE(STORAGE_F16, f16)
SLOTS_OF_ELEMENT(ELEMENT_F32, f32)
SLOTS_OF_ELEMENT(ELEMENT_BF16, bf16)
SLOTS_OF_ELEMENT(ELEMENT_F16, f16)

const struct kernels kernels_scalar = {
    .isa = "scalar",
    .score = PER_KEY_STORAGE(score, scalar_score),
    .weigh = weigh,
    .accumulate = PER_VALUE_STORAGE(accumulate, scalar_accumulate),
    .pair_rows = scalar_pair_rows,
    .weigh_bf16 = scalar_weigh_bf16,
    .product_bf16 = scalar_product_bf16,
    .nearest = PER_KEY_STORAGE(nearest, scalar_nearest),
    .multiply = multiply,
    .multiply_add = multiply_add,
    .combine = combine,
    .exponential = exponential,
    .pack_keys = PER_KEY_STORAGE(pack_keys, scalar_pack_keys),
    .pack_values = PER_VALUE_STORAGE(pack_values, scalar_pack_values),
    .unpack_keys = PER_KEY_STORAGE(unpack_keys, scalar_unpack_keys),
    .unpack_values = PER_VALUE_STORAGE(unpack_values, scalar_unpack_values),
    .copy_keys = copy_keys,
    .widen = PER_ELEMENT(widen),
    .magnitude = PER_ELEMENT(magnitude),
};
