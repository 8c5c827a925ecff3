#include "tests/lib/cache/conform.h"
#include "tests/lib/cache/drive.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void full_conforms(void)
{
    conform_check(&(struct conform){"full", ATTENTION_SOFTMAX, 700, 0});
    conform_check(&(struct conform){"full,key_storage=bf16,value_storage=f16", ATTENTION_SOFTMAX, 300, 40});
    conform_check(&(struct conform){"full", ATTENTION_TENSOR, 150, 0});
}

static void full_conforms_with_rows_in_groups(void)
{
    conform_check(&(struct conform){"full,storage=kivi2", ATTENTION_SOFTMAX, 700, 0});
    conform_check(&(struct conform){"full,storage=rot3s", ATTENTION_SOFTMAX, 300, 0});
    conform_check(&(struct conform){"full,storage=rot4s", ATTENTION_TENSOR, 100, 0});
    conform_check(&(struct conform){"full,storage=kivi2,residual_tokens=0", ATTENTION_SOFTMAX, 300, 40});
    conform_check(&(struct conform){"full,key_storage=kivi2,value_storage=rot4,residual_tokens=50", ATTENTION_SOFTMAX, 300, 0});
    conform_check(&(struct conform){"full,storage=kivi2,residual_tokens=16", ATTENTION_TENSOR, 150, 0});
}

/* What a query of token t sees: the last `residual` tokens, and those whose group is not whole yet, to the bit as f16 keeps them; all
 * others as kivi2 does. */
static void the_newest_rows_of_a_group_storage_are_wide(void)
{
    enum { RESIDUAL = 40, N = 200, D = 8 };
    struct tokens t;
    struct drive drive;
    tokens_random(&t, ATTENTION_SOFTMAX, N, 1, D, D, 6);
    if (drive_open(&drive, &t, "full,storage=kivi2,residual_tokens=40", kernels_best(), 0))
        for (size_t n = 1; n <= N; n++) {
            struct view view[2];
            size_t packed = 0, wide = 0;
            drive_run(&drive, n - 1, 1, 1, NULL);
            drive.cache->ops->view(drive.cache, n - 1, NULL, view);
            for (size_t i = 0; i < view[0].n_seg; i++) {
                const struct segment *s = &view[0].seg[i];
                bool kivi = s->key_storage->id == STORAGE_KIVI2;
                CU_ASSERT(kivi || s->key_storage->id == STORAGE_F16);
                CU_ASSERT_EQUAL(s->value_storage, s->key_storage);
                CU_ASSERT_EQUAL(s->first, packed + wide);
                packed += kivi ? s->n : 0;
                wide += kivi ? 0 : s->n;
                for (size_t j = 0; !kivi && j < s->n; j++) {
                    float key[D], expected[D];
                    memcpy(expected, t.key[0] + (s->first + j) * D, sizeof expected);
                    drive_stored(&storage_table[STORAGE_F16], expected, 1, D);
                    kernels_best()->unpack_keys[STORAGE_F16](s->keys, s->row + j, 1, D, key);
                    CU_ASSERT(memcmp(key, expected, sizeof key) == 0);
                }
            }
            CU_ASSERT_EQUAL(packed, n > RESIDUAL ? (n - RESIDUAL) / 32 * 32 : 0);
            CU_ASSERT_EQUAL(packed + wide, n);
        }
    drive_close(&drive);
    tokens_free(&t);
}

static void policies_that_replace_rows_refuse_groups_by_name(void)
{
    struct tokens t;
    struct fault fault;
    tokens_random(&t, ATTENTION_SOFTMAX, 4, 1, 8, 8, 7);
    for (size_t p = 0; cache_table[p]; p++) {
        char choice[80];
        if (cache_table[p]->takes_groups || !(cache_table[p]->kinds & 1u << ATTENTION_SOFTMAX))
            continue;
        fault = (struct fault){0};
        snprintf(choice, sizeof choice, "%s,value_storage=kivi2", cache_table[p]->name);
        CU_ASSERT_EQUAL(drive_refusal(&t, choice, 64, &fault), ERR_UNSUPPORTED);
        CU_ASSERT(strstr(fault.text, cache_table[p]->name) && strstr(fault.text, "kivi2"));
    }
    tokens_free(&t);
}

static void policies_that_store_keys_again_refuse_sketches_by_name(void)
{
    struct tokens t;
    struct fault fault;
    tokens_random(&t, ATTENTION_SOFTMAX, 4, 1, 8, 8, 7);
    for (size_t p = 0; cache_table[p]; p++) {
        char choice[80];
        if (!cache_table[p]->stores_again || !(cache_table[p]->kinds & 1u << ATTENTION_SOFTMAX))
            continue;
        fault = (struct fault){0};
        snprintf(choice, sizeof choice, "%s,key_storage=rot3s", cache_table[p]->name);
        CU_ASSERT_EQUAL(drive_refusal(&t, choice, 64, &fault), ERR_UNSUPPORTED);
        CU_ASSERT(strstr(fault.text, cache_table[p]->name) && strstr(fault.text, "rot3s"));
    }
    CU_ASSERT(cache_find("merge")->stores_again && cache_find("subgen")->stores_again && !cache_find("window")->stores_again);
    tokens_free(&t);
}

/* More than one page, against float64. */
static void outputs_equal_float64_over_several_pages(void)
{
    static const size_t everything[2] = {SIZE_MAX, SIZE_MAX};
    struct tokens t;
    struct drive drive;
    tokens_random(&t, ATTENTION_SOFTMAX, 1100, 1, 20, 6, 3);
    float *out = malloc(t.n * t.e * sizeof *out);
    double *reference = reference_outputs(&t, everything, 0, false);
    if (drive_open(&drive, &t, "full", kernels_best(), 0)) {
        drive_run(&drive, 0, t.n, 0, out);
        ASSERT_NEAR(drive_worst_error(out, reference, t.n, t.e), 0, 1e-5); /* 1.9e-6 was reached */
    }
    drive_close(&drive);
    free(reference);
    free(out);
    tokens_free(&t);
}

/* Rows of 64 + 64 coordinates in bf16 take 256 bytes. */
static void small_streams_stay_small(void)
{
    struct tokens t;
    tokens_random(&t, ATTENTION_SOFTMAX, 600, 1, 64, 64, 4);
    static const struct {
        size_t n, rows;
        uint64_t expected;
    } steps[] = {{1, 64, 0}, {64, 64, 0}, {65, 128, 0}, {300, 512, 0}, {513, 1024, 0}, {1, 16, 9}, {17, 32, 9}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct drive drive;
        if (drive_open(&drive, &t, "full,storage=bf16", kernels_best(), steps[i].expected)) {
            CU_ASSERT_EQUAL(drive.cache->account.allocated, 0);
            drive_run(&drive, 0, steps[i].n, 0, NULL);
            CU_ASSERT(drive.cache->account.allocated >= steps[i].rows * 256);
            CU_ASSERT(drive.cache->account.allocated <= steps[i].rows * 256 + 256); /* the directory */
        }
        drive_close(&drive);
    }
    tokens_free(&t);
}

static void worst_bytes_are_exact(void)
{
    static const char *const choices[] = {"full", "full,storage=bf16", "full,value_storage=f16",
                                          "full,storage=kivi2,residual_tokens=70"};
    for (int kind = 0; kind < N_ATTENTION; kind++)
        for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
            struct tokens t;
            struct drive drive;
            tokens_random(&t, (enum attention_kind)kind, 1600, 1, 3, 5, 5);
            if (drive_open(&drive, &t, choices[i], kernels_best(), 0))
                for (size_t at = 0; at < t.n; at += 50) {
                    drive_run(&drive, at, 50, 50, NULL);
                    CU_ASSERT_EQUAL(drive.cache->account.allocated,
                                    drive.policy.ops->worst_bytes(&drive.policy, &drive.dims, drive.cache->n_tokens));
                }
            drive_close(&drive);
            tokens_free(&t);
        }
}

static size_t resident_now(void)
{
    unsigned long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f) {
        if (fscanf(f, "%lu %lu", &total, &resident) != 2)
            resident = 0;
        fclose(f);
    }
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void memory_goes_back_to_the_system(void)
{
    struct tokens t;
    struct drive drive;
    tokens_random(&t, ATTENTION_SOFTMAX, 4096, 1, 512, 512, 6);
    size_t before = resident_now();
    if (drive_open(&drive, &t, "full", kernels_best(), 0)) {
        drive_run(&drive, 0, t.n, 512, NULL);
        size_t rows = t.n * 1024 * sizeof(float);
        CU_ASSERT(drive.cache->account.resident >= rows && drive.cache->account.resident <= rows + 4096);
        CU_ASSERT(resident_now() >= before + rows / 10 * 9);
        drive_close(&drive);
        CU_ASSERT(resident_now() <= before + rows / 10);
    }
    drive_close(&drive);
    tokens_free(&t);
}

/* Token 512 needs a page for either stream: where only one finds memory, it is given back (its directory stays larger). */
static void a_page_for_one_stream_alone_is_given_back(void)
{
    struct tokens t;
    struct drive drive;
    tokens_random(&t, ATTENTION_TENSOR, CHUNK + 1, 1, 8, 8, 7);
    if (drive_open(&drive, &t, "full", kernels_best(), 0)) {
        drive_run(&drive, 0, CHUNK, 0, NULL);
        size_t allocated = drive.cache->account.allocated, page = CHUNK * 16 * sizeof(float);
        CU_ASSERT_EQUAL(drive_append_within(&drive, CHUNK, 1, 2 * page - 64), ERR_NO_MEMORY);
        CU_ASSERT(drive.cache->account.allocated <= allocated + 128);
        drive_run(&drive, CHUNK, 1, 1, NULL);
        CU_ASSERT(drive.cache->account.allocated >= allocated + 2 * page);
    }
    drive_close(&drive);
    tokens_free(&t);
}

TEST_SUITE("lib/cache/full", TEST(full_conforms), TEST(full_conforms_with_rows_in_groups),
           TEST(the_newest_rows_of_a_group_storage_are_wide), TEST(policies_that_replace_rows_refuse_groups_by_name),
           TEST(policies_that_store_keys_again_refuse_sketches_by_name), TEST(outputs_equal_float64_over_several_pages),
           TEST(small_streams_stay_small), TEST(worst_bytes_are_exact), TEST(memory_goes_back_to_the_system),
           TEST(a_page_for_one_stream_alone_is_given_back))
