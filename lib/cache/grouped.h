/* Grouped rows: a row list in a storage that packs rows in groups (storage.h: group), with the newest rows in f16 beside it.
 *
 *     rows     0 .. packed - 1         packed .. n - 1
 *     in       the list, whole groups  fresh: a ring of f16 rows (a side whose storage takes single rows keeps that storage)
 *     packed   the largest multiple of the group that leaves `residual` rows fresh
 *
 * What a query sees depends on its token alone: a run ends where the next group is packed. Where neither keys nor values go in
 * groups, all of it is the list. The owner holds the struct; formats are its own and live as long. Failing as in rowlist.h. */
#ifndef ATTND_CACHE_GROUPED_H
#define ATTND_CACHE_GROUPED_H

#include "cache/rowlist.h"

struct grouped {
    struct row_list list;
    struct row_format fresh_format;
    struct rows fresh;
    uint64_t n_rows;              /* in both */
    size_t group, residual, ring; /* rows; group 1: no fresh ones. ring: the most that fresh has room for */
};

void grouped_init(struct grouped *g, const struct row_format *format, struct page_account *account, uint64_t expected_rows,
                  uint64_t span, uint64_t residual);
void grouped_release(struct grouped *g);

/* The rows of the next run, at most: at least 1. */
size_t grouped_run_max(const struct grouped *g);

/* Room for a run of n rows; on failure rows are as before. Trim gives back what was reserved and holds no row. */
int grouped_reserve(struct grouped *g, size_t n);
void grouped_trim(struct grouped *g);
void grouped_append(struct grouped *g, const struct kernels *kernels, size_t n, const float *keys, const float *values);
/* The same of rows that are kept as they came, which are never in groups. */
void grouped_append_raw(struct grouped *g, const struct kernels *kernels, size_t n, const struct raw_rows *raw);

struct view grouped_view(struct grouped *g);

/* What it counts on its account once it holds n rows: exact. */
size_t grouped_bytes(const struct row_format *format, uint64_t expected_rows, uint64_t residual, uint64_t n);
size_t grouped_allocated(const struct grouped *g);
bool grouped_check(const struct grouped *g, const char **reason);

#endif
