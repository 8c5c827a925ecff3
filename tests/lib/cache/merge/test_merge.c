#include "tests/lib/cache/conform.h"
#include "tests/lib/cache/drive.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void merge_conforms(void)
{
    static const struct conform cases[] = {
        {"merge,rows=100", ATTENTION_SOFTMAX, 400, 0},
        {"merge,rows=80,interval=5,sink_tokens=0,recent_tokens=0,learn_every=3", ATTENTION_SOFTMAX, 150, 0},
        {"merge,rows=90,merge_within=1000,distinctness=0", ATTENTION_SOFTMAX, 200, 0},
        {"merge,budget_fraction=0.25", ATTENTION_SOFTMAX, 300, 1000},
        {"merge,rows=64,metric=full,interval=8", ATTENTION_SOFTMAX, 120, 0},
        {"merge,rows=40", ATTENTION_TENSOR, 90, 0},
        {"merge,budget_fraction=0.25,interval=1", ATTENTION_TENSOR, 60, 800},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        conform_check(&cases[i]);
}

static void a_full_metric_is_refused_for_tensor_layers(void)
{
    struct tokens t;
    struct fault fault = {0};
    tokens_random(&t, ATTENTION_TENSOR, 4, 1, 4, 4, 70);
    CU_ASSERT_EQUAL(drive_refusal(&t, "merge,rows=64,metric=full", 0, &fault), ERR_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, "softmax layers only"));
    tokens_free(&t);
}

/* 5e-7 was the worst. */
static void what_fits_is_exact(void)
{
    static const size_t everything[2] = {SIZE_MAX, SIZE_MAX};
    for (int kind = 0; kind < N_ATTENTION; kind++) {
        struct tokens t;
        struct drive drive;
        tokens_random(&t, (enum attention_kind)kind, 60, 2, 12, 6, 71);
        float *out = malloc(t.n * t.group * t.e * sizeof *out);
        double *reference = reference_outputs(&t, everything, 0, false);
        if (drive_open(&drive, &t, "merge,rows=60", kernels_best(), 0)) {
            drive_run(&drive, 0, t.n, 1, out);
            ASSERT_NEAR(drive_worst_error(out, reference, t.n * t.group, t.e), 0, 1e-5);
        }
        drive_close(&drive);
        free(reference);
        free(out);
        tokens_free(&t);
    }
}

/* Values hold their token's number; f32. */
static void first_and_last_rows_stay_as_they_came(void)
{
    enum { N = 700, ROWS = 90, SINKS = 5, RECENT = 30 };
    struct tokens t;
    struct drive drive;
    size_t n_wrong = 0;
    tokens_random(&t, ATTENTION_SOFTMAX, N, 2, 8, 1, 72);
    for (size_t i = 0; i < N; i++)
        t.value[0][i] = (float)i;
    if (drive_open(&drive, &t, "merge,rows=90,sink_tokens=5,recent_tokens=30", kernels_best(), 0))
        for (size_t at = 0; at < N; at++) {
            struct view view[2];
            drive_run(&drive, at, 1, 1, NULL);
            drive.cache->ops->view(drive.cache, at, t.q, view);
            const struct segment *seg = view[0].seg;
            const float *values = seg->values;
            CU_ASSERT(seg->n <= ROWS && seg->row == 0);
            for (size_t i = 0; i < SINKS && i <= at; i++)
                n_wrong += values[i] != (float)i || seg->log_den[i] != 0;
            for (size_t i = 0; i < RECENT && i < seg->n; i++)
                n_wrong += values[seg->n - 1 - i] != (float)(at - i) || seg->log_den[seg->n - 1 - i] != 0;
        }
    CU_ASSERT_EQUAL(n_wrong, 0);
    drive_close(&drive);
    tokens_free(&t);
}

static double sum_of_weights(struct drive *drive)
{
    struct view view[2];
    double sum = 0;
    drive->cache->ops->view(drive->cache, drive->cache->n_tokens - 1, drive->tokens->q, view);
    for (size_t i = 0; i < view[0].seg->n; i++)
        sum += exp(view[0].seg->log_den[i]);
    return sum;
}

static void weights_never_exceed_the_tokens(void)
{
    struct tokens t;
    struct drive drive;
    double gauges[CACHE_GAUGES_MAX];
    tokens_random(&t, ATTENTION_SOFTMAX, 900, 2, 6, 6, 73);
    if (drive_open(&drive, &t, "merge,rows=80,merge_within=1000", kernels_best(), 0)) {
        for (size_t at = 0; at < t.n; at++) {
            drive_run(&drive, at, 1, 1, NULL);
            CU_ASSERT(sum_of_weights(&drive) <= ((double)at + 1) * (1 + 1e-5));
        }
        drive.cache->ops->measure(drive.cache, gauges);
        CU_ASSERT(gauges[0] == (double)drive_rows(&drive, 0) && gauges[0] + gauges[1] + gauges[2] == (double)t.n);
        CU_ASSERT(gauges[1] > 500);
    }
    drive_close(&drive);
    tokens_free(&t);
}

/* A key among few, each with its value: every merge is of equal rows, of weights that differ more and more. */
static void repeat(struct tokens *t, size_t n_kinds)
{
    uint64_t random = 5;
    for (size_t i = n_kinds; i < t->n; i++) {
        size_t kind = drive_random(&random, n_kinds * n_kinds);
        kind = kind < n_kinds ? kind : kind % (1 + n_kinds / 4); /* some come often */
        memcpy(t->key[0] + i * t->d, t->key[0] + kind * t->d, t->d * sizeof(float));
        memcpy(t->value[0] + i * t->e, t->value[0] + kind * t->e, t->e * sizeof(float));
    }
}

/* Odds are rounded to 1/16 nats at most, which costs a merge up to (1/16)^2 / 2 = 0.2 % of the lighter row's weight. */
static void equal_rows_merge_without_loss(void)
{
    static const size_t everything[2] = {SIZE_MAX, SIZE_MAX};
    struct tokens t;
    struct drive drive;
    tokens_random(&t, ATTENTION_SOFTMAX, 1500, 1, 8, 8, 74);
    repeat(&t, 12);
    float *out = malloc(t.n * t.e * sizeof *out);
    double *reference = reference_outputs(&t, everything, 0, false);
    if (drive_open(&drive, &t, "merge,rows=64", kernels_best(), 0)) {
        drive_run(&drive, 0, t.n, 0, out);
        ASSERT_NEAR(sum_of_weights(&drive) / (double)t.n, 1, 0.002);
        ASSERT_NEAR(drive_worst_error(out, reference, t.n, t.e), 0, 0.005);
    }
    drive_close(&drive);
    free(reference);
    free(out);
    tokens_free(&t);
}

/* Rows learn from every third token's queries: the others may ask what they like. */
static void tokens_between_teach_nothing(void)
{
    struct tokens t;
    uint64_t state[2] = {0};
    tokens_random(&t, ATTENTION_SOFTMAX, 400, 2, 10, 4, 75);
    for (int other = 0; other < 2; other++) {
        struct drive drive;
        for (size_t i = 0; other && i < t.n * t.group * t.d; i++)
            t.q[i] *= i / (t.group * t.d) % 3 == 0 ? 1 : -3;
        if (drive_open(&drive, &t, "merge,rows=70,learn_every=3", kernels_best(), 0)) {
            drive_run(&drive, 0, t.n, 0, NULL);
            state[other] = drive_state(&drive);
        }
        drive_close(&drive);
    }
    CU_ASSERT(state[0] != 0 && state[0] == state[1]);
    tokens_free(&t);
}

/* Nothing grows once the rows are full: the same bytes after 4,000 tokens and after 20,000. */
static void long_streams_take_no_more(void)
{
    enum { N = 2000, TIMES = 10 };
    struct tokens t;
    struct drive drive;
    size_t bytes = 0;
    tokens_random(&t, ATTENTION_SOFTMAX, N, 1, 4, 4, 76);
    if (drive_open(&drive, &t, "merge,budget_bytes=4000", kernels_best(), 0)) {
        for (int time = 0; time < TIMES; time++) {
            for (size_t at = 0; at < N; at++) {
                struct token_run run = {.first = drive.cache->n_tokens,
                                        .n = 1,
                                        .key = {t.key[0] + at * t.d, NULL},
                                        .value = {t.value[0] + at * t.e, NULL}};
                CU_ASSERT_EQUAL_FATAL(drive.cache->ops->append(drive.cache, &run), 0);
                drive.cache->ops->observe(drive.cache, &(struct attention_record){run.first, 1, t.q + at * t.d});
            }
            bytes = time == 1 ? drive.cache->account.allocated : bytes;
        }
        const char *reason = "";
        CU_ASSERT(drive.cache->ops->check_state(drive.cache, &reason));
        CU_ASSERT(bytes <= 4000 && drive.cache->account.allocated == bytes);
    }
    drive_close(&drive);
    tokens_free(&t);
}

TEST_SUITE("lib/cache/merge/merge", TEST(merge_conforms), TEST(a_full_metric_is_refused_for_tensor_layers),
           TEST(what_fits_is_exact), TEST(first_and_last_rows_stay_as_they_came), TEST(weights_never_exceed_the_tokens),
           TEST(equal_rows_merge_without_loss), TEST(tokens_between_teach_nothing), TEST(long_streams_take_no_more))
