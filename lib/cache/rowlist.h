/* Row lists: rows that only ever grow in number, in pages of CHUNK rows, with the segments that show them.
 *
 * The first page starts small and doubles by copying until it holds CHUNK rows, so that short streams stay small; later pages
 * are whole. One segment per page, kept as rows arrive. The directory (segments and page handles) grows by doubling in a page
 * of its own: it counts on the account like the rows.
 *
 *     rows        0 .. 511        512 .. 1023      1024 .. n_rows - 1
 *     page        64, 128, ..512  512              512
 *     segment     one             one              one, of the rows that are there
 *
 * Full caches are made of these, and two_cache's product rows and factor history. */
#ifndef ATTND_CACHE_ROWLIST_H
#define ATTND_CACHE_ROWLIST_H

#include "cache/rows.h"
#include <stdbool.h>

struct row_list {
    const struct row_format *format; /* the owner's, as long as the list */
    struct page_account *account;
    struct page *directory;
    uint64_t n_rows, span; /* span: of every segment */
    uint32_t n_pages, directory_pages;
    uint32_t start; /* rows that the first page starts with */
    uint32_t spare; /* segments that the directory has room for behind the pages': 0, or ROW_LIST_SPARE set after init */
};

enum { ROW_LIST_SPARE = 2 };

/* An empty list; takes no memory. expected_rows (0: unknown) only makes the first page smaller. */
void row_list_init(struct row_list *list, const struct row_format *format, struct page_account *account, uint64_t expected_rows,
                   uint64_t span);
void row_list_release(struct row_list *list);

/* Room for n more rows, so that row_list_append cannot fail. ERR_NO_MEMORY: the rows and their number of pages are as before. */
int row_list_reserve(struct row_list *list, uint64_t n);
/* Gives pages back that were reserved and hold no row. */
void row_list_trim(struct row_list *list);

/* n rows that were reserved. keys (n, d), values (n, e); or as rows_copy_in takes them. */
void row_list_append(struct row_list *list, const struct kernels *kernels, uint64_t n, const float *keys, const float *values);
void row_list_append_raw(struct row_list *list, const struct kernels *kernels, uint64_t n, const struct raw_rows *raw);

struct view row_list_view(const struct row_list *list);

/* The page that holds this row; *row becomes its place in there, *n the rows from there to the end of the page. */
const struct rows *row_list_at(const struct row_list *list, uint64_t index, size_t *row, size_t *n);

/* What a list counts on its account once it holds n rows: exact. */
size_t row_list_bytes(const struct row_format *format, uint64_t expected_rows, uint64_t n_rows);
/* The same with spare segments, whose directory is there from the first reserve on, though that be of no rows. */
size_t row_list_bytes_spare(const struct row_format *format, uint64_t expected_rows, uint64_t n_rows);

/* Spare segments, the owner's to fill: behind those of the pages, so that a view may show them too. */
struct segment *row_list_spare(struct row_list *list);

/* Sum of its pages' bytes, and whether its parts agree. */
size_t row_list_allocated(const struct row_list *list);
bool row_list_check(const struct row_list *list, const char **reason);

#endif
