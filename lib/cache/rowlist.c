#include "cache/rowlist.h"

#include <assert.h>
#include <string.h>

enum { START = 64 };

static uint64_t pages_for(uint64_t n_rows)
{
    return (n_rows + CHUNK - 1) / CHUNK;
}

static uint64_t directory_for(uint64_t n_pages)
{
    uint64_t n = 1;
    while (n < n_pages)
        n *= 2;
    return n;
}

static size_t directory_bytes(uint64_t n_pages)
{
    return (size_t)n_pages * (sizeof(struct segment) + sizeof(struct rows));
}

static uint32_t start_rows(uint64_t expected_rows)
{
    if (expected_rows == 0 || expected_rows >= START)
        return START;
    return (uint32_t)((expected_rows + PANEL - 1) / PANEL * PANEL);
}

/* The directory's two arrays, of as many entries as it has room for: segments, then blocks. */
static struct segment *segments_of(struct row_list *list)
{
    struct segment *segments = page_write(&list->directory, directory_bytes(list->directory_pages));
    assert(segments); /* a directory has one owner */
    return segments;
}

static struct rows *blocks_of(struct page **directory, uint64_t pages)
{
    char *bytes = page_write(directory, directory_bytes(pages));
    assert(bytes);
    return (void *)(bytes + pages * sizeof(struct segment));
}

static const struct rows *const_blocks_of(const struct row_list *list)
{
    const char *bytes = page_data(list->directory);
    return (const void *)(bytes + list->directory_pages * sizeof(struct segment));
}

void row_list_init(struct row_list *list, const struct row_format *format, struct page_account *account, uint64_t expected_rows,
                   uint64_t span)
{
    *list = (struct row_list){.format = format, .account = account, .span = span, .start = start_rows(expected_rows)};
}

void row_list_release(struct row_list *list)
{
    if (!list->directory)
        return;
    struct rows *blocks = blocks_of(&list->directory, list->directory_pages);
    for (uint32_t p = 0; p < list->n_pages; p++)
        rows_release(&blocks[p]);
    page_release(&list->directory);
    list->n_pages = list->directory_pages = 0;
    list->n_rows = 0;
}

static size_t page_capacity(const struct row_list *list, uint64_t page, uint64_t n_rows)
{
    return page > 0 ? CHUNK : rows_doubled(n_rows < CHUNK ? (size_t)n_rows : CHUNK, list->start, CHUNK);
}

static void show_page(struct row_list *list, uint64_t page)
{
    uint64_t first = page * CHUNK, n = list->n_rows > first ? list->n_rows - first : 0;
    segments_of(list)[page] =
        rows_segment(&const_blocks_of(list)[page], list->format, 0, n < CHUNK ? (size_t)n : CHUNK, first, list->span);
}

/* A directory for so many pages with the list's entries in it. */
static int directory_grow(struct row_list *list, uint64_t pages, struct page **out)
{
    int err = page_create(out, list->account, directory_bytes(pages));
    if (err || !list->directory)
        return err;
    struct rows *blocks = blocks_of(out, pages);
    memcpy(page_write(out, 0), page_data(list->directory), list->n_pages * sizeof(struct segment));
    memcpy(blocks, const_blocks_of(list), list->n_pages * sizeof(struct rows));
    return 0;
}

/* Whole pages are made first, in the directory behind those that count, and the first page grows last: so a failure has only
 * new pages to give back. */
int row_list_reserve(struct row_list *list, uint64_t n)
{
    uint64_t n_rows = list->n_rows + n, need = pages_for(n_rows), old = list->n_pages, made = old;
    if (need + list->spare == 0)
        return 0;
    if (need > UINT32_MAX / 2)
        return ERR_NO_MEMORY;
    uint64_t directory_pages = directory_for(need + list->spare);
    struct page *grown = NULL;
    if (directory_pages <= list->directory_pages)
        directory_pages = list->directory_pages;
    else if (directory_grow(list, directory_pages, &grown))
        return ERR_NO_MEMORY;
    struct rows *blocks = blocks_of(grown ? &grown : &list->directory, directory_pages);
    size_t first = page_capacity(list, 0, n_rows);
    int err = 0;
    for (; !err && made < need; made += !err)
        err = rows_create(&blocks[made], list->format, list->account, page_capacity(list, made, n_rows));
    if (!err && list->n_rows / CHUNK < old)
        err = rows_own(&blocks[list->n_rows / CHUNK]);
    if (!err && old > 0 && first > blocks[0].capacity)
        err = rows_grow(&blocks[0], list->format, list->account, (size_t)list->n_rows, first);
    if (err) {
        while (made > old)
            rows_release(&blocks[--made]);
        page_release(&grown);
        return err;
    }
    if (grown) {
        page_release(&list->directory);
        list->directory = grown;
        list->directory_pages = (uint32_t)directory_pages;
    }
    list->n_pages = (uint32_t)made;
    if (old > 0)
        show_page(list, 0); /* it may have moved */
    for (uint64_t p = old; p < need; p++)
        show_page(list, p);
    return 0;
}

void row_list_trim(struct row_list *list)
{
    uint64_t need = pages_for(list->n_rows);
    if (!list->directory)
        return;
    struct rows *blocks = blocks_of(&list->directory, list->directory_pages);
    while (list->n_pages > need)
        rows_release(&blocks[--list->n_pages]);
    if (list->n_pages == 0 && list->spare == 0)
        row_list_release(list);
}

/* The block that the next rows go to, from *row on, and how many of n it has room for. */
static struct rows *next_block(struct row_list *list, uint64_t n, size_t *row, size_t *run)
{
    *row = (size_t)(list->n_rows % CHUNK);
    *run = n < CHUNK - *row ? (size_t)n : CHUNK - *row;
    return &blocks_of(&list->directory, list->directory_pages)[list->n_rows / CHUNK];
}

static void count_rows(struct row_list *list, size_t run)
{
    segments_of(list)[list->n_rows / CHUNK].n += run;
    list->n_rows += run;
}

void row_list_append(struct row_list *list, const struct kernels *kernels, uint64_t n, const float *keys, const float *values)
{
    const struct row_format *f = list->format;
    for (size_t row, run; n > 0; n -= run) {
        struct rows *rows = next_block(list, n, &row, &run);
        rows_write(rows, f, kernels, row, run, keys, values);
        count_rows(list, run);
        keys = keys ? keys + run * f->d : NULL;
        values = values ? values + run * f->e : NULL;
    }
}

void row_list_append_raw(struct row_list *list, const struct kernels *kernels, uint64_t n, const struct raw_rows *raw)
{
    struct raw_rows rest = *raw;
    for (size_t row, run; n > 0; n -= run) {
        struct rows *rows = next_block(list, n, &row, &run);
        rows_copy_in(rows, list->format, kernels, row, run, &rest);
        count_rows(list, run);
        rest = raw_rows_after(&rest, run);
    }
}

struct view row_list_view(const struct row_list *list)
{
    return (struct view){list->directory ? page_data(list->directory) : NULL, list->n_pages};
}

const struct rows *row_list_at(const struct row_list *list, uint64_t index, size_t *row, size_t *n)
{
    assert(index < list->n_rows);
    uint64_t rest = list->n_rows - index;
    *row = (size_t)(index % CHUNK);
    *n = rest < CHUNK - *row ? (size_t)rest : CHUNK - *row;
    return &const_blocks_of(list)[index / CHUNK];
}

static size_t list_bytes(const struct row_format *format, uint64_t expected_rows, uint64_t n_rows, uint32_t spare)
{
    uint64_t pages = pages_for(n_rows);
    size_t bytes = page_rounded(directory_bytes(directory_for(pages + spare)));
    if (pages > 0)
        bytes += rows_bytes(format, rows_doubled(n_rows < CHUNK ? (size_t)n_rows : CHUNK, start_rows(expected_rows), CHUNK)) +
                 (size_t)(pages - 1) * rows_bytes(format, CHUNK);
    return bytes;
}

size_t row_list_bytes(const struct row_format *format, uint64_t expected_rows, uint64_t n_rows)
{
    return n_rows ? list_bytes(format, expected_rows, n_rows, 0) : 0;
}

size_t row_list_bytes_spare(const struct row_format *format, uint64_t expected_rows, uint64_t n_rows)
{
    return list_bytes(format, expected_rows, n_rows, ROW_LIST_SPARE);
}

struct segment *row_list_spare(struct row_list *list)
{
    assert(list->spare > 0);
    return segments_of(list) + list->n_pages;
}

size_t row_list_allocated(const struct row_list *list)
{
    if (!list->directory)
        return 0;
    size_t bytes = page_bytes(list->directory);
    for (uint32_t p = 0; p < list->n_pages; p++)
        bytes += page_bytes(const_blocks_of(list)[p].page);
    return bytes;
}

bool row_list_check(const struct row_list *list, const char **reason)
{
    struct view view = row_list_view(list);
    uint64_t n = 0;
    *reason = "pages are more or fewer than the rows need";
    if (list->n_pages != pages_for(list->n_rows) || list->n_pages > list->directory_pages)
        return false;
    for (size_t p = 0; view.seg && p < view.n_seg; p++) {
        const struct segment *s = &view.seg[p];
        const struct rows *rows = &const_blocks_of(list)[p];
        struct segment fresh = rows_segment(rows, list->format, 0, s->n, p * CHUNK, list->span);
        *reason = "a segment does not show its page";
        if (s->n > rows->capacity || memcmp(s, &fresh, sizeof fresh) != 0)
            return false;
        *reason = "a page is not full and not the last";
        if (p + 1 < view.n_seg && s->n != CHUNK)
            return false;
        n += s->n;
    }
    *reason = "segments show more or fewer rows than there are";
    return n == list->n_rows;
}
