#include "cache/grouped.h"

#include <assert.h>

enum { GROUP_MAX = 32, START = 64 /* rows that fresh starts with */ };

static size_t group_of(const struct row_format *f)
{
    size_t keys = f->key_storage->group, values = f->value_storage->group;
    return keys > values ? keys : values;
}

static const struct storage *fresh_storage(const struct storage *storage)
{
    return storage->group > 1 ? &storage_table[STORAGE_F16] : storage;
}

static struct row_format fresh_format(const struct row_format *f)
{
    struct row_format fresh = *f;
    fresh.key_storage = fresh_storage(f->key_storage);
    fresh.value_storage = fresh_storage(f->value_storage);
    return fresh;
}

/* One group more than the residual, in whole groups, so that a group lies in one piece. */
static size_t ring_of(size_t group, uint64_t residual)
{
    return group > 1 ? ((size_t)residual + group - 1) / group * group + group : 0;
}

static uint64_t packed_of(size_t group, uint64_t residual, uint64_t n)
{
    return group <= 1 ? n : n > residual ? (n - residual) / group * group : 0;
}

static size_t fresh_capacity(size_t ring, uint64_t n)
{
    return rows_doubled(n < ring ? (size_t)n : ring, START < ring ? START : ring, ring);
}

static uint64_t packed_at(const struct grouped *g, uint64_t n)
{
    return packed_of(g->group, g->residual, n);
}

void grouped_init(struct grouped *g, const struct row_format *format, struct page_account *account, uint64_t expected_rows,
                  uint64_t span, uint64_t residual)
{
    size_t group = group_of(format);
    assert(group <= GROUP_MAX && CHUNK % group == 0);
    *g = (struct grouped){.group = group, .residual = (size_t)residual, .ring = ring_of(group, residual)};
    g->fresh_format = fresh_format(format);
    row_list_init(&g->list, format, account, expected_rows, span);
    g->list.spare = group > 1 ? ROW_LIST_SPARE : 0;
}

void grouped_release(struct grouped *g)
{
    row_list_release(&g->list);
    rows_release(&g->fresh);
    g->n_rows = 0;
}

size_t grouped_run_max(const struct grouped *g)
{
    return g->group == 1 ? SIZE_MAX : (size_t)(packed_at(g, g->n_rows + 1) + g->group + g->residual - 1 - g->n_rows);
}

static int fresh_reserve(struct grouped *g, size_t n)
{
    size_t capacity = fresh_capacity(g->ring, g->n_rows + n);
    if (g->fresh.capacity == 0)
        return rows_create(&g->fresh, &g->fresh_format, g->list.account, capacity);
    if (g->fresh.capacity < capacity)
        return rows_grow(&g->fresh, &g->fresh_format, g->list.account, (size_t)g->n_rows, capacity);
    return rows_own(&g->fresh);
}

int grouped_reserve(struct grouped *g, size_t n)
{
    int err = row_list_reserve(&g->list, packed_at(g, g->n_rows + n) - g->list.n_rows);
    if (!err && g->group > 1)
        err = fresh_reserve(g, n);
    if (err)
        grouped_trim(g);
    return err;
}

void grouped_trim(struct grouped *g)
{
    row_list_trim(&g->list);
    if (g->n_rows == 0)
        grouped_release(g);
}

/* Rows of the ring that lie in a row, from row `index` on. */
static size_t straight(const struct grouped *g, uint64_t index, uint64_t n)
{
    size_t rest = g->ring - (size_t)(index % g->ring);
    return n < rest ? (size_t)n : rest;
}

static void fresh_write(struct grouped *g, const struct kernels *kernels, size_t n, const float *keys, const float *values)
{
    const struct row_format *f = &g->fresh_format;
    for (size_t run; n > 0; n -= run, keys += run * f->d, values += run * f->e) {
        run = straight(g, g->n_rows, n);
        rows_write(&g->fresh, f, kernels, (size_t)(g->n_rows % g->ring), run, keys, values);
        g->n_rows += run;
    }
}

static void pack_group(struct grouped *g, const struct kernels *kernels)
{
    float keys[GROUP_MAX * SHAPE_DIM_MAX], values[GROUP_MAX * SHAPE_DIM_MAX];
    size_t row = (size_t)(g->list.n_rows % g->ring);
    rows_read_keys(&g->fresh, &g->fresh_format, kernels, row, g->group, keys);
    rows_read_values(&g->fresh, &g->fresh_format, kernels, row, g->group, values);
    row_list_append(&g->list, kernels, g->group, keys, values);
}

void grouped_append(struct grouped *g, const struct kernels *kernels, size_t n, const float *keys, const float *values)
{
    if (g->group == 1) {
        row_list_append(&g->list, kernels, n, keys, values);
        g->n_rows += n;
        return;
    }
    assert(n > 0 && n <= grouped_run_max(g));
    fresh_write(g, kernels, 1, keys, values); /* the ring has room for one before its oldest group goes */
    if (g->list.n_rows < packed_at(g, g->n_rows))
        pack_group(g, kernels);
    fresh_write(g, kernels, n - 1, keys + g->fresh_format.d, values + g->fresh_format.e);
}

void grouped_append_raw(struct grouped *g, const struct kernels *kernels, size_t n, const struct raw_rows *raw)
{
    assert(g->group == 1);
    row_list_append_raw(&g->list, kernels, n, raw);
    g->n_rows += n;
}

/* The ring's rows are at most two more segments. */
struct view grouped_view(struct grouped *g)
{
    struct view view = row_list_view(&g->list);
    if (g->n_rows == g->list.n_rows)
        return view;
    struct segment *spare = row_list_spare(&g->list);
    for (uint64_t i = g->list.n_rows; i < g->n_rows; view.n_seg++) {
        size_t run = straight(g, i, g->n_rows - i);
        *spare++ = rows_segment(&g->fresh, &g->fresh_format, (size_t)(i % g->ring), run, i, g->list.span);
        i += run;
    }
    return view;
}

size_t grouped_bytes(const struct row_format *format, uint64_t expected_rows, uint64_t residual, uint64_t n)
{
    size_t group = group_of(format), ring = ring_of(group, residual);
    if (group == 1)
        return row_list_bytes(format, expected_rows, n);
    if (n == 0)
        return 0;
    struct row_format fresh = fresh_format(format);
    return row_list_bytes_spare(format, expected_rows, packed_of(group, residual, n)) +
           rows_bytes(&fresh, fresh_capacity(ring, n));
}

size_t grouped_allocated(const struct grouped *g)
{
    return row_list_allocated(&g->list) + (g->fresh.page ? page_bytes(g->fresh.page) : 0);
}

bool grouped_check(const struct grouped *g, const char **reason)
{
    if (!row_list_check(&g->list, reason))
        return false;
    *reason = "more or fewer rows are packed than the residual leaves";
    if (g->list.n_rows != packed_at(g, g->n_rows))
        return false;
    *reason = "the fresh rows' block is not as large as they need";
    return g->group == 1 || g->n_rows == 0 || g->fresh.capacity == fresh_capacity(g->ring, g->n_rows);
}
