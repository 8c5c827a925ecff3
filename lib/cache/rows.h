/* Rows: a block of rows in one page, what every policy is built from.
 *
 * Layout of the page, each region 64-byte aligned, `capacity` rows each (a multiple of PANEL), absent where the format says so:
 *
 *     [ keys, in panels | values, row after row | log_den (f32) | log_num (f32) | side (side_bytes each) ]
 *
 * Rows go in as f32 through the kernels' pack functions and come back rounded as the storage rounds. Nothing moves until
 * rows_grow or rows_release, so segments may point into a block.
 * Ownership: the struct holds the page; the format is the caller's and the same in every call on one block.
 * Failing: rows_create, rows_grow and rows_own may answer ERR_NO_MEMORY and then have changed nothing; the rest cannot fail,
 * but a block that is shared (page_share) must be made the caller's own by rows_own before it is written. */
#ifndef ATTND_CACHE_ROWS_H
#define ATTND_CACHE_ROWS_H

#include "attention/view.h"
#include "base/pages.h"
#include "kernels/kernels.h"

enum row_weights {
    ROWS_PLAIN,    /* every row weighs 1 */
    ROWS_WEIGHTED, /* one log weight per row, for denominator and numerator alike */
    ROWS_SPLIT,    /* two log weights per row */
};

struct row_format {
    const struct storage *key_storage, *value_storage;
    size_t d, e; /* d 0: no keys; e 0: no values (rows of the denominator only) */
    enum row_weights weights;
    size_t side_bytes; /* per row, whatever a policy keeps beside it: its token's index, a score, a count */
};

struct rows {
    struct page *page;
    size_t capacity;
};

/* What a block of this capacity counts on its account. */
size_t rows_bytes(const struct row_format *format, size_t capacity);

/* The largest capacity whose block takes at most `bytes`; 0 when not even one panel fits. */
size_t rows_fitting(const struct row_format *format, size_t bytes);

/* Capacity of a block that grows by doubling, from `start` to at most `most` rows (both multiples of PANEL), once it has held n
 * rows. It depends on n alone, so that batches cannot change it. */
size_t rows_doubled(size_t n, size_t start, size_t most);

int rows_create(struct rows *rows, const struct row_format *format, struct page_account *account, size_t capacity);
void rows_release(struct rows *rows); /* a zeroed struct is allowed */

/* A larger block with the first n rows of the old one, bit by bit. */
int rows_grow(struct rows *rows, const struct row_format *format, struct page_account *account, size_t n, size_t capacity);

/* Makes the bytes the caller's own, so that writing cannot fail. */
int rows_own(struct rows *rows);

/* Rows [row, row + n) from keys (n, d) and values (n, e), contiguous f32; and back (below). */
void rows_write(struct rows *rows, const struct row_format *format, const struct kernels *kernels, size_t row, size_t n,
                const float *keys, const float *values);

/* The same from rows of the storages' own element type, so many bytes apart and bit by bit: for formats that rows_keep says are
 * of this type. */
struct raw_rows {
    const char *keys, *values; /* row 0 */
    size_t key_stride, value_stride;
};
bool rows_keep(const struct row_format *format, enum element element);
void rows_copy_in(struct rows *rows, const struct row_format *format, const struct kernels *kernels, size_t row, size_t n,
                  const struct raw_rows *raw);
/* Past the first n. */
struct raw_rows raw_rows_after(const struct raw_rows *raw, size_t n);

void rows_read_keys(const struct rows *rows, const struct row_format *format, const struct kernels *kernels, size_t row,
                    size_t n, float *keys);
void rows_read_values(const struct rows *rows, const struct row_format *format, const struct kernels *kernels, size_t row,
                      size_t n, float *values);

/* One row with its weights and its side, bit by bit, within a block or between two of one format (`to` and `from` may be the same
 * block). */
void rows_copy(struct rows *to, size_t to_row, const struct rows *from, size_t from_row, const struct row_format *format);

/* Rows [from, from + n) to [to, to + n) of the same block, to <= from, bit by bit, with their weights and sides. */
void rows_move_down(struct rows *rows, const struct row_format *format, size_t to, size_t from, size_t n);

/* Log weights of one row (ROWS_WEIGHTED: the two are the same). -inf leaves the row out. */
void rows_weigh(struct rows *rows, const struct row_format *format, size_t row, float log_den, float log_num);
const float *rows_log_den(const struct rows *rows, const struct row_format *format); /* (capacity,) or NULL */
const float *rows_log_num(const struct rows *rows, const struct row_format *format);

/* The side of row `row`. */
void *rows_side(struct rows *rows, const struct row_format *format, size_t row);
const void *rows_side_const(const struct rows *rows, const struct row_format *format, size_t row);

/* Rows [row, row + n) as a segment; first and span as attention/view.h says. */
struct segment rows_segment(const struct rows *rows, const struct row_format *format, size_t row, size_t n, uint64_t first,
                            uint64_t span);

#endif
