#include "cache/rowlist.h"
#include "cache/rows.h"
#include "tests/lib/cache/drive.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct row_format format(enum storage_id storage, size_t d, size_t e, enum row_weights weights, size_t side)
{
    return (struct row_format){&storage_table[storage], &storage_table[storage], d, e, weights, side};
}

/* Whole numbers below 128, which storages of elements keep exactly: row r, coordinate c. */
static void fill(float *x, size_t first, size_t n, size_t width)
{
    for (size_t r = 0; r < n; r++)
        for (size_t c = 0; c < width; c++)
            x[r * width + c] = (float)((7 * (first + r) + 3 * c) % 128);
}

static bool holds(const struct rows *rows, const struct row_format *f, const struct kernels *k, size_t row, size_t n,
                  size_t first)
{
    float *got = malloc((n * (f->d + f->e) + 1) * sizeof *got), *want = malloc((n * (f->d + f->e) + 1) * sizeof *want);
    if (f->d)
        rows_read_keys(rows, f, k, row, n, got);
    if (f->e)
        rows_read_values(rows, f, k, row, n, got + n * f->d);
    fill(want, first, n, f->d);
    fill(want + n * f->d, first, n, f->e);
    drive_stored(f->key_storage, want, n, f->d);
    drive_stored(f->value_storage, want + n * f->d, n, f->e);
    bool same = memcmp(got, want, n * (f->d + f->e) * sizeof *got) == 0;
    free(got);
    free(want);
    return same;
}

static void put(struct rows *rows, const struct row_format *f, const struct kernels *k, size_t row, size_t n, size_t first)
{
    float *keys = malloc((n * f->d + 1) * sizeof *keys), *values = malloc((n * f->e + 1) * sizeof *values);
    fill(keys, first, n, f->d);
    fill(values, first, n, f->e);
    rows_write(rows, f, k, row, n, keys, values);
    free(keys);
    free(values);
}

static void rows_come_back_as_the_storage_rounds_them(void)
{
    const struct kernels *kernels[KERNELS_MAX];
    size_t n_kernels = kernels_runnable(kernels);
    static const size_t dims[][2] = {{1, 1}, {3, 17}, {17, 3}, {64, 64}, {0, 5}, {5, 0}, {1024, 1024}};
    for (size_t k = 0; k < n_kernels; k++)
        for (int s = 0; s < N_ROW_STORAGE; s++)
            for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
                struct page_account account = {0};
                struct row_format f = format((enum storage_id)s, dims[i][0], dims[i][1], ROWS_PLAIN, 0);
                struct rows rows = {0};
                CU_ASSERT_EQUAL_FATAL(rows_create(&rows, &f, &account, 48), 0);
                CU_ASSERT_EQUAL(account.allocated, rows_bytes(&f, 48));
                put(&rows, &f, kernels[k], 0, 5, 0);
                put(&rows, &f, kernels[k], 5, 40, 5);
                put(&rows, &f, kernels[k], 45, 3, 45);
                CU_ASSERT(holds(&rows, &f, kernels[k], 0, 48, 0));
                put(&rows, &f, kernels[k], 20, 7, 99);
                CU_ASSERT(holds(&rows, &f, kernels[k], 0, 20, 0) && holds(&rows, &f, kernels[k], 20, 7, 99) &&
                          holds(&rows, &f, kernels[k], 27, 21, 27));
                rows_release(&rows);
                CU_ASSERT_EQUAL(account.allocated, 0);
            }
}

static void rows_take_their_weights_and_sides_along(void)
{
    static const enum row_weights weights[] = {ROWS_PLAIN, ROWS_WEIGHTED, ROWS_SPLIT};
    const struct kernels *k = kernels_find("scalar");
    for (size_t w = 0; w < 3; w++) {
        struct page_account account = {0};
        struct row_format f = format(STORAGE_BF16, 6, 4, weights[w], sizeof(uint64_t));
        struct rows rows = {0};
        CU_ASSERT_EQUAL_FATAL(rows_create(&rows, &f, &account, 16), 0);
        put(&rows, &f, k, 0, 16, 0);
        for (size_t r = 0; r < 16; r++) {
            if (weights[w] != ROWS_PLAIN)
                rows_weigh(&rows, &f, r, (float)r, weights[w] == ROWS_SPLIT ? -(float)r : (float)r);
            *(uint64_t *)rows_side(&rows, &f, r) = 1000 + r;
        }
        CU_ASSERT_EQUAL_FATAL(rows_grow(&rows, &f, &account, 11, 64), 0);
        CU_ASSERT_EQUAL(account.allocated, rows_bytes(&f, 64));
        rows_copy(&rows, 40, &rows, 3, &f);
        for (size_t r = 0; r < 12; r++) {
            size_t at = r < 11 ? r : 40, was = r < 11 ? r : 3;
            CU_ASSERT(holds(&rows, &f, k, at, 1, was));
            CU_ASSERT_EQUAL(*(const uint64_t *)rows_side_const(&rows, &f, at), 1000 + was);
            if (weights[w] == ROWS_PLAIN)
                continue;
            CU_ASSERT_EQUAL(rows_log_den(&rows, &f)[at], (float)was);
            CU_ASSERT_EQUAL(rows_log_num(&rows, &f)[at], weights[w] == ROWS_SPLIT ? -(float)was : (float)was);
        }
        struct segment s = rows_segment(&rows, &f, 3, 5, 77, 9);
        CU_ASSERT(s.row == 3 && s.n == 5 && s.first == 77 && s.span == 9 && s.key_storage == f.key_storage);
        CU_ASSERT((s.log_den == NULL) == (weights[w] == ROWS_PLAIN));
        CU_ASSERT((s.log_den == s.log_num) == (weights[w] != ROWS_SPLIT));
        rows_release(&rows);
    }
}

static void fitting_is_the_largest_capacity(void)
{
    static const size_t dims[][2] = {{1, 1}, {3, 17}, {64, 64}, {0, 5}, {5, 0}};
    for (int s = 0; s < N_ROW_STORAGE; s++)
        for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
            for (size_t side = 0; side < 24; side += 12)
                for (size_t bytes = 0; bytes < 30000; bytes += 997) {
                    struct row_format f = format((enum storage_id)s, dims[i][0], dims[i][1], ROWS_WEIGHTED, side);
                    size_t capacity = rows_fitting(&f, bytes);
                    CU_ASSERT(capacity % PANEL == 0 && (capacity == 0 || rows_bytes(&f, capacity) <= bytes));
                    CU_ASSERT(rows_bytes(&f, capacity + PANEL) > bytes);
                }
}

static void blocks_double_up_to_their_most(void)
{
    CU_ASSERT_EQUAL(rows_doubled(0, 64, 512), 64);
    CU_ASSERT_EQUAL(rows_doubled(64, 64, 512), 64);
    CU_ASSERT_EQUAL(rows_doubled(65, 64, 512), 128);
    CU_ASSERT_EQUAL(rows_doubled(300, 64, 512), 512);
    CU_ASSERT_EQUAL(rows_doubled(300, 48, 336), 336);
    CU_ASSERT_EQUAL(rows_doubled(1000, 64, 512), 512);
}

static void a_shared_block_is_copied_before_it_is_written(void)
{
    const struct kernels *k = kernels_find("scalar");
    struct page_account account = {0}, other = {0};
    struct row_format f = format(STORAGE_F32, 4, 4, ROWS_PLAIN, 0);
    struct rows rows = {0}, twin = {.capacity = 16};
    CU_ASSERT_EQUAL_FATAL(rows_create(&rows, &f, &account, 16), 0);
    put(&rows, &f, k, 0, 16, 0);
    CU_ASSERT_EQUAL_FATAL(page_share(&twin.page, rows.page, &other), 0);
    CU_ASSERT_EQUAL(rows_own(&twin), 0);
    put(&twin, &f, k, 2, 1, 50);
    CU_ASSERT(holds(&rows, &f, k, 0, 16, 0));
    CU_ASSERT(holds(&twin, &f, k, 0, 2, 0) && holds(&twin, &f, k, 2, 1, 50) && holds(&twin, &f, k, 3, 13, 3));
    rows_release(&rows);
    rows_release(&twin);
}

/* Random steps, against a plain count of rows. */
static void lists_grow_as_their_bytes_say(void)
{
    static const uint64_t expected[] = {0, 5, 40, 100000};
    const struct kernels *k = kernels_best();
    for (size_t x = 0; x < 4; x++) {
        struct page_account account = {0};
        struct row_format f = format(STORAGE_F32, 3, 2, ROWS_PLAIN, 0);
        struct row_list list;
        uint64_t random = x, n = 0;
        row_list_init(&list, &f, &account, expected[x], SPAN_ALL);
        CU_ASSERT_EQUAL(account.allocated, 0);
        while (n < 3000) {
            uint64_t step = 1 + drive_random(&random, drive_random(&random, 10) == 0 ? 1500 : 40);
            float *keys = malloc(step * 3 * sizeof *keys), *values = malloc(step * 2 * sizeof *values);
            const char *reason = "";
            fill(keys, n, step, 3);
            fill(values, n, step, 2);
            CU_ASSERT_EQUAL_FATAL(row_list_reserve(&list, step), 0);
            row_list_append(&list, k, step, keys, values);
            n += step;
            CU_ASSERT(row_list_check(&list, &reason));
            CU_ASSERT_EQUAL(account.allocated, row_list_bytes(&f, expected[x], n));
            CU_ASSERT_EQUAL(row_list_allocated(&list), account.allocated);
            free(keys);
            free(values);
        }
        for (uint64_t i = 0; i < n;) {
            size_t row, there;
            const struct rows *rows = row_list_at(&list, i, &row, &there);
            CU_ASSERT_FATAL(there >= 1);
            CU_ASSERT(holds(rows, &f, k, row, there, i));
            i += there;
        }
        uint64_t before = account.allocated; /* room that is not used can be given back */
        CU_ASSERT_EQUAL(row_list_reserve(&list, 2000), 0);
        CU_ASSERT(account.allocated > before);
        row_list_trim(&list);
        const char *reason = "";
        CU_ASSERT(row_list_check(&list, &reason));
        row_list_release(&list);
        CU_ASSERT_EQUAL(account.allocated, 0);
        CU_ASSERT_EQUAL(account.resident, 0);
    }
}

/* Of a reservation of several pages each allocation fails once; what was made before it is given back. */
static void lists_that_find_no_memory_are_as_before(void)
{
    struct page_account account = {0};
    struct row_format f = format(STORAGE_F32, 3, 2, ROWS_PLAIN, 0);
    struct row_list list;
    float *rows = calloc(CHUNK * 3, sizeof *rows);
    const char *reason = "";
    size_t failures = 0;
    row_list_init(&list, &f, &account, 0, SPAN_ALL);
    CU_ASSERT_EQUAL_FATAL(row_list_reserve(&list, CHUNK), 0);
    row_list_append(&list, kernels_best(), CHUNK, rows, rows);
    size_t allocated = account.allocated, room = 0;
    for (int err = ERR_NO_MEMORY; err && room < 1 << 20; room += 64) {
        account.limit = allocated + room;
        err = row_list_reserve(&list, 4 * CHUNK);
        CU_ASSERT(err == 0 || (err == ERR_NO_MEMORY && account.allocated == allocated));
        CU_ASSERT(!err || row_list_check(&list, &reason));
        failures += err != 0;
    }
    CU_ASSERT(failures > 100);
    row_list_trim(&list);
    CU_ASSERT(row_list_check(&list, &reason));
    row_list_release(&list);
    CU_ASSERT_EQUAL(account.allocated, 0);
    free(rows);
}

TEST_SUITE("lib/cache/rows", TEST(rows_come_back_as_the_storage_rounds_them), TEST(rows_take_their_weights_and_sides_along),
           TEST(fitting_is_the_largest_capacity), TEST(blocks_double_up_to_their_most),
           TEST(a_shared_block_is_copied_before_it_is_written), TEST(lists_grow_as_their_bytes_say),
           TEST(lists_that_find_no_memory_are_as_before))
