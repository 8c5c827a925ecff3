#include "tests/lib/cache/conform.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(c, condition)                                                                                                    \
    CU_assertImplementation((condition) ? CU_TRUE : CU_FALSE, __LINE__, #condition, (c)->choice, "", CU_FALSE)

enum { MUCH = 1 << 28 }; /* bytes: more than any of these caches takes */

static float *outputs(const struct tokens *t)
{
    return calloc(t->n * t->group * t->e, sizeof(float));
}

static void batches_agree(const struct conform *c, const struct kernels *kernels)
{
    static const size_t batches[] = {7, 64, 0};
    struct tokens t;
    struct drive one;
    tokens_random(&t, c->kind, c->n, 2, 17, 5, 11);
    float *expected = outputs(&t), *out = outputs(&t);
    if (drive_open(&one, &t, c->choice, kernels, c->expected_tokens)) {
        drive_run(&one, 0, t.n, 1, expected);
        for (size_t b = 0; b < 3; b++) {
            struct drive other;
            if (!drive_open(&other, &t, c->choice, kernels, c->expected_tokens))
                continue;
            drive_run(&other, 0, t.n, batches[b], out);
            CHECK(c, drive_worst_difference(out, expected, t.n * t.group, t.e) <= 1e-6);
            CHECK(c, drive_same_state(&one, &other));
            drive_close(&other);
        }
    }
    drive_close(&one);
    free(expected);
    free(out);
    tokens_free(&t);
}

static void attending_alone_changes_nothing(const struct conform *c)
{
    struct tokens t;
    struct drive drive;
    tokens_random(&t, c->kind, c->n, 3, 16, 16, 12);
    float *out = outputs(&t), *again = outputs(&t);
    if (drive_open(&drive, &t, c->choice, kernels_best(), c->expected_tokens)) {
        drive_run(&drive, 0, t.n, 1, out);
        uint64_t state = drive_state(&drive);
        size_t query = t.group * t.d, output = t.group * t.e;
        size_t many = t.n < 5 ? t.n : 5; /* several queries, all at the last token; the last of them is its own */
        drive_attend(&drive, t.q + (t.n - many) * query, many, again);
        CHECK(c, drive_worst_difference(again + (many - 1) * output, out + (t.n - 1) * output, t.group, t.e) <= 1e-6);
        CHECK(c, drive_state(&drive) == state);
        drive_attend(&drive, t.q + (t.n - 1) * query, 1, again);
        CHECK(c, memcmp(again, out + (t.n - 1) * output, output * sizeof *out) == 0);
        CHECK(c, drive_state(&drive) == state);
    }
    drive_close(&drive);
    free(out);
    free(again);
    tokens_free(&t);
}

/* Appends in runs of 9 under a limit that is raised until there is room, so that each allocation of each append fails once. */
static void failed_appends_change_nothing(const struct conform *c)
{
    struct tokens t;
    struct drive failing, smooth;
    tokens_random(&t, c->kind, c->n, 1, 8, 24, 13);
    float *out = outputs(&t), *expected = outputs(&t);
    size_t failures = 0;
    if (drive_open(&failing, &t, c->choice, kernels_best(), c->expected_tokens) &&
        drive_open(&smooth, &t, c->choice, kernels_best(), c->expected_tokens)) {
        struct cache *cache = failing.cache;
        for (size_t at = 0, run; at < t.n; at += run) {
            size_t most = cache->ops->run_max(cache), room = 0;
            run = most < 9 ? most : 9;
            run = run < t.n - at ? run : t.n - at;
            uint64_t n_before = cache->n_tokens, shown = drive_shown(&failing);
            for (int err = ERR_NO_MEMORY; err && room < MUCH; room += room / 8 + 64) {
                const char *reason = "";
                err = drive_append_within(&failing, at, run, room);
                CU_ASSERT_FATAL(err == 0 || err == ERR_NO_MEMORY);
                CHECK(c, cache->n_tokens == n_before + (err ? 0 : run));
                CHECK(c, cache->ops->check_state(cache, &reason));
                CHECK(c, !err || drive_shown(&failing) == shown);
                failures += err != 0;
            }
        }
        CHECK(c, failures > 0);
        drive_run(&smooth, 0, t.n, 9, NULL);
        CHECK(c, drive_same_state(&failing, &smooth));
        drive_attend(&failing, t.q, t.n < 20 ? t.n : 20, out);
        drive_attend(&smooth, t.q, t.n < 20 ? t.n : 20, expected);
        CHECK(c, memcmp(out, expected, t.n * t.e * sizeof *out) == 0);
    }
    drive_close(&failing);
    drive_close(&smooth);
    free(out);
    free(expected);
    tokens_free(&t);
}

static void odd_shapes_work(const struct conform *c)
{
    static const struct {
        size_t d, e, group, n;
        const char *storage;
    } shapes[] = {
        {1, 1, 1, 70, "f32"},    {1, 1024, 2, 40, "bf16"}, {3, 17, 4, 70, "f16"},      {17, 3, 1, 70, "bf16"},
        {1024, 1, 3, 40, "f16"}, {64, 64, 8, 70, "bf16"},  {1024, 1024, 1, 33, "f32"}, {2, 5, 16, 70, "f16"},
        {17, 64, 4, 70, "q8_0"}, {64, 17, 2, 70, "q4_0"},  {48, 33, 1, 70, "q4_0h"},   {32, 100, 4, 70, "rot8"},
        {128, 7, 3, 70, "rot4"}, {3, 96, 2, 70, "rot3"},   {80, 128, 4, 70, "rot2"},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct tokens t;
        struct drive one, two;
        char choice[160];
        size_t n = shapes[i].n < c->n ? shapes[i].n : c->n;
        bool stored = strstr(c->choice, "storage="), wide = storage_find(shapes[i].storage)->id > STORAGE_F16;
        if (wide && c->kind == ATTENTION_TENSOR && i % 2) /* products are many, and quantising them is slow */
            continue;
        tokens_random(&t, c->kind, n, shapes[i].group, shapes[i].d, shapes[i].e, 14 + i);
        snprintf(choice, sizeof choice, "%s%s%s", c->choice, stored ? "" : ",storage=", stored ? "" : shapes[i].storage);
        float *a = outputs(&t), *b = outputs(&t);
        if (drive_open(&one, &t, choice, kernels_best(), c->expected_tokens) &&
            drive_open(&two, &t, choice, kernels_find("scalar"), c->expected_tokens)) {
            drive_run(&one, 0, n, 1, a);
            drive_run(&two, 0, n, 0, b);
            for (size_t x = 0; x < n * t.group * t.e; x++)
                CU_ASSERT(isfinite(a[x]));
            /* Over the whole stream, since one output of few coordinates may cancel. Each is within 1e-5 of float64; with quantised
             * rows, which may meet queries and weights of 16 bits, within 3e-4. */
            bool quantised = stored ? strstr(c->choice, "=rot") != NULL : wide;
            CHECK(c, drive_worst_difference(a, b, 1, n * t.group * t.e) <= (quantised ? 3e-4 : 2e-5));
            CHECK(c, drive_same_state(&one, &two));
        }
        drive_close(&one);
        drive_close(&two);
        free(a);
        free(b);
        tokens_free(&t);
    }
}

void conform_check(const struct conform *c)
{
    const struct kernels *kernels[KERNELS_MAX];
    size_t n_kernels = kernels_runnable(kernels);
    for (size_t k = 0; k < n_kernels; k++)
        batches_agree(c, kernels[k]);
    attending_alone_changes_nothing(c);
    failed_appends_change_nothing(c);
    odd_shapes_work(c);
}
