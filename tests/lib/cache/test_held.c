#include "cache/held.h"
#include "cache/policies.h"
#include "tests/lib/cache/drive.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Row r of a block in this test: its numbers tell r (below 256, which bf16 keeps). */
static void numbers_of(size_t what, const struct row_format *f, float *key, float *value)
{
    for (size_t c = 0; c < f->d; c++)
        key[c] = (float)((what + c) % 256);
    for (size_t c = 0; c < f->e; c++)
        value[c] = (float)((what + 2 * c) % 256);
}

static void put(struct rows *rows, const struct row_format *f, const struct kernels *k, size_t row, size_t what)
{
    float key[SHAPE_DIM_MAX], value[SHAPE_DIM_MAX];
    numbers_of(what, f, key, value);
    rows_write(rows, f, k, row, 1, key, value);
    if (f->weights != ROWS_PLAIN)
        rows_weigh(rows, f, row, (float)what, f->weights == ROWS_SPLIT ? -(float)what : (float)what);
    if (f->side_bytes)
        *(uint32_t *)rows_side(rows, f, row) = (uint32_t)what;
}

static bool is(const struct rows *rows, const struct row_format *f, const struct kernels *k, size_t row, size_t what)
{
    float got[SHAPE_DIM_MAX], key[SHAPE_DIM_MAX], value[SHAPE_DIM_MAX];
    numbers_of(what, f, key, value);
    drive_stored(f->key_storage, key, 1, f->d);
    drive_stored(f->value_storage, value, 1, f->e);
    rows_read_keys(rows, f, k, row, 1, got);
    bool same = memcmp(got, key, f->d * sizeof *got) == 0;
    rows_read_values(rows, f, k, row, 1, got);
    same &= memcmp(got, value, f->e * sizeof *got) == 0;
    if (f->weights != ROWS_PLAIN)
        same &= rows_log_den(rows, f)[row] == (float)what && fabsf(rows_log_num(rows, f)[row]) == (float)what;
    if (f->side_bytes)
        same &= *(const uint32_t *)rows_side_const(rows, f, row) == what;
    return same;
}

static void rows_move_with_all_that_belongs_to_them(void)
{
    static const size_t dims[][2] = {{1, 1}, {3, 17}, {64, 64}, {7, 1}};
    static const size_t moves[][3] = {{0, 1, 60}, {3, 5, 40}, {0, 16, 32}, {7, 40, 13}, {5, 5, 9}, {9, 30, 0}, {15, 17, 47}};
    const struct kernels *k = kernels_best();
    for (int s = 0; s < N_ROW_STORAGE; s++)
        for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
            for (int w = ROWS_PLAIN; w <= ROWS_SPLIT; w++)
                for (size_t m = 0; m < sizeof moves / sizeof *moves; m++) {
                    const struct storage *storage = &storage_table[s];
                    struct row_format f = {storage, storage, dims[i][0], dims[i][1], (enum row_weights)w, w * sizeof(uint32_t)};
                    struct page_account account = {0};
                    struct rows rows = {0};
                    size_t to = moves[m][0], from = moves[m][1], n = moves[m][2];
                    CU_ASSERT_EQUAL_FATAL(rows_create(&rows, &f, &account, 64), 0);
                    for (size_t r = 0; r < 64; r++)
                        put(&rows, &f, k, r, r);
                    rows_move_down(&rows, &f, to, from, n);
                    for (size_t r = 0; r < 64; r++)
                        CU_ASSERT(is(&rows, &f, k, r, r >= to && r < to + n ? r + from - to : r));
                    rows_release(&rows);
                }
}

static void closing_gaps_keeps_the_order(void)
{
    const struct storage *bf16 = &storage_table[STORAGE_BF16];
    struct held_plan plan = {.format = {bf16, bf16, 5, 3, ROWS_WEIGHTED, sizeof(uint32_t)},
                             .limit = 100,
                             .capacity = 112,
                             .sinks = 3,
                             .recent = 20,
                             .interval = 9};
    const struct kernels *k = kernels_best();
    struct page_account account = {0};
    struct held held = {0};
    const char *reason = "";
    uint32_t what[112], gone[9];
    uint64_t n_tokens = 0, random = 5;
    float rows[8] = {0};
    while (n_tokens < 250) {
        CU_ASSERT_EQUAL_FATAL(held_reserve(&held, &plan, &account, n_tokens + 1), 0);
        if (held.n == plan.limit) {
            size_t n = 0, left = held_candidates(&plan);
            for (size_t r = plan.sinks; r < plan.sinks + held_candidates(&plan); r++, left--)
                if (drive_random(&random, left) < plan.interval - n)
                    gone[n++] = (uint32_t)r;
            CU_ASSERT_EQUAL_FATAL(n, plan.interval);
            held_drop(&held, &plan, gone, n);
            size_t kept = 0;
            for (size_t r = 0, g = 0; r < plan.limit; r++) {
                if (g < n && gone[g] == r)
                    g++;
                else
                    what[kept++] = what[r];
            }
            CU_ASSERT_EQUAL(kept, held.n);
        }
        held_append(&held, &plan, k, 1, rows, rows);
        CU_ASSERT(rows_log_den(&held.rows, &plan.format)[held.n - 1] == 0);
        CU_ASSERT(*(const uint32_t *)rows_side_const(&held.rows, &plan.format, held.n - 1) == 0);
        what[held.n - 1] = (uint32_t)n_tokens;
        put(&held.rows, &plan.format, k, held.n - 1, n_tokens);
        n_tokens++;
        CU_ASSERT(held_check(&held, &plan, n_tokens, &reason));
        CU_ASSERT_EQUAL(account.allocated, held_bytes(&plan, n_tokens));
        for (size_t r = 0; r < held.n; r++)
            CU_ASSERT(is(&held.rows, &plan.format, k, r, what[r]));
        struct segment seg = held_segment(&held, &plan, n_tokens);
        CU_ASSERT(seg.first + seg.n == n_tokens && seg.row == 0 && seg.n == held.n);
        for (uint64_t token = n_tokens - 20 < n_tokens ? n_tokens - 20 : 0; token < n_tokens; token++) {
            size_t seen = held_seen(&held, n_tokens, token);
            CU_ASSERT(seen > 0 && what[seen - 1] == token);
        }
    }
    held_release(&held);
    CU_ASSERT_EQUAL(account.allocated, 0);
}

/* ---- what the settings come to, through a policy that has them all */

static size_t limit_of(const struct tokens *t, const char *choice, uint64_t expected_tokens)
{
    struct drive drive;
    size_t most = 0;
    if (drive_open(&drive, t, choice, kernels_best(), expected_tokens)) {
        for (size_t at = 0, run; at < t->n; at += run) {
            run = drive.cache->ops->run_max(drive.cache);
            run = run < t->n - at ? run : t->n - at;
            drive_run(&drive, at, run, run, NULL);
            size_t rows = drive_rows(&drive, 0);
            most = rows > most ? rows : most;
        }
        drive_close(&drive);
    }
    return most;
}

static void rows_and_budget_set_the_limit(void)
{
    struct tokens t;
    tokens_random(&t, ATTENTION_SOFTMAX, 1100, 1, 16, 16, 41);
    CU_ASSERT_EQUAL(limit_of(&t, "uniform", 0), 1024);
    CU_ASSERT_EQUAL(limit_of(&t, "uniform,rows=100", 0), 100);
    /* 64 bytes in bf16 and 4 of weight: 100 rows of 68 bytes make six panels. */
    CU_ASSERT_EQUAL(limit_of(&t, "uniform,storage=bf16,budget_bytes=6800", 0), 96);
    CU_ASSERT_EQUAL(limit_of(&t, "uniform,storage=bf16,budget_fraction=0.1", 1000), 80); /* 6,400 bytes */
    CU_ASSERT_EQUAL(limit_of(&t, "uniform,storage=bf16,budget_bytes=6800,rows=50", 0), 50);
    CU_ASSERT_EQUAL(limit_of(&t, "uniform,storage=bf16,budget_bytes=6800,rows=500", 0), 96);
    tokens_free(&t);
}

static void settings_that_leave_no_choice_are_refused(void)
{
    static const struct {
        const char *choice, *reason;
    } refused[] = {
        {"uniform,rows=20,recent_tokens=15", "20 rows do not hold 4 sink tokens, 15 recent ones"},
        {"uniform,rows=20,recent_tokens=21", "recent_tokens is 21, but only 20 rows are held"},
        {"uniform,rows=30,interval=20", "an interval of 20"},
        {"uniform,rows=10,sink_tokens=10", "10 sink tokens"},
        {"uniform,budget_bytes=3000,sink_tokens=20", "that takes"},
        {"uniform,budget_bytes=500", "holds 0 rows"},
    };
    struct tokens t;
    tokens_random(&t, ATTENTION_SOFTMAX, 10, 1, 16, 16, 42);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct fault fault = {0};
        CU_ASSERT_EQUAL(drive_refusal(&t, refused[i].choice, 0, &fault), ERR_INVALID);
        bool named = strstr(fault.text, refused[i].reason);
        CU_assertImplementation(named, __LINE__, fault.text, refused[i].reason, "", CU_FALSE);
    }
    CU_ASSERT_EQUAL(drive_refusal(&t, "uniform,rows=20,recent_tokens=14", 0, NULL), 0);
    tokens_free(&t);
}

/* The bytes that a refusal names are enough, and one panel less is not. */
static void a_refusal_names_the_bytes_that_it_takes(void)
{
    struct tokens t;
    struct fault fault = {0};
    tokens_random(&t, ATTENTION_SOFTMAX, 10, 1, 16, 16, 43);
    CU_ASSERT_EQUAL(drive_refusal(&t, "uniform,budget_bytes=1000,sink_tokens=40,recent_tokens=0,interval=2", 0, &fault),
                    ERR_INVALID);
    const char *named = strstr(fault.text, "that takes ");
    CU_ASSERT_PTR_NOT_NULL_FATAL(named);
    size_t bytes = strtoul(named + strlen("that takes "), NULL, 10);
    char choice[120];
    for (int enough = 0; enough < 2; enough++) {
        snprintf(choice, sizeof choice, "uniform,budget_bytes=%zu,sink_tokens=40,recent_tokens=0,interval=2", bytes - !enough);
        CU_ASSERT_EQUAL(drive_refusal(&t, choice, 0, NULL), enough ? 0 : ERR_INVALID);
    }
    tokens_free(&t);
}

TEST_SUITE("lib/cache/held", TEST(rows_move_with_all_that_belongs_to_them), TEST(closing_gaps_keeps_the_order),
           TEST(rows_and_budget_set_the_limit), TEST(settings_that_leave_no_choice_are_refused),
           TEST(a_refusal_names_the_bytes_that_it_takes))
