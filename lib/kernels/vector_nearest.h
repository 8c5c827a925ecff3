/* The nearest row to a key, in vectors of any width: include after a vector_<isa>.h and vector_tile.h.
 *
 * A lane is a row, so its sum is one chain of additions over the coordinates, as in the scalar twin: product and sum are rounded
 * one after the other, never fused, which makes distances and thereby what a sketch keeps the same to the bit in every table.
 * Four vectors of rows go side by side, four chains to hide an addition's latency. Sums are never negative, so as integers
 * they are ordered as they are as floats. */
#ifndef ATTND_KERNELS_VECTOR_NEAREST_H
#define ATTND_KERNELS_VECTOR_NEAREST_H

#include "kernels/kernels.h"
#include "kernels/vector_tile.h"
#include <math.h>

enum { NEAREST_VECTORS = 4 };

/* The nearest row so far of each lane, and the rows' numbers. */
struct nearest_lanes {
    vf distance;
    vi row, lane; /* lane: 0, 1, 2, ... */
};

INLINE struct nearest_lanes nearest_none(void)
{
    int32_t lanes[W];
    for (int32_t l = 0; l < W; l++)
        lanes[l] = l;
    return (struct nearest_lanes){v_set1(INFINITY), v_set1_bits(0), v_load_bits(lanes)};
}

INLINE void nearest_vector(struct nearest_lanes *best, vf distance, size_t row, size_t n)
{
    if (row + W > n)
        distance = v_keep_lanes(distance, 0, row < n ? n - row : 0, v_set1(INFINITY));
    vi rows = v_add_bits(v_set1_bits((int32_t)row), best->lane);
    best->row = v_select_above(v_bits(best->distance), v_bits(distance), rows, best->row);
    best->distance = v_min(best->distance, distance);
}

INLINE vf nearest_add(vf sum, vf x, vf key)
{
    vf off = v_sub(x, key);
    return v_add(sum, v_mul(off, off));
}

/* nv vectors of rows from `row`, whose panel is given. Absent ones (past nv) vanish: nv is a constant where this is inlined. */
INLINE void nearest_tile(enum storage_id id, size_t nv, const float *x, size_t d, const char *panel, size_t panel_bytes,
                         size_t row, size_t n, struct nearest_lanes *best)
{
    vf s0 = v_set1(0), s1 = s0, s2 = s0, s3 = s0;
#define AT(v) (panel + (v)*W / PANEL * panel_bytes + (v)*W % PANEL * 4)
#define ADD(v, key)                                                                                                            \
    if ((v) < nv)                                                                                                              \
    s##v = nearest_add(s##v, at, key)
#define ADD_ALL(load)                                                                                                          \
    do {                                                                                                                       \
        ADD(0, load(0));                                                                                                       \
        ADD(1, load(1));                                                                                                       \
        ADD(2, load(2));                                                                                                       \
        ADD(3, load(3));                                                                                                       \
    } while (0)
#define LOAD(v) v_load((const float *)AT(v))
#define LOAD_EVEN(v) v_even(id, v_load_bits(AT(v)))
#define LOAD_ODD(v) v_odd(id, v_load_bits(AT(v)))
    for (size_t c = 0; c < d; c++, panel += PANEL * 4) {
        vf at = v_set1(x[c]);
        if (id == STORAGE_F32) {
            ADD_ALL(LOAD);
            continue;
        }
        ADD_ALL(LOAD_EVEN);
        if (++c < d) {
            at = v_set1(x[c]);
            ADD_ALL(LOAD_ODD);
        }
    }
#undef AT
#undef ADD
#undef ADD_ALL
#undef LOAD
#undef LOAD_EVEN
#undef LOAD_ODD
    nearest_vector(best, s0, row, n);
    if (nv > 1)
        nearest_vector(best, s1, row + W, n);
    if (nv > 2)
        nearest_vector(best, s2, row + 2 * W, n);
    if (nv > 3)
        nearest_vector(best, s3, row + 3 * W, n);
}

/* The nearest of all lanes. */
INLINE size_t nearest_of_lanes(const struct nearest_lanes *best, float *distance)
{
    float sums[W];
    int32_t rows[W];
    size_t l = 0;
    v_store(sums, best->distance);
    v_store_bits(rows, best->row);
    for (size_t m = 1; m < W; m++)
        if (sums[m] < sums[l] || (sums[m] == sums[l] && rows[m] < rows[l]))
            l = m;
    *distance = sums[l];
    return sums[l] < INFINITY ? (size_t)rows[l] : 0;
}

INLINE size_t nearest_any(enum storage_id id, const float *x, size_t d, const void *keys, size_t n, float *distance)
{
    size_t panel_bytes = PANEL * storage_table[id].key_bytes(d), row = 0, wide = NEAREST_VECTORS * W;
    const char *panel = keys;
    struct nearest_lanes best = nearest_none();
    for (; row + wide <= n; row += wide, panel += wide / PANEL * panel_bytes)
        nearest_tile(id, NEAREST_VECTORS, x, d, panel, panel_bytes, row, n, &best);
    for (; row < n; row += PANEL, panel += panel_bytes)
        nearest_tile(id, PANEL / W, x, d, panel, panel_bytes, row, n, &best);
    return nearest_of_lanes(&best, distance);
}

#endif
