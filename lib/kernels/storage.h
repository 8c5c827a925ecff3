/* Row storage: how keys and values lie in memory, per storage type. The layout is the same for every instruction set.
 *
 * Keys lie in panels of PANEL rows. A row is a run of 32-bit units (a coordinate, a pair, several small codes), and a panel holds
 * unit after unit, [panel][unit][PANEL], so that one vector load has the same coordinates of many rows and a score kernel needs no
 * horizontal sums (it is also the packed operand of a matrix product):
 *     f32        [panel][d][PANEL]                 f32
 *     bf16, f16  [panel][ceil(d/2)][PANEL][2]      pairs of coordinates; an odd d is padded with 0
 *     others     [panel][codes and scales][PANEL]  as kernels/quant.h says
 * Values lie row after row:  [row][e]  in their element type, or [row][codes and scales].
 * A block of rows has room for whole panels; rows of a panel that are not there hold finite bytes (pages start zeroed).
 *
 * Bits per coordinate at d = 128, and mean squared error relative to |row|^2 for Gaussian rows:
 *     q8_0   8.5   blocks of 32 with one f16 scale, ggml's rule     3e-5
 *     q4_0   4.5   the same with 4 bits                             0.008
 *     q4_0h  4.5   q4_0 of the rotated row: outliers are spread     0.008, whatever the row
 *     rot8   8.25  rotated, one scale per 128 coordinates           4.2e-5
 *     rot4   4.25  rotated, the row's norm, Lloyd-Max codebook      0.0095
 *     rot3   3.25                                                   0.0345
 *     rot2   2.25                                                   0.1175
 *     rot4s  4.25  keys: rot3 and a sign sketch of the rest, inner products are     0.0197
 *     rot3s  3.25  unbiased (kernels/sketch.h); values: as rot4, rot3, rot2      0.0671
 *     rot2s  2.25                                                               0.207
 *     kivi2  3     2 bits with zero and scale, keys per channel of 32 rows, values per block of 32 (kernels/kivi.h) */
#ifndef ATTND_KERNELS_STORAGE_H
#define ATTND_KERNELS_STORAGE_H

#include <stdbool.h>
#include <stddef.h>

enum { PANEL = 16 };

enum storage_id {
    STORAGE_F32,
    STORAGE_BF16,
    STORAGE_F16,
    STORAGE_Q8_0,
    STORAGE_Q4_0,
    STORAGE_Q4_0H,
    STORAGE_ROT8,
    STORAGE_ROT4,
    STORAGE_ROT3,
    STORAGE_ROT2,
    N_ROW_STORAGE, /* those before take rows one by one, keys and values alike */
    STORAGE_KIVI2 = N_ROW_STORAGE,
    STORAGE_ROT4S,
    STORAGE_ROT3S,
    STORAGE_ROT2S,
    N_STORAGE
};

struct storage {
    const char *name;                /* "f32", "bf16", ... */
    enum storage_id id;              /* index into the kernel tables */
    float max_magnitude;             /* rows of numbers up to this are stored finite */
    size_t (*key_bytes)(size_t d);   /* per row, a multiple of 4; a panel takes PANEL times as much */
    size_t (*value_bytes)(size_t e); /* per row */
    size_t group;                    /* rows that are packed together, from a multiple of it on; 1: any */
    bool once;                       /* what is read back must not be stored again: that would add to the error each time */
};

extern const struct storage storage_table[N_STORAGE];

/* The storage of this name, or NULL. */
const struct storage *storage_find(const char *name);

#endif
