/* Determinism: the same messages give the same bits for every number of threads and pools, here and in the daemon; the same
 * tokens cut otherwise give the same outputs to 1e-6. */
#include "cache/cache.h"
#include "tests/e2e/house.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALL = WIRE_APPEND | WIRE_ATTEND | WIRE_PARTIAL };

/* What is computed. */
struct work {
    const char *profile;
    enum attention_kind kind;
    size_t heads, kv_heads, key_dim, value_dim, n;
    enum element element;
};

enum { N = UNDER_TSAN ? 120 : 300, N_TENSOR = UNDER_TSAN ? 60 : 150 };

static const struct work works[] = {
    {"full", ATTENTION_SOFTMAX, 8, 4, 16, 8, N, ELEMENT_F32},
    {"bf16", ATTENTION_SOFTMAX, 6, 3, 17, 5, N, ELEMENT_BF16},
    {"full,key_storage=f16", ATTENTION_SOFTMAX, 4, 4, 8, 16, N, ELEMENT_F16},
    {"window,window_tokens=37,sink_tokens=3", ATTENTION_SOFTMAX, 4, 2, 16, 8, N, ELEMENT_F32},
    {"unmasked,window_tokens=40", ATTENTION_SOFTMAX, 4, 2, 16, 8, N, ELEMENT_F32},
    {"uniform,budget_fraction=0.2", ATTENTION_SOFTMAX, 4, 2, 16, 8, N, ELEMENT_F32},
    {"h2o,budget_fraction=0.2", ATTENTION_SOFTMAX, 4, 2, 16, 8, N, ELEMENT_F32},
    {"tova,budget_fraction=0.2,storage=bf16", ATTENTION_SOFTMAX, 4, 4, 16, 8, N, ELEMENT_F32},
    {"snapkv,budget_fraction=0.2", ATTENTION_SOFTMAX, 4, 2, 16, 8, N, ELEMENT_F32},
    {"keydiff,budget_fraction=0.2", ATTENTION_SOFTMAX, 4, 2, 16, 8, N, ELEMENT_F32},
    {"expected,budget_fraction=0.3", ATTENTION_SOFTMAX, 4, 2, 16, 8, N, ELEMENT_F32},
    {"balance,budget_fraction=0.3", ATTENTION_SOFTMAX, 4, 2, 16, 8, N, ELEMENT_F32},
    {"merge,budget_fraction=0.3", ATTENTION_SOFTMAX, 4, 2, 16, 8, N, ELEMENT_F32},
    {"subgen,budget_fraction=0.3", ATTENTION_SOFTMAX, 4, 2, 16, 8, N, ELEMENT_F32},
    {"subgen,estimator=paper,delta=3", ATTENTION_SOFTMAX, 4, 2, 16, 8, N, ELEMENT_BF16},
    {"full", ATTENTION_TENSOR, 4, 2, 16, 8, N_TENSOR, ELEMENT_F32},
    {"bf16", ATTENTION_TENSOR, 4, 4, 7, 9, N_TENSOR, ELEMENT_BF16},
    {"window,window_tokens=50x9,sink_tokens=2", ATTENTION_TENSOR, 4, 2, 16, 8, N_TENSOR, ELEMENT_F32},
    {"unmasked,window_tokens=33x12", ATTENTION_TENSOR, 4, 2, 16, 8, N_TENSOR, ELEMENT_F32},
    {"merge,budget_fraction=0.5", ATTENTION_TENSOR, 4, 2, 16, 8, N_TENSOR, ELEMENT_F32},
    {"two_cache", ATTENTION_TENSOR, 4, 2, 8, 8, 60, ELEMENT_F32},
    {"subgen4,max_clusters=12", ATTENTION_TENSOR, 4, 2, 16, 8, N_TENSOR, ELEMENT_F32},
    {"subgen2,max_clusters=12", ATTENTION_TENSOR, 4, 2, 8, 8, 60, ELEMENT_F32},
};
enum { N_WORKS = sizeof works / sizeof *works };

/* One head with rows enough that they are split over threads: a decode step, and a run of queries. */
static const struct work long_works[] = {
    {"full", ATTENTION_SOFTMAX, 4, 1, 64, 64, UNDER_TSAN ? 1300 : 4000, ELEMENT_F32},
    {"full,storage=bf16", ATTENTION_SOFTMAX, 1, 1, 128, 128, UNDER_TSAN ? 1300 : 3000, ELEMENT_BF16},
    {"window,window_tokens=2000", ATTENTION_SOFTMAX, 8, 1, 64, 64, UNDER_TSAN ? 2200 : 3000, ELEMENT_F32},
    {"full", ATTENTION_TENSOR, 2, 1, 32, 32, UNDER_TSAN ? 200 : 500, ELEMENT_F32},
    {"two_cache", ATTENTION_TENSOR, 2, 1, 16, 16, UNDER_TSAN ? 60 : 90, ELEMENT_F32},
};
enum { N_LONG = sizeof long_works / sizeof *long_works };

static const char *const layouts[] = {
    "pools: [{threads: 1}]\n",
    "pools: [{threads: 2}]\n",
    "pools: [{threads: 4}]\n",
    "pools: [{threads: 1}, {threads: 2}]\n",
    "pools: [{threads: 2, heads: 1}, {threads: 1, heads: auto}]\n",
    "pools: [{threads: 1, heads: 2-}, {threads: 3, heads: 0}, {threads: 1, heads: auto}]\n",
};
enum { N_LAYOUTS = sizeof layouts / sizeof *layouts };

enum cut { ONES, SEVENS, SIXTY_FOURS, RANDOM, N_CUTS };

static size_t cut_size(enum cut cut, uint64_t message, size_t left)
{
    size_t n = cut == ONES ? 1 : cut == SEVENS ? 7 : cut == SIXTY_FOURS ? 64 : 1 + pick(9, message, 100);
    return n < left ? n : left;
}

struct outputs {
    size_t n_out, n_lse;
    float *out, *lse;
};

static struct shape shape_of(const struct work *w)
{
    struct shape shape =
        house_shape(w->kind == ATTENTION_SOFTMAX, w->kind == ATTENTION_TENSOR, w->heads, w->kv_heads, w->key_dim, w->value_dim);
    shape.element = w->element;
    return shape;
}

static void outputs_create(struct outputs *o, const struct work *w)
{
    struct shape shape = shape_of(w);
    o->n_out = floats_out(&shape, w->n);
    o->n_lse = floats_lse(&shape, w->n);
    o->out = calloc(o->n_out, sizeof *o->out);
    o->lse = calloc(o->n_lse, sizeof *o->lse);
}

static void outputs_destroy(struct outputs *o)
{
    free(o->out);
    free(o->lse);
}

static bool same_bits(const struct outputs *a, const struct outputs *b)
{
    return memcmp(a->out, b->out, a->n_out * sizeof *a->out) == 0 && memcmp(a->lse, b->lse, a->n_lse * sizeof *a->lse) == 0;
}

/* The largest relative difference of one head's output of one token. */
static double largest_difference(const struct outputs *a, const struct outputs *b, size_t value_dim)
{
    double largest = 0;
    for (size_t i = 0; i < a->n_out; i += value_dim) {
        double x = floats_differ(a->out + i, b->out + i, value_dim);
        largest = x > largest ? x : largest;
    }
    return largest;
}

/* In process. questions: queries in between that append nothing. */
static void compute(const struct work *w, const char *layout, enum cut cut, size_t from, bool questions, struct outputs *o)
{
    struct shape shape = shape_of(w);
    struct config *config = house_config(NULL, 1, layout);
    struct tokens tokens;
    struct local local;
    size_t width = floats_out(&shape, 1), lse_width = floats_lse(&shape, 1);
    float *ignored = calloc(2 * width, sizeof *ignored);
    outputs_create(o, w);
    tokens_create(&tokens, &shape, 1, 0, 0, w->n);
    CU_ASSERT_FATAL(config && local_open(&local, config, &shape, w->profile));
    if (from)
        CU_ASSERT_EQUAL(local_step(&local, &tokens, 0, 0, from, PART_APPEND, NULL, NULL), 0);
    for (size_t at = from, n, message = 0; at < w->n; at += n, message++) {
        n = cut_size(cut, message, w->n - at);
        CU_ASSERT_EQUAL(local_step(&local, &tokens, 0, at, n, ALL, o->out + at * width, o->lse + at * lse_width), 0);
        if (questions)
            CU_ASSERT_EQUAL(local_step(&local, &tokens, 0, at % (w->n - 1), 2, PART_ATTEND, ignored, NULL), 0);
    }
    local_close(&local);
    tokens_destroy(&tokens);
    config_destroy(config);
    free(ignored);
}

static void every_policy_is_among_the_works(void)
{
    for (size_t p = 0; cache_table[p]; p++) {
        const char *name = cache_table[p]->name;
        bool found = false;
        for (size_t i = 0; i < N_WORKS; i++)
            found |= strncmp(works[i].profile, name, strlen(name)) == 0 && strchr(",", works[i].profile[strlen(name)]);
        if (!found)
            printf("\n%s is not", name);
        CU_ASSERT(found);
    }
}

static void every_layout_of_threads_and_pools_gives_the_same_bits(void)
{
    for (size_t i = 0; i < N_WORKS; i++) {
        struct outputs first, other;
        compute(&works[i], layouts[0], RANDOM, 0, false, &first);
        for (size_t l = 1; l < N_LAYOUTS; l++) {
            compute(&works[i], layouts[l], RANDOM, 0, false, &other);
            if (!same_bits(&first, &other))
                printf("\n%s, %s, %s", works[i].profile, attention_name(works[i].kind), layouts[l]);
            CU_ASSERT(same_bits(&first, &other));
            outputs_destroy(&other);
        }
        outputs_destroy(&first);
    }
}

static void rows_that_are_split_over_threads_give_the_same_bits(void)
{
    enum { LAST = 20 };
    for (size_t i = 0; i < N_LONG; i++) {
        const struct work *w = &long_works[i];
        for (enum cut cut = ONES; cut <= SEVENS; cut++) {
            struct outputs first, other;
            compute(w, layouts[0], cut, w->n - LAST, false, &first);
            for (size_t l = 1; l < 4; l++) {
                compute(w, layouts[l], cut, w->n - LAST, false, &other);
                if (!same_bits(&first, &other))
                    printf("\n%s, %s, %zu rows, %s", w->profile, attention_name(w->kind), w->n, layouts[l]);
                CU_ASSERT(same_bits(&first, &other));
                outputs_destroy(&other);
            }
            outputs_destroy(&first);
        }
    }
}

static void a_prompt_at_once_gives_the_same_bits_on_any_number_of_threads(void)
{
    for (size_t i = 0; i < N_LONG; i++) {
        struct work w = long_works[i];
        struct outputs first, other;
        w.n = w.kind == ATTENTION_TENSOR ? 80 : UNDER_TSAN ? 700 : 1500;
        compute(&w, layouts[0], RANDOM, 0, false, &first);
        for (size_t l = 1; l < 4; l++) {
            compute(&w, layouts[l], RANDOM, 0, false, &other);
            CU_ASSERT(same_bits(&first, &other));
            outputs_destroy(&other);
        }
        outputs_destroy(&first);
    }
}

static void other_cuts_of_the_same_tokens_agree_to_1e_6(void)
{
    double largest = 0;
    for (size_t i = 0; i < N_WORKS; i++) {
        struct outputs ones, other;
        compute(&works[i], layouts[1], ONES, 0, false, &ones);
        for (enum cut cut = SEVENS; cut < N_CUTS; cut++) {
            compute(&works[i], layouts[1], cut, 0, false, &other);
            double x = largest_difference(&other, &ones, works[i].value_dim);
            double lse = floats_differ(other.lse, ones.lse, ones.n_lse);
            if (x > 1e-6 || lse > 1e-6)
                printf("\n%s, %s, cut %d: %.3g, lse %.3g", works[i].profile, attention_name(works[i].kind), (int)cut, x, lse);
            CU_ASSERT(x <= 1e-6);
            CU_ASSERT(lse <= 1e-6);
            largest = x > largest ? x : largest;
            outputs_destroy(&other);
        }
        outputs_destroy(&ones);
    }
    printf("(largest %.2g) ", largest);
}

static void queries_alone_change_nothing(void)
{
    for (size_t i = 0; i < N_WORKS; i++) {
        struct outputs without, with;
        compute(&works[i], layouts[1], SEVENS, 0, false, &without);
        compute(&works[i], layouts[1], SEVENS, 0, true, &with);
        CU_ASSERT(same_bits(&without, &with));
        outputs_destroy(&without);
        outputs_destroy(&with);
    }
}

/* The same tokens through the daemon, in several streams: parts of one message, or a message each. */
enum { STREAMS = 3 };
static void through_daemon(const struct work *w, struct house *house, enum cut cut, bool together, struct outputs o[STREAMS])
{
    struct shape shape = shape_of(w);
    struct attnd_client *client = NULL;
    struct attnd_stream stream[STREAMS];
    struct tokens tokens[STREAMS];
    size_t width = floats_out(&shape, 1), lse_width = floats_lse(&shape, 1);
    CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, house->ingest, NULL, NULL), 0);
    for (uint64_t s = 0; s < STREAMS; s++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", (int)s);
        outputs_create(&o[s], w);
        tokens_create(&tokens[s], &shape, 1 + s, 0, 0, w->n);
        CU_ASSERT_EQUAL_FATAL(attnd_open(client, name, &shape, w->profile, false, &stream[s], NULL), 0);
    }
    for (size_t at = 0, n, message = 0; at < w->n; at += n, message++) {
        struct attnd_part part[STREAMS];
        n = cut_size(cut, message, w->n - at);
        for (size_t s = 0; s < STREAMS; s++)
            part[s] = tokens_part(&tokens[s], &stream[s], at, n, ALL, o[s].out + at * width, o[s].lse + at * lse_width);
        if (together)
            CU_ASSERT_EQUAL(attnd_step(client, 0, part, STREAMS, NULL), 0);
        for (size_t s = 0; s < STREAMS && !together; s++)
            CU_ASSERT_EQUAL(attnd_step(client, 0, &part[s], 1, NULL), 0);
    }
    for (size_t s = 0; s < STREAMS; s++) {
        CU_ASSERT_EQUAL(attnd_close(client, &stream[s], NULL, NULL), 0);
        tokens_destroy(&tokens[s]);
    }
    attnd_disconnect(client);
}

static void the_daemon_gives_the_bits_of_the_engine_in_process(void)
{
    for (size_t l = 0; l < N_LAYOUTS; l += 2) {
        struct house house;
        if (house_open(&house, layouts[l]))
            for (size_t i = 0; i < N_WORKS; i++) {
                struct outputs together[STREAMS], apart[STREAMS], here;
                compute(&works[i], layouts[0], RANDOM, 0, false, &here); /* of the first stream's tokens */
                through_daemon(&works[i], &house, RANDOM, true, together);
                through_daemon(&works[i], &house, RANDOM, false, apart);
                CU_ASSERT(same_bits(&here, &together[0]));
                for (size_t s = 0; s < STREAMS; s++) {
                    CU_ASSERT(same_bits(&together[s], &apart[s]));
                    CU_ASSERT(s == 0 || !same_bits(&together[s], &here)); /* other tokens, other outputs */
                    outputs_destroy(&together[s]);
                    outputs_destroy(&apart[s]);
                }
                outputs_destroy(&here);
            }
        house_close(&house);
    }
}

TEST_SUITE("e2e/determinism", TEST(every_policy_is_among_the_works),
           TEST(every_layout_of_threads_and_pools_gives_the_same_bits),
           TEST(rows_that_are_split_over_threads_give_the_same_bits),
           TEST(a_prompt_at_once_gives_the_same_bits_on_any_number_of_threads),
           TEST(other_cuts_of_the_same_tokens_agree_to_1e_6), TEST(queries_alone_change_nothing),
           TEST(the_daemon_gives_the_bits_of_the_engine_in_process))
