/* Row storage: how keys and values lie in memory, per storage type. The layout is the same for every instruction set.
 *
 * Keys lie in panels of PANEL rows, interleaved so that one vector load holds the same coordinate of PANEL rows and a score
 * kernel needs no horizontal sums (it is also the packed operand of a matrix product):
 *     f32        [panel][d][PANEL]                 f32
 *     bf16, f16  [panel][ceil(d/2)][PANEL][2]      pairs of coordinates; an odd d is padded with 0
 * Values lie row after row:  [row][e]  in their element type.
 * A block of rows has room for whole panels; rows of a panel that are not there hold finite bytes (pages start zeroed). */
#ifndef ATTND_KERNELS_STORAGE_H
#define ATTND_KERNELS_STORAGE_H

#include <stddef.h>

enum { PANEL = 16 };

enum storage_id { STORAGE_F32, STORAGE_BF16, STORAGE_F16, N_STORAGE };

struct storage {
    const char *name;                /* "f32", "bf16", "f16" */
    enum storage_id id;              /* index into the kernel tables */
    float max_magnitude;             /* the largest |x| that still rounds to a finite number */
    size_t (*key_bytes)(size_t d);   /* per row; a panel takes PANEL times as much */
    size_t (*value_bytes)(size_t e); /* per row */
};

extern const struct storage storage_table[N_STORAGE];

/* The storage of this name, or NULL. */
const struct storage *storage_find(const char *name);

#endif
