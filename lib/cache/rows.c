#include "cache/rows.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

/* Where the regions of a block begin, in bytes; `end` is the size of the page. */
struct layout {
    size_t values, log_den, log_num, side, end;
};

static size_t key_bytes(const struct row_format *f)
{
    return f->d ? f->key_storage->key_bytes(f->d) : 0;
}

static size_t value_bytes(const struct row_format *f)
{
    return f->e ? f->value_storage->value_bytes(f->e) : 0;
}

static struct layout layout_of(const struct row_format *f, size_t capacity)
{
    struct layout l;
    size_t weights = page_rounded(capacity * sizeof(float));
    l.values = page_rounded(capacity * key_bytes(f));
    l.log_den = l.values + page_rounded(capacity * value_bytes(f));
    l.log_num = l.log_den + (f->weights == ROWS_SPLIT ? weights : 0);
    l.side = l.log_num + (f->weights == ROWS_PLAIN ? 0 : weights);
    l.end = l.side + page_rounded(capacity * f->side_bytes);
    return l;
}

size_t rows_bytes(const struct row_format *format, size_t capacity)
{
    return layout_of(format, capacity).end;
}

size_t rows_fitting(const struct row_format *format, size_t bytes)
{
    /* Regions only ever round up, so the plain quotient is never too small. */
    size_t weights = format->weights * sizeof(float);
    size_t panel = PANEL * (key_bytes(format) + value_bytes(format) + weights + format->side_bytes);
    size_t capacity = bytes / panel * PANEL;
    while (capacity > 0 && rows_bytes(format, capacity) > bytes)
        capacity -= PANEL;
    return capacity;
}

size_t rows_doubled(size_t n, size_t start, size_t most)
{
    size_t capacity = start;
    while (capacity < n && capacity < most)
        capacity *= 2;
    return capacity < most ? capacity : most;
}

int rows_create(struct rows *rows, const struct row_format *format, struct page_account *account, size_t capacity)
{
    assert(capacity > 0 && capacity % PANEL == 0);
    rows->capacity = 0;
    int err = page_create(&rows->page, account, rows_bytes(format, capacity));
    if (!err)
        rows->capacity = capacity;
    return err;
}

void rows_release(struct rows *rows)
{
    page_release(&rows->page);
    rows->capacity = 0;
}

int rows_own(struct rows *rows)
{
    return page_write(&rows->page, 0) ? 0 : ERR_NO_MEMORY;
}

static char *own_bytes(struct rows *rows, size_t end)
{
    char *bytes = page_write(&rows->page, end);
    assert(bytes); /* rows_own came first */
    return bytes;
}

int rows_grow(struct rows *rows, const struct row_format *format, struct page_account *account, size_t n, size_t capacity)
{
    struct rows larger;
    assert(n <= rows->capacity && capacity >= rows->capacity);
    int err = rows_create(&larger, format, account, capacity);
    if (err)
        return err;
    if (n > 0) {
        const char *from = page_data(rows->page);
        struct layout old = layout_of(format, rows->capacity), new = layout_of(format, capacity);
        size_t panels = (n + PANEL - 1) / PANEL;
        /* The high-water mark is that of the values: what lies behind them is small. */
        size_t end = format->weights == ROWS_PLAIN && !format->side_bytes ? new.values + n *value_bytes(format) : new.end;
        char *to = own_bytes(&larger, end);
        memcpy(to, from, panels * PANEL * key_bytes(format));
        memcpy(to + new.values, from + old.values, n * value_bytes(format));
        if (format->weights == ROWS_SPLIT)
            memcpy(to + new.log_den, from + old.log_den, n * sizeof(float));
        if (format->weights != ROWS_PLAIN)
            memcpy(to + new.log_num, from + old.log_num, n * sizeof(float));
        memcpy(to + new.side, from + old.side, n * format->side_bytes);
    }
    rows_release(rows);
    *rows = larger;
    return 0;
}

/* Where rows up to row + n go: the block's first byte, *values_at that of the values. */
static char *bytes_for(struct rows *rows, const struct row_format *format, size_t row, size_t n, size_t *values_at)
{
    assert(row + n <= rows->capacity);
    *values_at = layout_of(format, rows->capacity).values;
    return own_bytes(rows, format->e ? *values_at + (row + n) * value_bytes(format) : *values_at);
}

void rows_write(struct rows *rows, const struct row_format *format, const struct kernels *kernels, size_t row, size_t n,
                const float *keys, const float *values)
{
    size_t values_at;
    char *bytes = bytes_for(rows, format, row, n, &values_at);
    if (format->d)
        kernels->pack_keys[format->key_storage->id](keys, n, format->d, bytes, row);
    if (format->e)
        kernels->pack_values[format->value_storage->id](values, n, format->e, bytes + values_at, row);
}

bool rows_keep(const struct row_format *format, enum element element)
{
    static const enum storage_id storage[N_ELEMENT] = {
        [ELEMENT_F32] = STORAGE_F32, [ELEMENT_BF16] = STORAGE_BF16, [ELEMENT_F16] = STORAGE_F16};
    return format->key_storage->id == storage[element] && format->value_storage->id == storage[element];
}

struct raw_rows raw_rows_after(const struct raw_rows *raw, size_t n)
{
    return (struct raw_rows){raw->keys + n * raw->key_stride, raw->values + n * raw->value_stride, raw->key_stride,
                             raw->value_stride};
}

void rows_copy_in(struct rows *rows, const struct row_format *format, const struct kernels *kernels, size_t row, size_t n,
                  const struct raw_rows *raw)
{
    size_t values_at, width = value_bytes(format);
    char *bytes = bytes_for(rows, format, row, n, &values_at);
    size_t element = format->key_storage->id == STORAGE_F32 ? sizeof(float) : sizeof(uint16_t);
    kernels->copy_keys(raw->keys, n, format->d * element, raw->key_stride, bytes, row);
    for (size_t i = 0; i < n; i++)
        memcpy(bytes + values_at + (row + i) * width, raw->values + i * raw->value_stride, width);
}

void rows_read_keys(const struct rows *rows, const struct row_format *format, const struct kernels *kernels, size_t row,
                    size_t n, float *keys)
{
    kernels->unpack_keys[format->key_storage->id](page_data(rows->page), row, n, format->d, keys);
}

void rows_read_values(const struct rows *rows, const struct row_format *format, const struct kernels *kernels, size_t row,
                      size_t n, float *values)
{
    const char *bytes = page_data(rows->page);
    size_t values_at = layout_of(format, rows->capacity).values;
    kernels->unpack_values[format->value_storage->id](bytes + values_at, row, n, format->e, values);
}

/* A panel interleaves 32-bit units of its rows (kernels/storage.h): unit u of consecutive rows lies in one piece up to the
 * panel's end. */
static void move_keys(uint32_t *keys, size_t n_units, size_t to, size_t from, size_t n)
{
    for (size_t i = 0, m; i < n; i += m) {
        size_t to_end = PANEL - (to + i) % PANEL, from_end = PANEL - (from + i) % PANEL;
        m = n - i;
        m = m < to_end ? m : to_end;
        m = m < from_end ? m : from_end;
        uint32_t *at = keys + (to + i) / PANEL * PANEL * n_units + (to + i) % PANEL;
        const uint32_t *source = keys + (from + i) / PANEL * PANEL * n_units + (from + i) % PANEL;
        for (size_t u = 0; u < n_units; u++)
            memmove(at + u * PANEL, source + u * PANEL, m * sizeof *at);
    }
}

static void copy_key(uint32_t *to, size_t to_row, const uint32_t *from, size_t from_row, size_t n_units)
{
    to += to_row / PANEL * PANEL * n_units + to_row % PANEL;
    from += from_row / PANEL * PANEL * n_units + from_row % PANEL;
    for (size_t u = 0; u < n_units; u++)
        to[u * PANEL] = from[u * PANEL];
}

void rows_copy(struct rows *to, size_t to_row, const struct rows *from, size_t from_row, const struct row_format *format)
{
    struct layout l = layout_of(format, to->capacity), source = layout_of(format, from->capacity);
    size_t n_units = key_bytes(format) / sizeof(uint32_t), width = value_bytes(format);
    char *bytes = own_bytes(to, l.values + (to_row + 1) * width);
    const char *other = page_data(from->page);
    copy_key((void *)bytes, to_row, (const void *)other, from_row, n_units);
    memmove(bytes + l.values + to_row * width, other + source.values + from_row * width, width);
    if (format->weights != ROWS_PLAIN)
        rows_weigh(to, format, to_row, rows_log_den(from, format)[from_row], rows_log_num(from, format)[from_row]);
    if (format->side_bytes)
        memmove(rows_side(to, format, to_row), rows_side_const(from, format, from_row), format->side_bytes);
}

void rows_move_down(struct rows *rows, const struct row_format *format, size_t to, size_t from, size_t n)
{
    assert(to <= from && from + n <= rows->capacity);
    struct layout l = layout_of(format, rows->capacity);
    bool plain = format->weights == ROWS_PLAIN && !format->side_bytes; /* then nothing new is touched */
    char *bytes = own_bytes(rows, plain ? 0 : l.end);
    const struct {
        size_t start, width; /* bytes per row; 0: the block has none */
    } regions[] = {{l.values, value_bytes(format)},
                   {l.log_den, format->weights == ROWS_SPLIT ? sizeof(float) : 0},
                   {l.log_num, format->weights != ROWS_PLAIN ? sizeof(float) : 0},
                   {l.side, format->side_bytes}};
    move_keys((void *)bytes, key_bytes(format) / sizeof(uint32_t), to, from, n);
    for (size_t i = 0; i < sizeof regions / sizeof *regions; i++) {
        char *region = bytes + regions[i].start;
        size_t width = regions[i].width;
        memmove(region + to * width, region + from * width, n * width);
    }
}

void rows_weigh(struct rows *rows, const struct row_format *format, size_t row, float log_den, float log_num)
{
    assert(row < rows->capacity && format->weights != ROWS_PLAIN);
    struct layout l = layout_of(format, rows->capacity);
    char *bytes = own_bytes(rows, l.side);
    ((float *)(void *)(bytes + l.log_den))[row] = log_den;
    ((float *)(void *)(bytes + l.log_num))[row] = log_num;
}

const float *rows_log_den(const struct rows *rows, const struct row_format *format)
{
    const char *bytes = page_data(rows->page);
    return format->weights == ROWS_PLAIN ? NULL : (const void *)(bytes + layout_of(format, rows->capacity).log_den);
}

const float *rows_log_num(const struct rows *rows, const struct row_format *format)
{
    const char *bytes = page_data(rows->page);
    return format->weights == ROWS_PLAIN ? NULL : (const void *)(bytes + layout_of(format, rows->capacity).log_num);
}

void *rows_side(struct rows *rows, const struct row_format *format, size_t row)
{
    struct layout l = layout_of(format, rows->capacity);
    return own_bytes(rows, l.end) + l.side + row * format->side_bytes;
}

const void *rows_side_const(const struct rows *rows, const struct row_format *format, size_t row)
{
    const char *bytes = page_data(rows->page);
    return bytes + layout_of(format, rows->capacity).side + row * format->side_bytes;
}

struct segment rows_segment(const struct rows *rows, const struct row_format *format, size_t row, size_t n, uint64_t first,
                            uint64_t span)
{
    const char *bytes = page_data(rows->page);
    return (struct segment){
        .row = row,
        .n = n,
        .first = first,
        .span = span,
        .key_storage = format->key_storage,
        .value_storage = format->value_storage,
        .keys = bytes,
        .values = format->e ? bytes + layout_of(format, rows->capacity).values : NULL,
        .log_den = rows_log_den(rows, format),
        .log_num = rows_log_num(rows, format),
    };
}
