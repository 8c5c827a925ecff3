/* SubGen's policies in use: the contract, budgets, radii found from the stream, what they refuse. */
#include "tests/lib/cache/conform.h"
#include "tests/lib/cache/drive.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Budgets are fractions, so that wide rows have room and narrow ones still regroup. */
static void subgen_conforms(void)
{
    conform_check(&(struct conform){"subgen", ATTENTION_SOFTMAX, 330, 0});
    conform_check(
        &(struct conform){"subgen,delta=3.5,recent_tokens=0,sink_tokens=0,estimator=paper", ATTENTION_SOFTMAX, 200, 0});
    conform_check(&(struct conform){"subgen,delta=0.1,max_clusters=20,samples=3,recent_tokens=30", ATTENTION_SOFTMAX, 200, 0});
    conform_check(&(struct conform){"subgen,budget_fraction=0.25", ATTENTION_SOFTMAX, 330, 1500});
    conform_check(&(struct conform){"subgen,budget_fraction=0.25,samples=1,estimator=paper", ATTENTION_SOFTMAX, 200, 1700});
}

static void subgen4_conforms(void)
{
    conform_check(
        &(struct conform){"subgen4,delta=3x4,recent_tokens=5,estimator=paper,value_samples=20", ATTENTION_TENSOR, 40, 0});
    conform_check(&(struct conform){"subgen4,budget_fraction=0.25", ATTENTION_TENSOR, 150, 1500});
}

static void subgen2_conforms(void)
{
    conform_check(&(struct conform){"subgen2,history=true,delta=2,sink_tokens=0,estimator=paper", ATTENTION_TENSOR, 20, 0});
    conform_check(&(struct conform){"subgen2,history=true,samples=1", ATTENTION_TENSOR, 24, 0});
    conform_check(&(struct conform){"subgen2,delta=2,factor_delta=3x4,samples=2", ATTENTION_TENSOR, 20, 0});
    conform_check(&(struct conform){"subgen2,budget_fraction=0.25,samples=1", ATTENTION_TENSOR, 40, 2200});
}

/* ---- exact where it must be */

static double worst_against_full(const struct tokens *t, const char *choice)
{
    static const size_t everything[2] = {SIZE_MAX, SIZE_MAX};
    struct drive drive;
    float *out = malloc(t->n * t->group * t->e * sizeof *out);
    double *reference = reference_outputs(t, everything, 0, false), worst = INFINITY;
    if (drive_open(&drive, t, choice, kernels_best(), 0)) {
        drive_run(&drive, 0, t->n, 1, out);
        worst = drive_worst_error(out, reference, t->n * t->group, t->e);
    }
    drive_close(&drive);
    free(reference);
    free(out);
    return worst;
}

/* 1.3e-6 was reached. */
static void what_fits_the_exact_rows_is_exact(void)
{
    struct tokens t;
    tokens_random(&t, ATTENTION_SOFTMAX, 150, 2, 12, 6, 21);
    ASSERT_NEAR(worst_against_full(&t, "subgen,recent_tokens=146"), 0, 1e-5);
    ASSERT_NEAR(worst_against_full(&t, "subgen,sink_tokens=150,recent_tokens=0,estimator=paper"), 0, 1e-5);
    tokens_free(&t);
    tokens_random(&t, ATTENTION_TENSOR, 60, 2, 12, 6, 22);
    ASSERT_NEAR(worst_against_full(&t, "subgen4,recent_tokens=60"), 0, 1e-5);
    ASSERT_NEAR(worst_against_full(&t, "subgen2,sink_tokens=60"), 0, 1e-5);
    tokens_free(&t);
}

/* A cluster of one member knows it; a cluster of equal rows too. Past a window of 30 tokens the order of rows is the ring's. */
static void clusters_of_equal_rows_are_exact(void)
{
    struct tokens t;
    tokens_random(&t, ATTENTION_SOFTMAX, 200, 1, 12, 6, 23);
    ASSERT_NEAR(worst_against_full(&t, "subgen,recent_tokens=30"), 0, 1e-5);
    ASSERT_NEAR(worst_against_full(&t, "subgen,delta=1e-6,recent_tokens=0,sink_tokens=0"), 0, 1e-5);
    for (size_t i = 20; i < t.n; i++) {
        memcpy(t.key[0] + i * t.d, t.key[0] + i % 20 * t.d, t.d * sizeof(float));
        memcpy(t.value[0] + i * t.e, t.value[0] + i % 20 * t.e, t.e * sizeof(float));
    }
    ASSERT_NEAR(worst_against_full(&t, "subgen,recent_tokens=30,budget_bytes=12000,samples=1"), 0, 1e-5);
    ASSERT_NEAR(worst_against_full(&t, "subgen,delta=1e-6,max_clusters=20,recent_tokens=0"), 0, 1e-5);
    tokens_free(&t);
    tokens_random(&t, ATTENTION_TENSOR, 40, 1, 12, 6, 24);
    ASSERT_NEAR(worst_against_full(&t, "subgen4,delta=1e-6,recent_tokens=7"), 0, 1e-5);
    ASSERT_NEAR(worst_against_full(&t, "subgen2,delta=1e-6,factor_delta=1e-6,samples=1"), 0, 1e-5);
    ASSERT_NEAR(worst_against_full(&t, "subgen2,delta=1e-6,history=true,samples=2"), 0, 1e-5);
    tokens_free(&t);
}

/* ---- streams */

static float *fresh(size_t n)
{
    return calloc(n, sizeof(float));
}

/* n tokens whose keys are in m balls of this radius about unit vectors (m 0: all unit vectors), values a function of the ball and
 * a tenth of noise, queries of norm 8. */
static void tokens_planted(struct tokens *t, size_t n, size_t d, size_t m, float radius, uint64_t seed)
{
    struct tokens centres, noise;
    size_t n_centres = m ? m : n;
    tokens_random(&centres, ATTENTION_SOFTMAX, n_centres, 1, d, d, seed);
    tokens_random(&noise, ATTENTION_SOFTMAX, n, 1, d, d, seed + 1);
    *t = (struct tokens){.kind = ATTENTION_SOFTMAX, .n = n, .group = 1, .d = d, .e = d, .scale = 1};
    t->q = fresh(n * d);
    t->key[0] = fresh(n * d);
    t->value[0] = fresh(n * d);
    uint64_t random = seed;
    for (size_t i = 0; i < n; i++) {
        size_t a = m ? (size_t)drive_random(&random, m) : i, ball = m ? a : i % 64;
        double centre = 0, offset = 0, q = 0;
        for (size_t c = 0; c < d; c++) {
            centre += pow(centres.key[0][a * d + c], 2);
            offset += pow(noise.key[0][i * d + c], 2);
            q += pow(noise.q[i * d + c], 2);
        }
        for (size_t c = 0; c < d; c++) {
            t->q[i * d + c] = (float)(8 * noise.q[i * d + c] / sqrt(q));
            t->key[0][i * d + c] =
                (float)(centres.key[0][a * d + c] / sqrt(centre) + radius * noise.key[0][i * d + c] / sqrt(offset));
            t->value[0][i * d + c] = centres.value[0][ball * d + c] + 0.1f * noise.value[0][i * d + c];
        }
    }
    tokens_free(&centres);
    tokens_free(&noise);
}

static double gauge(const struct cache *cache, const char *name)
{
    double values[CACHE_GAUGES_MAX];
    cache->ops->measure(cache, values);
    for (size_t g = 0; g < cache->ops->n_gauges; g++)
        if (strcmp(cache->ops->gauges[g].name, name) == 0)
            return values[g];
    CU_FAIL("no such gauge");
    return 0;
}

/* Mean relative error of every 20th output of the second half, and the spread that the cache reports. */
static double planted_error(size_t m, const char *choice, double *spread)
{
    struct tokens t;
    struct drive drive;
    double sum = 0, n = 0;
    tokens_planted(&t, 6000, 32, m, 0.05f, 31);
    unsigned char *see = malloc(t.n);
    float *out = malloc(t.e * sizeof *out);
    double *reference = malloc(t.e * sizeof *reference);
    if (drive_open(&drive, &t, choice, kernels_best(), t.n)) {
        for (size_t i = 0; i < t.n; i += 20) {
            drive_run(&drive, i, 20, 20, NULL);
            if (i < t.n / 2)
                continue;
            drive_attend(&drive, t.q + (i + 19) * t.d, 1, out);
            reference_window(t.n, i + 19, SIZE_MAX, 0, false, see);
            reference_attend(&t, i + 19, 0, see, NULL, reference);
            sum += test_relative_error(out, reference, t.e);
            n++;
        }
        *spread = gauge(drive.cache, "cluster_spread");
    }
    drive_close(&drive);
    free(reference);
    free(out);
    free(see);
    tokens_free(&t);
    return sum / n;
}

/* At a tenth of the full cache's bytes; 0.033, and 0.42 where nothing clusters. */
static void clusterable_keys_are_cheap_and_others_are_told_apart(void)
{
    double tight, wide;
    CU_ASSERT(planted_error(20, "subgen,budget_fraction=0.1,storage=bf16", &tight) < 0.05);
    CU_ASSERT(planted_error(0, "subgen,budget_fraction=0.1,storage=bf16", &wide) > 0.2);
    CU_ASSERT(tight < 0.05 && wide > 0.8);
}

/* Points of a square, delta 0.1: centres are 0.1 apart, so balls of half of that about them don't overlap in a square of 1.1 a
 * side: at most 1.21 / (pi 0.05^2) = 154. They saturate, below a budget that never matters. */
static void clusters_in_the_plane_saturate_far_from_the_budget(void)
{
    enum { N = 40000 };
    struct tokens t = {ATTENTION_SOFTMAX, N, 1, 2, 1, 1, NULL, {fresh(2 * N)}, {fresh(N)}};
    struct drive drive;
    uint64_t random = 9;
    for (size_t i = 0; i < 2 * N; i++)
        t.key[0][i] = (float)drive_random(&random, 1 << 20) * 0x1p-20f;
    if (drive_open(&drive, &t, "subgen,delta=0.1,recent_tokens=16,budget_bytes=65536", kernels_best(), 0)) {
        drive_run(&drive, 0, N / 4, 500, NULL);
        double quarter = gauge(drive.cache, "clusters");
        drive_run(&drive, N / 4, N - N / 4, 500, NULL);
        double all = gauge(drive.cache, "clusters");
        CU_ASSERT(quarter > 60 && all <= 154 && all - quarter <= 10);
        CU_ASSERT_EQUAL(gauge(drive.cache, "clusters_merged"), 0);
        CU_ASSERT_EQUAL(gauge(drive.cache, "cluster_radius"), 0.1);
        CU_ASSERT(drive.cache->account.allocated < 32768);
    }
    drive_close(&drive);
    tokens_free(&t);
}

/* drive_run checks after each token that pages are within the budget and the invariants hold. */
static void budgets_hold_over_a_hundred_thousand_tokens(void)
{
    static const struct {
        const char *choice;
        enum attention_kind kind;
        size_t n;
    } cases[] = {
        {"subgen,budget_bytes=6000", ATTENTION_SOFTMAX, 100000},
        {"subgen,budget_bytes=6000,delta=1e-3,samples=2,estimator=paper", ATTENTION_SOFTMAX, 20000},
        {"subgen4,budget_bytes=9000,storage=bf16", ATTENTION_TENSOR, 20000},
        {"subgen2,budget_bytes=9000,samples=1", ATTENTION_TENSOR, 1000},
        {"subgen2,budget_bytes=16000,delta=1e-3,factor_delta=1e-3,estimator=paper", ATTENTION_TENSOR, 500},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tokens t;
        struct drive drive;
        tokens_random(&t, cases[i].kind, cases[i].n, 1, 4, 4, 25);
        if (drive_open(&drive, &t, cases[i].choice, kernels_best(), 0)) {
            drive_run(&drive, 0, t.n, 500, NULL);
            CU_ASSERT(gauge(drive.cache, "clusters_merged") > 10);
            CU_ASSERT(drive.cache->account.allocated > drive.policy.budget_bytes / 2);
        }
        drive_close(&drive);
        tokens_free(&t);
    }
}

/* Keys that do not cluster, radius and bounds left to themselves: 1024 samples, then one cluster has nearly all of them. */
static void without_a_budget_automatic_delta_is_bounded_too(void)
{
    struct tokens t;
    struct drive drive;
    tokens_random(&t, ATTENTION_SOFTMAX, 6000, 1, 32, 8, 29);
    if (drive_open(&drive, &t, "subgen", kernels_best(), 0)) {
        drive_run(&drive, 0, 2000, 500, NULL);
        uint64_t allocated = drive.cache->account.allocated;
        drive_run(&drive, 2000, 4000, 500, NULL);
        CU_ASSERT_EQUAL(drive.cache->account.allocated, allocated);
        CU_ASSERT(gauge(drive.cache, "clusters") < 50 && gauge(drive.cache, "cluster_spread") > 0.8);
        size_t rows = drive_rows(&drive, 0);
        CU_ASSERT(rows > 700 && rows <= 1024 + 4 + 256 + 16);
    }
    drive_close(&drive);
    tokens_free(&t);
}

/* 32 balls: regrouping comes down to them, or few more, and the rows left over become samples of each. */
static void rows_that_clusters_leave_over_become_samples(void)
{
    struct tokens t;
    struct drive drive;
    tokens_planted(&t, 3000, 16, 32, 0.01f, 26);
    if (drive_open(&drive, &t, "subgen,budget_bytes=65536,samples=2,recent_tokens=8", kernels_best(), 0)) {
        drive_run(&drive, 0, t.n, 100, NULL);
        size_t rows = drive_rows(&drive, 0);
        double clusters = gauge(drive.cache, "clusters"), samples = gauge(drive.cache, "cluster_samples");
        CU_ASSERT(clusters >= 32 && samples >= 2);
        CU_ASSERT_EQUAL((double)rows, clusters * samples + 4 + 8);
        CU_ASSERT(rows * 2 * 16 * sizeof(float) > 65536 / 2);
    }
    drive_close(&drive);
    tokens_free(&t);
}

/* ---- settings */

static void settings_that_cannot_work_are_refused_in_words(void)
{
    static const struct {
        const char *choice;
        enum attention_kind kind;
        int err;
        const char *words;
    } cases[] = {
        {"subgen,delta=0", ATTENTION_SOFTMAX, ERR_INVALID, "delta: must be auto or a number above 0, not '0'"},
        {"subgen,delta=-1", ATTENTION_SOFTMAX, ERR_INVALID, "delta: must be auto"},
        {"subgen,delta=nan", ATTENTION_SOFTMAX, ERR_INVALID, "not 'nan'"},
        {"subgen,delta=0x10", ATTENTION_SOFTMAX, ERR_INVALID, "not '0x10'"},
        {"subgen,delta=1x2", ATTENTION_SOFTMAX, ERR_INVALID, "not '1x2'"},
        {"subgen4,delta=1x", ATTENTION_TENSOR, ERR_INVALID, "two as 0.5x0.7, not '1x'"},
        {"subgen4,delta=1x2x3", ATTENTION_TENSOR, ERR_INVALID, "not '1x2x3'"},
        {"subgen4,delta=1x0", ATTENTION_TENSOR, ERR_INVALID, "not '1x0'"},
        {"subgen2,factor_delta=often", ATTENTION_TENSOR, ERR_INVALID, "factor_delta: must be auto, a number above 0, or two"},
        {"subgen,samples=0", ATTENTION_SOFTMAX, ERR_INVALID, "samples: must be a whole number from 1"},
        {"subgen,estimator=best", ATTENTION_SOFTMAX, ERR_INVALID, "one of paper, ratio"},
        {"subgen,budget_bytes=1000", ATTENTION_SOFTMAX, ERR_INVALID, "needs at least"},
        {"subgen,recent_tokens=100000000", ATTENTION_SOFTMAX, ERR_INVALID, "recent"},
        {"subgen4,budget_bytes=2000", ATTENTION_TENSOR, ERR_INVALID, "needs at least"},
        {"subgen2,budget_bytes=2000", ATTENTION_TENSOR, ERR_INVALID, "needs at least"},
        {"subgen2,history=true,budget_bytes=1000000", ATTENTION_TENSOR, ERR_UNSUPPORTED, "there can be no budget"},
        {"subgen2,sink_tokens=65", ATTENTION_TENSOR, ERR_INVALID, "sink_tokens: at most 64"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tokens t;
        struct fault fault = {0};
        tokens_random(&t, cases[i].kind, 1, 1, 8, 8, 27);
        CU_ASSERT_EQUAL(drive_refusal(&t, cases[i].choice, 0, &fault), cases[i].err);
        CU_assertImplementation(strstr(fault.text, cases[i].words) != NULL, __LINE__, fault.text, cases[i].words, "", CU_FALSE);
        tokens_free(&t);
    }
}

/* The smallest budget that a refusal names is one that works. */
static void the_least_budget_that_a_refusal_names_works(void)
{
    static const struct {
        const char *policy;
        enum attention_kind kind;
    } cases[] = {{"subgen", ATTENTION_SOFTMAX},
                 {"subgen,estimator=paper", ATTENTION_SOFTMAX},
                 {"subgen,recent_tokens=50,storage=bf16", ATTENTION_SOFTMAX},
                 {"subgen4", ATTENTION_TENSOR},
                 {"subgen2,estimator=paper", ATTENTION_TENSOR}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tokens t;
        struct fault fault = {0};
        struct drive drive;
        char choice[128];
        tokens_random(&t, cases[i].kind, 300, 1, 8, 8, 28);
        snprintf(choice, sizeof choice, "%s,budget_bytes=64", cases[i].policy);
        CU_ASSERT_EQUAL(drive_refusal(&t, choice, 0, &fault), ERR_INVALID);
        const char *number = strstr(fault.text, "at least ");
        CU_ASSERT_PTR_NOT_NULL_FATAL(number);
        snprintf(choice, sizeof choice, "%s,budget_bytes=%lu", cases[i].policy, strtoul(number + 9, NULL, 10));
        if (drive_open(&drive, &t, choice, kernels_best(), 0))
            drive_run(&drive, 0, cases[i].kind == ATTENTION_TENSOR ? 60 : t.n, 1, NULL);
        drive_close(&drive);
        tokens_free(&t);
    }
}

TEST_SUITE("lib/cache/subgen/subgen", TEST(subgen_conforms), TEST(subgen4_conforms), TEST(subgen2_conforms),
           TEST(what_fits_the_exact_rows_is_exact), TEST(clusters_of_equal_rows_are_exact),
           TEST(clusterable_keys_are_cheap_and_others_are_told_apart), TEST(clusters_in_the_plane_saturate_far_from_the_budget),
           TEST(budgets_hold_over_a_hundred_thousand_tokens), TEST(without_a_budget_automatic_delta_is_bounded_too),
           TEST(rows_that_clusters_leave_over_become_samples), TEST(settings_that_cannot_work_are_refused_in_words),
           TEST(the_least_budget_that_a_refusal_names_works))
