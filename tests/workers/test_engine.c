/* The engine: life of parts and streams, totals that add up, failures that stay where they are. */
#include "base/clock.h"
#include "tests/e2e/house.h"
#include "tests/test.h"
#include "workers/stream.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An engine with a stream of softmax and tensor layers, and how often each part was reported. */
struct shop {
    struct config *config;
    struct engine *engine;
    struct shape shape;
    struct tokens tokens[2]; /* softmax, tensor */
    struct engine_stream *stream;
    atomic_size_t n_done, n_failed;
};

enum { TOKENS = 400 };

static void done(void *context, struct part *part)
{
    struct shop *shop = context;
    atomic_fetch_add(&shop->n_failed, atomic_load(&part->err) != 0);
    atomic_fetch_add((atomic_size_t *)part->owner, 1);
    atomic_fetch_add(&shop->n_done, 1);
}

static void shop_open(struct shop *s, const char *layout, size_t heads, size_t kv_heads, const char *profile)
{
    memset(s, 0, sizeof *s);
    s->config = house_config(NULL, 1, layout);
    s->shape = house_shape(1, 1, heads, kv_heads, 16, 8);
    for (uint32_t layer = 0; layer < 2; layer++)
        tokens_create(&s->tokens[layer], &s->shape, 1, layer, 0, TOKENS);
    CU_ASSERT_FATAL(s->config != NULL);
    CU_ASSERT_EQUAL_FATAL(engine_create(&s->engine, s->config, kernels_best(), done, s, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(engine_open(s->engine, &s->shape, profile, &s->stream, NULL), 0);
}

static void shop_close(struct shop *s)
{
    engine_drain(s->engine);
    engine_close(s->engine, &s->stream);
    CU_ASSERT_PTR_NULL(s->stream);
    engine_destroy(s->engine);
    config_destroy(s->config);
    tokens_destroy(&s->tokens[0]);
    tokens_destroy(&s->tokens[1]);
}

/* Submits n tokens of a layer from the next on; out may be NULL when nothing attends. */
static struct part *submit(struct shop *s, struct engine_stream *stream, uint32_t layer, size_t n, unsigned flags, float *out,
                           atomic_size_t *n_reports)
{
    struct part *part = NULL;
    uint64_t at = engine_next_token(stream, layer);
    const struct tokens *t = &s->tokens[layer];
    CU_ASSERT_EQUAL_FATAL(part_create(&part, s->engine, stream), 0);
    part->stream = stream;
    part->layer = layer;
    part->n_tokens = (uint32_t)n;
    part->flags = flags;
    part->first_token = at;
    part->q = flags & PART_ATTEND ? tokens_q(t, flags & PART_APPEND ? at : 0) : NULL;
    for (int i = 0; i < 2 && flags & PART_APPEND; i++) {
        part->key[i] = tokens_key(t, i, at);
        part->value[i] = tokens_value(t, i, at);
    }
    part->out = out;
    part->owner = n_reports;
    CU_ASSERT_EQUAL(engine_check_part(part, NULL), 0);
    engine_submit(s->engine, part);
    return part;
}

static const char *const layouts[] = {"pools: [{threads: 1}]\n", "pools: [{threads: 8}]\n",
                                      "pools: [{threads: 2, heads: 0}, {threads: 1, heads: 3-}, {threads: 2}]\n"};
enum { N_LAYOUTS = sizeof layouts / sizeof *layouts };

/* One thread for sixteen heads, eight threads for one head, and three pools; nothing is waited for. */
static void every_part_is_reported_once_and_the_rest_follows_from_their_order(void)
{
    enum { PARTS = 30, EACH = 5 };
    for (size_t l = 0; l < N_LAYOUTS; l++)
        for (size_t kv_heads = 1; kv_heads <= 16; kv_heads *= 4) {
            struct shop s;
            struct part *part[2][PARTS];
            atomic_size_t reports[2][PARTS] = {{0}};
            shop_open(&s, layouts[l], kv_heads, kv_heads, "full");
            size_t each = floats_out(&s.shape, EACH);
            float *out = calloc(2 * PARTS * each, sizeof *out), *one = calloc(each, sizeof *one);
            for (uint32_t i = 0; i < 2 * PARTS; i++)
                part[i % 2][i / 2] =
                    submit(&s, s.stream, i % 2, EACH, PART_APPEND | PART_ATTEND, out + i * each, &reports[i % 2][i / 2]);
            engine_drain(s.engine);
            CU_ASSERT_EQUAL(atomic_load(&s.n_done), 2 * PARTS);
            CU_ASSERT_EQUAL(atomic_load(&s.n_failed), 0);
            struct local local;
            CU_ASSERT_FATAL(local_open(&local, s.config, &s.shape, "full"));
            for (uint32_t i = 0; i < 2 * PARTS; i++) {
                const struct part *p = part[i % 2][i / 2];
                CU_ASSERT_EQUAL(atomic_load(&reports[i % 2][i / 2]), 1);
                CU_ASSERT(p->end_ns >= p->submit_ns && atomic_load(&p->attend_ns) > 0);
                CU_ASSERT_EQUAL(
                    local_step(&local, &s.tokens[i % 2], i % 2, i / 2 * EACH, EACH, PART_APPEND | PART_ATTEND, one, NULL), 0);
                CU_ASSERT(memcmp(one, out + i * each, each * sizeof *one) == 0);
                part_destroy(part[i % 2][i / 2]);
            }
            local_close(&local);
            shop_close(&s);
            free(out);
            free(one);
        }
}

static void a_part_may_be_used_again(void)
{
    struct shop s;
    atomic_size_t reports = 0;
    shop_open(&s, layouts[0], 4, 2, "full");
    struct part *part = submit(&s, s.stream, 0, 3, PART_APPEND, NULL, &reports);
    for (size_t i = 1; i < 20; i++) {
        engine_drain(s.engine);
        CU_ASSERT_EQUAL(atomic_load(&reports), i);
        part->first_token = engine_next_token(s.stream, 0);
        CU_ASSERT_EQUAL(part->first_token, 3 * i);
        engine_submit(s.engine, part);
    }
    engine_drain(s.engine);
    CU_ASSERT_EQUAL(engine_next_token(s.stream, 0), 60);
    CU_ASSERT_EQUAL(engine_next_token(s.stream, 1), 0);
    part_destroy(part);
    part_destroy(NULL);
    shop_close(&s);
}

/* ---- totals */

static bool totals_are_zero(const struct engine_totals *t)
{
    return !atomic_load(&t->allocated) && !atomic_load(&t->resident) && !atomic_load(&t->control) &&
           !atomic_load(&t->full_bf16) && !atomic_load(&t->streams) && !atomic_load(&t->queued) && !atomic_load(&t->audited);
}

static void expect_zero(const struct engine *engine)
{
    for (size_t i = 0; i < engine_n_pools(engine); i++)
        CU_ASSERT(totals_are_zero(engine_pool_totals(engine, i)));
    for (size_t i = 0; i < engine_n_profiles(engine); i++)
        CU_ASSERT(totals_are_zero(engine_profile_totals(engine, i)));
}

static void totals_are_the_sums_of_streams_and_go_back_to_zero(void)
{
    static const char *const profiles[] = {"full",      "bf16", "window,window_tokens=20", "unmasked,window_tokens=20",
                                           "two_cache", "full"};
    enum { N = sizeof profiles / sizeof *profiles };
    for (size_t l = 0; l < N_LAYOUTS; l++) {
        struct shop s;
        struct engine_stream *stream[N];
        struct engine_stream_state sum = {0};
        atomic_size_t reports = 0;
        shop_open(&s, layouts[l], 4, 4, "full");
        engine_close(s.engine, &s.stream);
        for (size_t i = 0; i < N; i++) {
            CU_ASSERT_EQUAL_FATAL(engine_open(s.engine, &s.shape, profiles[i], &stream[i], NULL), 0);
            for (uint32_t layer = 0; layer < 2; layer++)
                for (size_t n = 1; n < 60; n += 13) {
                    struct part *part = submit(&s, stream[i], layer, n, PART_APPEND, NULL, &reports);
                    engine_drain(s.engine);
                    part_destroy(part);
                }
        }
        for (size_t i = 0; i < N; i++) {
            struct engine_stream_state state;
            engine_stream_state(stream[i], &state);
            sum.allocated += state.allocated;
            sum.resident += state.resident;
            sum.control += state.control;
            sum.full_bf16 += state.full_bf16;
            CU_ASSERT_EQUAL(state.tokens, 2 * (1 + 14 + 27 + 40 + 53));
        }
        size_t pools[4] = {0}, by_profile[4] = {0};
        for (size_t i = 0; i < engine_n_pools(s.engine); i++) {
            const struct engine_totals *t = engine_pool_totals(s.engine, i);
            pools[0] += atomic_load(&t->allocated), pools[1] += atomic_load(&t->resident);
            pools[2] += atomic_load(&t->control), pools[3] += atomic_load(&t->full_bf16);
        }
        CU_ASSERT_EQUAL(engine_n_profiles(s.engine), 5); /* full is there twice */
        for (size_t i = 0; i < engine_n_profiles(s.engine); i++) {
            const struct engine_totals *t = engine_profile_totals(s.engine, i);
            by_profile[0] += atomic_load(&t->allocated), by_profile[1] += atomic_load(&t->resident);
            by_profile[2] += atomic_load(&t->control), by_profile[3] += atomic_load(&t->full_bf16);
            CU_ASSERT_EQUAL(atomic_load(&t->streams), i == 0 ? 2 : 1);
        }
        CU_ASSERT_STRING_EQUAL(engine_profile_name(s.engine, 0), "full");
        CU_ASSERT_STRING_EQUAL(engine_profile_name(s.engine, 4), "two_cache");
        const size_t sums[4] = {sum.allocated, sum.resident, sum.control, sum.full_bf16};
        for (int i = 0; i < 4; i++) {
            CU_ASSERT(sums[i] > 0);
            CU_ASSERT_EQUAL(pools[i], sums[i]);
            CU_ASSERT_EQUAL(by_profile[i], sums[i]);
        }
        for (size_t i = 0; i < N; i++)
            engine_close(s.engine, &stream[i]);
        expect_zero(s.engine);
        shop_close(&s);
    }
}

/* What admission reserves must never be less than what the caches then take. */
static void growth_is_never_underestimated(void)
{
    static const char *const profiles[] = {
        "full", "bf16", "window,window_tokens=50", "unmasked,window_tokens=50", "window,budget_bytes=9000", "two_cache"};
    for (size_t i = 0; i < sizeof profiles / sizeof *profiles; i++) {
        struct shop s;
        struct engine_stream_state state;
        atomic_size_t reports = 0;
        shop_open(&s, layouts[1], 4, 2, profiles[i]);
        engine_stream_state(s.stream, &state);
        size_t reserved = state.allocated;
        for (uint64_t m = 0; m < 40; m++) {
            uint32_t layer = m % 2;
            size_t n = 1 + pick(5, m, 16);
            if (engine_next_token(s.stream, layer) + n > (strcmp(profiles[i], "two_cache") == 0 ? 90 : TOKENS))
                continue;
            reserved += engine_worst_growth(s.stream, layer, n);
            struct part *part = submit(&s, s.stream, layer, n, PART_APPEND, NULL, &reports);
            engine_drain(s.engine);
            part_destroy(part);
            engine_stream_state(s.stream, &state);
            CU_ASSERT(state.allocated <= reserved);
        }
        shop_close(&s);
    }
}

/* ---- failures */

static void a_head_without_memory_fails_its_stream_and_nothing_else(void)
{
    for (size_t l = 0; l < N_LAYOUTS; l++) {
        struct shop s;
        struct engine_stream *other;
        struct engine_stream_state state;
        struct part *part[12];
        atomic_size_t reports = 0;
        shop_open(&s, layouts[l], 4, 4, "full");
        CU_ASSERT_EQUAL_FATAL(engine_open(s.engine, &s.shape, "bf16", &other, NULL), 0);
        float *out = calloc(floats_out(&s.shape, 300), sizeof *out);
        part[0] = submit(&s, s.stream, 0, 30, PART_APPEND | PART_ATTEND, out, &reports);
        engine_drain(s.engine);
        CU_ASSERT_EQUAL(atomic_load(&s.n_failed), 0);
        struct page_account *account = &s.stream->layer[0].head[2].cache->account;
        account->limit = atomic_load(&account->allocated); /* not one page more, for one head of four */
        for (size_t i = 1; i < 6; i++) {
            part[2 * i - 1] = submit(&s, s.stream, 0, 30, PART_APPEND | PART_ATTEND, out, &reports);
            part[2 * i] = submit(&s, other, 0, 30, PART_APPEND | PART_ATTEND, out + floats_out(&s.shape, 30), &reports);
        }
        part[11] = submit(&s, s.stream, 1, 5, PART_APPEND, NULL, &reports); /* another layer of the failed stream */
        engine_drain(s.engine);
        engine_stream_state(s.stream, &state);
        CU_ASSERT_EQUAL(state.err, ERR_NO_MEMORY);
        CU_ASSERT_EQUAL(atomic_load(&reports), 12);
        bool failed = false;
        for (size_t i = 1; i < 12; i++) {
            int err = atomic_load(&part[i]->err);
            CU_ASSERT(part[i]->stream == other ? !err : !err || err == ERR_NO_MEMORY);
            CU_ASSERT(!(failed && i % 2 && i < 11 && !err)); /* once failed, failed for ever */
            failed |= err != 0;
        }
        CU_ASSERT(failed);
        engine_stream_state(other, &state);
        CU_ASSERT_EQUAL(state.err, 0);
        CU_ASSERT_EQUAL(state.tokens, 150);
        for (size_t i = 0; i < 12; i++)
            part_destroy(part[i]);
        engine_close(s.engine, &s.stream); /* whatever its heads hold by now, the totals lose it */
        engine_close(s.engine, &other);
        expect_zero(s.engine);
        free(out);
        shop_close(&s);
    }
}

static void what_cannot_be_opened_leaves_nothing_behind(void)
{
    struct shop s;
    struct engine_stream *stream;
    struct fault fault;
    shop_open(&s, layouts[2], 4, 4, "full");
    engine_close(s.engine, &s.stream);
    CU_ASSERT_EQUAL(engine_open(s.engine, &s.shape, "nonesuch", &stream, &fault), ERR_UNKNOWN_PROFILE);
    CU_ASSERT_PTR_NULL(stream);
    CU_ASSERT_EQUAL(engine_open(s.engine, &s.shape, "window,budget_bytes=1", &stream, &fault), ERR_INVALID);
    CU_ASSERT(strstr(fault.text, "budget") != NULL);
    struct shape bad = s.shape;
    bad.kv_heads = 3;
    CU_ASSERT_EQUAL(engine_open(s.engine, &bad, "full", &stream, &fault), ERR_INVALID);
    expect_zero(s.engine);
    shop_close(&s);
}

/* A profile's compute reaches its tensor heads, whose layer it leaves near, and no softmax head. */
static void compute_in_bf16_changes_tensor_layers_a_little(void)
{
    enum { N = 100 };
    struct shop s;
    struct local exact, rounded;
    shop_open(&s, layouts[0], 2, 2, "full");
    size_t n = floats_out(&s.shape, N);
    float *a = calloc(n, sizeof *a), *b = calloc(n, sizeof *b);
    CU_ASSERT_FATAL(local_open(&exact, s.config, &s.shape, "full"));
    CU_ASSERT_FATAL(local_open(&rounded, s.config, &s.shape, "full,compute=bf16"));
    for (uint32_t layer = 0; layer < 2; layer++) {
        double error = 0, norm = 0;
        CU_ASSERT_EQUAL(local_step(&exact, &s.tokens[layer], layer, 0, N, PART_APPEND | PART_ATTEND, a, NULL), 0);
        CU_ASSERT_EQUAL(local_step(&rounded, &s.tokens[layer], layer, 0, N, PART_APPEND | PART_ATTEND, b, NULL), 0);
        for (size_t i = 0; i < n; i++) {
            error += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
            norm += (double)a[i] * a[i];
        }
        CU_ASSERT(layer == 0 ? error == 0 : error > 1e-10 * norm && error < 1e-4 * norm);
    }
    local_close(&exact);
    local_close(&rounded);
    free(a);
    free(b);
    shop_close(&s);
}

static void heads_of_closed_streams_make_room_in_their_pools(void)
{
    struct shop s;
    struct engine_stream *stream[2];
    shop_open(&s, "pools: [{threads: 1}, {threads: 1}]\n", 1, 1, "full"); /* a softmax and a tensor layer: one head each */
    struct pool *pools[2] = {s.stream->head[0].pool, s.stream->head[1].pool};
    CU_ASSERT_PTR_NOT_EQUAL(pools[0], pools[1]);
    for (int again = 0; again < 4; again++) {
        struct shape one = house_shape(1, 0, 1, 1, 16, 8);
        CU_ASSERT_EQUAL_FATAL(engine_open(s.engine, &one, "full", &stream[0], NULL), 0);
        CU_ASSERT_EQUAL_FATAL(engine_open(s.engine, &one, "full", &stream[1], NULL), 0);
        CU_ASSERT_PTR_EQUAL(stream[0]->head[0].pool, pools[0]);
        CU_ASSERT_PTR_EQUAL(stream[1]->head[0].pool, pools[1]);
        engine_close(s.engine, &stream[0]);
        CU_ASSERT_EQUAL_FATAL(engine_open(s.engine, &one, "full", &stream[0], NULL), 0);
        CU_ASSERT_PTR_EQUAL(stream[0]->head[0].pool, pools[0]); /* the place that became free */
        engine_close(s.engine, &stream[0]);
        engine_close(s.engine, &stream[1]);
    }
    shop_close(&s);
}

TEST_SUITE("workers/engine", TEST(every_part_is_reported_once_and_the_rest_follows_from_their_order),
           TEST(a_part_may_be_used_again), TEST(totals_are_the_sums_of_streams_and_go_back_to_zero),
           TEST(growth_is_never_underestimated), TEST(a_head_without_memory_fails_its_stream_and_nothing_else),
           TEST(what_cannot_be_opened_leaves_nothing_behind), TEST(heads_of_closed_streams_make_room_in_their_pools),
           TEST(compute_in_bf16_changes_tensor_layers_a_little))
