#include "tests/lib/cache/conform.h"
#include "tests/lib/cache/drive.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void windows_conform(void)
{
    static const struct conform cases[] = {
        {"window,window_tokens=100", ATTENTION_SOFTMAX, 400, 0},
        {"window,window_tokens=30,sink_tokens=0", ATTENTION_SOFTMAX, 150, 0},
        {"window,window_tokens=20,sink_tokens=3,unmasked=true", ATTENTION_SOFTMAX, 150, 0},
        {"window,budget_fraction=0.25", ATTENTION_SOFTMAX, 300, 1000},
        {"window,window_tokens=40x9", ATTENTION_TENSOR, 130, 0},
        {"window,window_tokens=9x30,sink_tokens=1,unmasked=true", ATTENTION_TENSOR, 100, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        conform_check(&cases[i]);
}

/* Against float64 on the rows as a storage rounds them; the worst of all was 2.5e-6. */
static void compare(enum attention_kind kind, size_t n, const size_t w[2], size_t sinks, bool unmasked, bool bf16)
{
    static const size_t batches[] = {1, 0};
    struct tokens t, rounded;
    char choice[160];
    tokens_random(&t, kind, n, 2, 18, 7, 31);
    tokens_random(&rounded, kind, n, 2, 18, 7, 31);
    if (bf16)
        tokens_round(&rounded, STORAGE_BF16, STORAGE_BF16);
    snprintf(choice, sizeof choice, "window,window_tokens=%zux%zu,sink_tokens=%zu,unmasked=%s,storage=%s", w[0], w[1], sinks,
             unmasked ? "true" : "false", bf16 ? "bf16" : "f32");
    double *reference = reference_outputs(&rounded, w, sinks, unmasked);
    float *out = malloc(n * 2 * 7 * sizeof *out);
    for (size_t b = 0; b < 2; b++) {
        struct drive drive;
        if (drive_open(&drive, &t, choice, kernels_best(), 0)) {
            drive_run(&drive, 0, n, batches[b], out);
            double error = drive_worst_error(out, reference, n * 2, 7);
            CU_assertImplementation(error <= 1e-5, __LINE__, choice, __FILE__, "", CU_FALSE);
        }
        drive_close(&drive);
    }
    free(out);
    free(reference);
    tokens_free(&t);
    tokens_free(&rounded);
}

static void outputs_equal_float64(void)
{
    static const size_t windows[] = {1, 2, 13, 15, 16, 17, 40, 100, 300}, sinks[] = {0, 1, 4, 20};
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++)
        for (size_t s = 0; s < 4; s++)
            for (int unmasked = 0; unmasked < 2; unmasked++)
                compare(ATTENTION_SOFTMAX, 160, (const size_t[2]){windows[i], windows[i]}, sinks[s], unmasked, (i + s) % 2);
}

static void outputs_for_tensor_layers_equal_float64(void)
{
    static const size_t windows[][2] = {{1, 1}, {1, 20}, {12, 7}, {7, 12}, {33, 16}, {100, 3}, {100, 100}}, sinks[] = {0, 2};
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++)
        for (size_t s = 0; s < 2; s++)
            for (int unmasked = 0; unmasked < 2; unmasked++)
                compare(ATTENTION_TENSOR, 60, windows[i], sinks[s], unmasked, (i + s) % 2);
}

/* How often a query of `token` finds the row of each index in a view. */
static void count_rows(const struct view *view, uint64_t token, unsigned char *count, size_t n)
{
    memset(count, 0, n);
    for (size_t i = 0; i < view->n_seg; i++) {
        const struct segment *s = &view->seg[i];
        for (uint64_t x = s->first; s->span && x < s->first + s->n; x++)
            if (x <= token && (s->span == SPAN_ALL || token - x < s->span))
                count[x]++;
    }
}

/* Every query of a run finds its window and the sinks, each row once, under the index whose key it is. */
static void no_row_appears_twice(void)
{
    static const char *const choices[] = {"window,window_tokens=20,sink_tokens=0", "window,window_tokens=20,sink_tokens=4",
                                          "window,window_tokens=3,sink_tokens=9", "window,window_tokens=90,sink_tokens=4",
                                          "window,window_tokens=64,sink_tokens=0"};
    static const size_t windows[][2] = {{20, 0}, {20, 4}, {3, 9}, {90, 4}, {64, 0}};
    const struct kernels *scalar = kernels_find("scalar");
    struct tokens t;
    tokens_random(&t, ATTENTION_SOFTMAX, 260, 1, 4, 2, 32);
    unsigned char count[260], see[260];
    float key[4];
    for (size_t c = 0; c < 5; c++) {
        struct drive drive;
        struct view view[2];
        if (!drive_open(&drive, &t, choices[c], kernels_best(), 0))
            continue;
        uint64_t random = 3;
        for (size_t at = 0; at < t.n;) {
            size_t most = drive.cache->ops->run_max(drive.cache), run = 1 + (size_t)drive_random(&random, most);
            run = run < t.n - at ? run : t.n - at;
            drive_run(&drive, at, run, run, NULL);
            drive.cache->ops->view(drive.cache, at, t.q, view);
            for (size_t token = at; token < at + run; token++) {
                count_rows(&view[0], token, count, t.n);
                reference_window(t.n, token, windows[c][0], windows[c][1], false, see);
                for (size_t i = 0; i < t.n; i++)
                    CU_ASSERT(count[i] == (see[i] == SEEN));
            }
            for (size_t s = 0; s < view[0].n_seg; s++)
                for (size_t r = 0; r < view[0].seg[s].n; r++) {
                    scalar->unpack_keys[STORAGE_F32](view[0].seg[s].keys, view[0].seg[s].row + r, 1, 4, key);
                    CU_ASSERT(memcmp(key, t.key[0] + (view[0].seg[s].first + r) * 4, sizeof key) == 0);
                }
            at += run;
        }
        drive_close(&drive);
    }
    tokens_free(&t);
}

/* Until something leaves the window it shows what `full` shows, in blocks that double on the way. */
static void growing_does_not_change_a_bit(void)
{
    struct tokens t;
    struct drive full, window;
    tokens_random(&t, ATTENTION_SOFTMAX, 500, 1, 16, 16, 33);
    float *a = malloc(t.n * t.e * sizeof *a), *b = malloc(t.n * t.e * sizeof *b);
    if (drive_open(&full, &t, "full", kernels_best(), 0) &&
        drive_open(&window, &t, "window,window_tokens=100000", kernels_best(), 0)) {
        drive_run(&full, 0, t.n, 1, a);
        drive_run(&window, 0, t.n, 1, b);
        CU_ASSERT_EQUAL(memcmp(a, b, t.n * t.e * sizeof *a), 0);
        CU_ASSERT(window.cache->account.allocated < 2 * full.cache->account.allocated);
    }
    drive_close(&full);
    drive_close(&window);
    free(a);
    free(b);
    tokens_free(&t);
}

static void memory_is_flat_once_the_window_is_full(void)
{
    static const char *const choices[] = {"window,window_tokens=48", "window,window_tokens=48,unmasked=true"};
    struct tokens t;
    tokens_random(&t, ATTENTION_SOFTMAX, 3000, 1, 64, 64, 34);
    for (size_t c = 0; c < 2; c++) {
        struct drive drive;
        if (drive_open(&drive, &t, choices[c], kernels_best(), 0)) {
            drive_run(&drive, 0, 100, 0, NULL);
            size_t allocated = drive.cache->account.allocated;
            CU_ASSERT(allocated <= 64 * 512 + 2048);
            drive_run(&drive, 100, t.n - 100, 0, NULL);
            CU_ASSERT_EQUAL(drive.cache->account.allocated, allocated);
            CU_ASSERT_EQUAL(drive.policy.ops->worst_bytes(&drive.policy, &drive.dims, UINT64_MAX), allocated);
        }
        drive_close(&drive);
    }
    tokens_free(&t);
}

/* drive_run holds every append against the budget; here: the window is the largest that fits, one row more would not. */
static void a_budget_sets_the_largest_window_that_fits(void)
{
    static const size_t dims[][2] = {{1, 1}, {3, 17}, {64, 64}, {17, 1}, {128, 64}};
    static const char *const settings[] = {"", ",unmasked=true", ",sink_tokens=0", ",sink_tokens=17,storage=f16",
                                           ",storage=bf16"};
    static const size_t sinks[] = {4, 4, 0, 17, 4};
    for (int kind = 0; kind < N_ATTENTION; kind++)
        for (size_t i = 0; i < 5; i++)
            for (size_t s = 0; s < 5; s++) {
                struct tokens t;
                tokens_random(&t, (enum attention_kind)kind, 260, 1, dims[i][0], dims[i][1], 35);
                for (size_t budget = 6000; budget < 120000; budget = budget * 9 / 5) {
                    struct drive drive, wider;
                    char choice[160];
                    struct fault fault = {0};
                    snprintf(choice, sizeof choice, "window,budget_bytes=%zu%s", budget, settings[s]);
                    int err = drive_refusal(&t, choice, 0, &fault);
                    if (err) {
                        CU_ASSERT_EQUAL(err, ERR_INVALID);
                        CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, "holds no window"));
                        continue;
                    }
                    if (!drive_open(&drive, &t, choice, kernels_best(), 0))
                        continue;
                    drive_run(&drive, 0, t.n, 0, NULL);
                    size_t pseudo = strstr(settings[s], "unmasked") != NULL, rows = drive_rows(&drive, 0) - sinks[s] - pseudo;
                    snprintf(choice, sizeof choice, "window,window_tokens=%zu%s", rows + 1, settings[s]);
                    if (rows + sinks[s] + pseudo < t.n && drive_open(&wider, &t, choice, kernels_best(), 0)) {
                        CU_ASSERT(wider.policy.ops->worst_bytes(&wider.policy, &wider.dims, UINT64_MAX) > budget);
                        drive_close(&wider);
                    }
                    drive_close(&drive);
                }
                tokens_free(&t);
            }
}

static void the_smaller_of_window_and_budget_holds(void)
{
    struct tokens t;
    struct drive drive;
    tokens_random(&t, ATTENTION_SOFTMAX, 600, 1, 16, 16, 36);
    /* A quarter of 1,000 tokens of 64 bytes in bf16: 16,000 bytes, room for at most 250 rows of as many bytes. */
    if (drive_open(&drive, &t, "window,window_tokens=50,budget_fraction=0.25,storage=bf16", kernels_best(), 1000)) {
        CU_ASSERT_EQUAL(policy_budget(&drive.policy, &drive.dims), 16000);
        drive_run(&drive, 0, t.n, 0, NULL);
        CU_ASSERT_EQUAL(drive_rows(&drive, 0), 54);
    }
    drive_close(&drive);
    if (drive_open(&drive, &t, "window,window_tokens=500,budget_fraction=0.25,storage=bf16", kernels_best(), 1000)) {
        drive_run(&drive, 0, t.n, 0, NULL);
        CU_ASSERT(drive_rows(&drive, 0) > 190 && drive_rows(&drive, 0) < 250);
    }
    drive_close(&drive);
    if (drive_open(&drive, &t, "window", kernels_best(), 1000)) { /* neither: 1,024 */
        drive_run(&drive, 0, t.n, 0, NULL);
        CU_ASSERT_EQUAL(drive_rows(&drive, 0), 600);
    }
    drive_close(&drive);
    tokens_free(&t);
}

/* One hundred thousand values of mean 1/3: sums in float32 would be off by 1e-3 and more. */
static void the_unmasked_row_sums_in_float64(void)
{
    enum { N = 100000 };
    struct tokens t;
    struct drive drive;
    struct view view[2];
    tokens_random(&t, ATTENTION_SOFTMAX, N, 1, 1, 1, 37);
    double sum = 0;
    for (size_t i = 0; i < N; i++) {
        t.value[0][i] = 1.0f / 3 + 0.001f * t.value[0][i];
        sum += i < N - 8 ? t.value[0][i] : 0;
    }
    if (drive_open(&drive, &t, "window,window_tokens=8,sink_tokens=0,unmasked=true", kernels_best(), 0)) {
        drive_run(&drive, 0, N, 1, NULL);
        drive.cache->ops->view(drive.cache, N - 1, t.q, view);
        const struct segment *pseudo = &view[0].seg[view[0].n_seg - 1];
        CU_ASSERT(pseudo->n == 1 && pseudo->span == 0 && pseudo->log_den == pseudo->log_num);
        ASSERT_NEAR(((const float *)pseudo->values)[0], sum / (N - 8),
                    3e-8); /* half an ulp of f32 at 1/3, and the mean's own */
        ASSERT_NEAR(pseudo->log_den[0], log(N - 8), 5e-7);
    }
    drive_close(&drive);
    tokens_free(&t);
}

TEST_SUITE("lib/cache/window", TEST(windows_conform), TEST(outputs_equal_float64),
           TEST(outputs_for_tensor_layers_equal_float64), TEST(no_row_appears_twice), TEST(growing_does_not_change_a_bit),
           TEST(memory_is_flat_once_the_window_is_full), TEST(a_budget_sets_the_largest_window_that_fits),
           TEST(the_smaller_of_window_and_budget_holds), TEST(the_unmasked_row_sums_in_float64))
