/* Rows that come in the type they are stored in: to the bit what their widened numbers give, in every policy that takes them. */
#include "cache/rows.h"
#include "kernels/element.h"
#include "tests/lib/cache/drive.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 700, GAP = 3 /* elements between the rows of a head */ };

/* (n, width) as a message holds them: rows of the element type, GAP apart, at an odd address. */
struct wire {
    char *block, *rows;
    size_t stride;
};

static struct wire wire_of(enum element element, const float *x, size_t n, size_t width)
{
    size_t bytes = element == ELEMENT_F32 ? 4 : 2, stride = (width + GAP) * bytes;
    struct wire wire = {.block = calloc(n + 1, stride), .stride = stride};
    wire.rows = wire.block + 1;
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < width; c++) {
            uint16_t half = element == ELEMENT_BF16 ? bf16_of_f32(x[i * width + c]) : f16_of_f32(x[i * width + c]);
            memcpy(wire.rows + i * stride + c * bytes, element == ELEMENT_F32 ? (const void *)&x[i * width + c] : &half, bytes);
        }
    return wire;
}

/* Appends all tokens raw, in runs of odd lengths. */
static void append_raw(struct drive *drive, enum element element)
{
    const struct tokens *t = drive->tokens;
    struct cache *cache = drive->cache;
    struct wire wire[4];
    struct raw_rows all[2], raw[2];
    size_t n_streams = attention_streams(t->kind);
    for (size_t s = 0; s < n_streams; s++) {
        wire[2 * s] = wire_of(element, t->key[s], t->n, t->d);
        wire[2 * s + 1] = wire_of(element, t->value[s], t->n, t->e);
        all[s] = (struct raw_rows){wire[2 * s].rows, wire[2 * s + 1].rows, wire[2 * s].stride, wire[2 * s + 1].stride};
    }
    for (size_t at = 0, n; at < t->n; at += n) {
        size_t most = cache->ops->run_max(cache);
        n = 1 + at % 41 < most ? 1 + at % 41 : most;
        n = n < t->n - at ? n : t->n - at;
        for (size_t s = 0; s < n_streams; s++)
            raw[s] = raw_rows_after(&all[s], at);
        struct token_run run = {.first = at, .n = n, .raw = raw};
        CU_ASSERT_EQUAL_FATAL(cache->ops->append(cache, &run), 0);
    }
    for (size_t i = 0; i < 2 * n_streams; i++)
        free(wire[i].block);
}

static void compare(enum attention_kind kind, const char *policy, const char *storage, enum element element, size_t d, size_t e)
{
    struct tokens t;
    struct drive widened, raw;
    char choice[160];
    snprintf(choice, sizeof choice, "%s,storage=%s", policy, storage);
    tokens_random(&t, kind, N, 1, d, e, 21);
    for (size_t s = 0; s < attention_streams(kind); s++) { /* what the message holds */
        drive_stored(storage_find(storage), t.key[s], N, d);
        drive_stored(storage_find(storage), t.value[s], N, e);
    }
    if (drive_open(&widened, &t, choice, kernels_best(), 0) && drive_open(&raw, &t, choice, kernels_best(), 0)) {
        CU_ASSERT_FATAL(raw.cache->ops->takes_raw(raw.cache, element));
        drive_run(&widened, 0, N, 50, NULL);
        append_raw(&raw, element);
        CU_ASSERT(drive_same_state(&widened, &raw));
    }
    drive_close(&widened);
    drive_close(&raw);
    tokens_free(&t);
}

static void rows_that_come_as_they_are_stored_give_the_same_bytes(void)
{
    static const struct {
        const char *storage;
        enum element element;
    } types[] = {{"f32", ELEMENT_F32}, {"bf16", ELEMENT_BF16}, {"f16", ELEMENT_F16}};
    for (size_t i = 0; i < 3; i++) {
        compare(ATTENTION_SOFTMAX, "full", types[i].storage, types[i].element, 17, 5);
        compare(ATTENTION_TENSOR, "full", types[i].storage, types[i].element, 32, 24);
        compare(ATTENTION_SOFTMAX, "window,window_tokens=90", types[i].storage, types[i].element, 8, 33);
        compare(ATTENTION_SOFTMAX, "window,window_tokens=90,unmasked=true", types[i].storage, types[i].element, 8, 33);
        compare(ATTENTION_TENSOR, "window,window_tokens=90x40", types[i].storage, types[i].element, 64, 64);
    }
}

static void only_both_storages_of_the_rows_own_type_keep_them_as_they_are(void)
{
    struct row_format f = {storage_find("bf16"), storage_find("bf16"), 8, 8, ROWS_PLAIN, 0};
    CU_ASSERT(rows_keep(&f, ELEMENT_BF16));
    CU_ASSERT(!rows_keep(&f, ELEMENT_F16) && !rows_keep(&f, ELEMENT_F32));
    f.value_storage = storage_find("f32");
    CU_ASSERT(!rows_keep(&f, ELEMENT_BF16) && !rows_keep(&f, ELEMENT_F32));
    f.key_storage = storage_find("q8_0");
    CU_ASSERT(!rows_keep(&f, ELEMENT_F32));
}

TEST_SUITE("lib/cache/raw", TEST(rows_that_come_as_they_are_stored_give_the_same_bytes),
           TEST(only_both_storages_of_the_rows_own_type_keep_them_as_they_are))
