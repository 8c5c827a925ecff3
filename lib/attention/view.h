/* Views: what a cache shows to attention. A cache, whatever its policy, is a short list of segments of weighted rows:
 *
 *     out = sum_j exp(<q,k_j> + num_j) v_j  /  sum_j exp(<q,k_j> + den_j)          (q scaled; den, num: log weights per row)
 *
 * full: all rows, weights 0. Sliding window: fewer rows. Unmasked window: one more row with key 0. SubGen: sampled rows whose
 * weights differ in numerator and denominator. A tensor cache shows two views, one per row stream; pairs of rows attend.
 * Ownership: a view and what it points to belong to the cache and are valid until its next append. */
#ifndef ATTND_ATTENTION_VIEW_H
#define ATTND_ATTENTION_VIEW_H

#include "kernels/storage.h"
#include <stddef.h>
#include <stdint.h>

enum {
    CHUNK = 512,        /* rows; the unit in which long row streams are split, aligned to absolute row indices */
    TENSOR_CHUNK = 128, /* rows of stream 1; the same for tensor attention */
};

#define SPAN_ALL UINT64_MAX

struct segment {
    size_t row, n;  /* rows [row, row + n) of the block that keys, values and weights point to */
    uint64_t first; /* absolute index of row `row`; chunk boundaries and causality count from it */
    uint64_t span;  /* a query of token t sees the rows with index in (t - span, t]; SPAN_ALL: all up to t; 0: every row,
                             whatever t (rows that stand for no single token) */
    const struct storage *key_storage, *value_storage;
    const void *keys, *values;      /* the block's row 0, laid out as kernels/storage.h says; values NULL: denominator only */
    const float *log_den, *log_num; /* the block's row 0, or NULL for 0; the same pointer where equal; -inf leaves a row out */
};

struct view {
    const struct segment *seg;
    size_t n_seg;
};

#endif
