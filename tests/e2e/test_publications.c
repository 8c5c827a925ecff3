/* What subscribers see: outputs as they are answered, gaps that show and are counted, telemetry at once and then in time. */
#include "tests/e2e/house.h"
#include "tests/test.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BOTH = WIRE_APPEND | WIRE_ATTEND };

/* One producer with one stream of two layers. */
struct studio {
    struct house house;
    struct attnd_client *client;
    struct attnd_stream stream;
    struct shape shape;
    struct tokens tokens[2];
    float *out;
    size_t n_out;
};

enum { TOKENS = 600 };

static bool studio_open(struct studio *s, double telemetry_seconds, const char *yaml, const char *profile)
{
    memset(s, 0, sizeof *s);
    if (!house_open_telling(&s->house, telemetry_seconds, yaml))
        return false;
    s->shape = house_shape(2, 0, 4, 2, 16, 64);
    for (uint32_t layer = 0; layer < 2; layer++)
        tokens_create(&s->tokens[layer], &s->shape, 1, layer, 0, TOKENS);
    s->n_out = floats_out(&s->shape, TOKENS);
    s->out = calloc(s->n_out, sizeof *s->out);
    bool ok = attnd_connect(&s->client, s->house.ingest, NULL, NULL) == 0 &&
              attnd_open(s->client, "studio", &s->shape, profile, false, &s->stream, NULL) == 0;
    CU_ASSERT(ok);
    return ok;
}

static void studio_close(struct studio *s)
{
    attnd_forget(&s->stream);
    attnd_disconnect(s->client);
    tokens_destroy(&s->tokens[0]);
    tokens_destroy(&s->tokens[1]);
    free(s->out);
    house_close(&s->house);
}

static int step(struct studio *s, uint32_t layer, size_t n, unsigned flags)
{
    uint64_t at = s->stream.next[layer] % (TOKENS - n);
    struct attnd_part part = tokens_part(&s->tokens[layer], &s->stream, at, n, flags, s->out, NULL);
    return attnd_step(s->client, layer, &part, 1, NULL);
}

/* Attends until the subscriber hears of it; its publications up to then are read. Returns how many there were. */
static uint64_t until_heard(struct studio *s, struct attnd_subscriber *subscriber, uint32_t layer)
{
    struct attnd_publication p = {0};
    uint64_t n = 0;
    bool heard = false;
    if (s->stream.next[layer] == 0)
        step(s, layer, 1, WIRE_APPEND);
    for (; n < 1000 && !heard; n++) {
        step(s, layer, 1, WIRE_ATTEND);
        heard = attnd_next(subscriber, 0.02, &p, NULL) == 0;
    }
    CU_ASSERT(heard);
    while (heard && p.sequence + 1 < n) /* the last one may be on its way */
        heard = attnd_next(subscriber, 20, &p, NULL) == 0;
    return n;
}

static void every_output_is_published_as_it_was_answered(void)
{
    struct studio s;
    if (studio_open(&s, 3600, "", "full")) {
        struct attnd_subscriber *subscriber = NULL;
        struct attnd_publication p;
        CU_ASSERT_EQUAL_FATAL(attnd_subscribe(&subscriber, s.house.outputs, NULL, "out/studio/", NULL), 0);
        uint64_t sequence[2] = {until_heard(&s, subscriber, 0), 0};
        for (int i = 0; i < 60; i++) {
            uint32_t layer = i % 3 == 0;
            size_t n = 1 + (size_t)i % 9;
            unsigned flags = i % 7 == 6 ? WIRE_ATTEND : BOTH;
            if (i % 10 == 9)
                CU_ASSERT_EQUAL(step(&s, layer, n, WIRE_APPEND), 0); /* says nothing */
            uint64_t first = s.stream.next[layer];
            CU_ASSERT_EQUAL(step(&s, layer, n, flags), 0);
            if (i % 10 == 8 && flags == BOTH) { /* neither does a resend */
                s.stream.next[layer] = first;
                CU_ASSERT_EQUAL(step(&s, layer, n, flags), 0);
            }
            char topic[64];
            snprintf(topic, sizeof topic, "out/studio/%u/", layer);
            CU_ASSERT_EQUAL_FATAL(attnd_next(subscriber, 20, &p, NULL), 0);
            CU_ASSERT_STRING_EQUAL(p.topic, topic);
            CU_ASSERT_EQUAL(p.sequence, sequence[layer]++);
            CU_ASSERT_EQUAL(p.lost, 0);
            CU_ASSERT_EQUAL(p.header.layer, layer);
            CU_ASSERT_EQUAL(p.part.stream, s.stream.id);
            CU_ASSERT_EQUAL(p.part.first_token, first);
            CU_ASSERT_EQUAL(p.part.n_tokens, n);
            CU_ASSERT_EQUAL(p.part.position, flags & WIRE_APPEND ? first + n : first);
            CU_ASSERT_EQUAL(p.out_bytes, floats_out(&s.shape, n) * sizeof(float));
            CU_ASSERT(memcmp(p.out, s.out, p.out_bytes) == 0);
        }
        CU_ASSERT_EQUAL(attnd_next(subscriber, 0.1, &p, NULL), ERR_TIMEOUT); /* and nothing else */
        CU_ASSERT_EQUAL(house_number(s.client, "daemon.outputs_dropped_total"), 0);
        attnd_unsubscribe(subscriber);
    }
    studio_close(&s);
}

static void a_subscriber_to_one_layer_hears_of_no_other(void)
{
    struct studio s;
    if (studio_open(&s, 3600, "", "full")) {
        struct attnd_subscriber *subscriber = NULL;
        struct attnd_publication p;
        CU_ASSERT_EQUAL_FATAL(attnd_subscribe(&subscriber, s.house.outputs, NULL, "out/studio/1/", NULL), 0);
        until_heard(&s, subscriber, 1);
        for (int i = 0; i < 10; i++) {
            CU_ASSERT_EQUAL(step(&s, 0, 2, BOTH), 0);
            CU_ASSERT_EQUAL(step(&s, 1, 3, BOTH), 0);
            CU_ASSERT_EQUAL_FATAL(attnd_next(subscriber, 20, &p, NULL), 0);
            CU_ASSERT_STRING_EQUAL(p.topic, "out/studio/1/");
            CU_ASSERT_EQUAL(p.part.n_tokens, 3);
        }
        attnd_unsubscribe(subscriber);
    }
    studio_close(&s);
}

/* Enough messages in flight that the gateway never sleeps. */
struct load {
    struct studio *studio;
    atomic_bool stop;
};

static void *produce(void *context)
{
    enum { DEPTH = 64 };
    struct load *load = context;
    struct studio *s = load->studio;
    struct attnd_part part[DEPTH];
    uint64_t ticket[DEPTH];
    for (uint64_t i = 0; i < DEPTH || !atomic_load(&load->stop); i++) {
        size_t at = i % DEPTH;
        if (i >= DEPTH && attnd_wait(s->client, ticket[at], NULL))
            break;
        part[at] = tokens_part(&s->tokens[0], &s->stream, 0, 1, WIRE_ATTEND, s->out + at * floats_out(&s->shape, 1), NULL);
        if (attnd_send(s->client, 0, &part[at], 1, &ticket[at], NULL))
            break;
    }
    for (size_t at = 0; at < DEPTH; at++)
        attnd_wait(s->client, ticket[at], NULL);
    return NULL;
}

static void whoever_subscribes_under_load_is_heard(void)
{
    struct studio s;
    if (studio_open(&s, 3600, "", "full")) {
        struct load load = {.studio = &s};
        struct attnd_subscriber *subscriber = NULL;
        struct attnd_publication p;
        pthread_t thread;
        CU_ASSERT_EQUAL(step(&s, 0, 8, WIRE_APPEND), 0);
        CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, produce, &load), 0);
        CU_ASSERT_EQUAL_FATAL(attnd_subscribe(&subscriber, s.house.outputs, NULL, "out/", NULL), 0);
        CU_ASSERT_EQUAL(attnd_next(subscriber, 20, &p, NULL), 0);
        atomic_store(&load.stop, true);
        pthread_join(thread, NULL);
        attnd_unsubscribe(subscriber);
    }
    studio_close(&s);
}

static void what_a_slow_subscriber_loses_is_counted_and_holds_up_nobody(void)
{
    enum { N = 4000 };
    struct studio s;
    if (studio_open(&s, 3600, "limits: {subscriber_messages: 10}\n", "window,window_tokens=16")) {
        struct attnd_subscriber *slow = NULL;
        struct attnd_publication p = {0};
        CU_ASSERT_EQUAL_FATAL(attnd_subscribe(&slow, s.house.outputs, NULL, "out/", NULL), 0);
        uint64_t before = until_heard(&s, slow, 0), received = 0, lost = 0, last = before - 1;
        for (int i = 0; i < N; i++)
            CU_ASSERT_EQUAL_FATAL(step(&s, 0, 1, BOTH), 0); /* answered, whoever does not read */
        double published = house_number(s.client, "daemon.outputs_published_total"),
               dropped = house_number(s.client, "daemon.outputs_dropped_total");
        CU_ASSERT(dropped > 0);
        while (attnd_next(slow, 0.3, &p, NULL) == 0) {
            CU_ASSERT_EQUAL(p.sequence, last + 1 + p.lost);
            last = p.sequence;
            received++;
            lost += p.lost;
        }
        lost += before + N - 1 - last; /* at the end */
        CU_ASSERT_EQUAL(received + lost, N);
        CU_ASSERT_EQUAL((double)lost, dropped);
        CU_ASSERT(published >= (double)received);
        attnd_unsubscribe(slow);
    }
    studio_close(&s);
}

static void a_slow_subscriber_takes_nothing_from_a_fast_one(void)
{
    enum { N = 4000 };
    struct studio s;
    if (studio_open(&s, 3600, "limits: {subscriber_messages: 10}\n", "window,window_tokens=16")) {
        struct attnd_subscriber *slow = NULL, *fast = NULL;
        struct attnd_publication p = {0};
        CU_ASSERT_EQUAL_FATAL(attnd_subscribe(&slow, s.house.outputs, NULL, "out/", NULL), 0);
        until_heard(&s, slow, 0);
        CU_ASSERT_EQUAL_FATAL(attnd_subscribe(&fast, s.house.outputs, NULL, "out/", NULL), 0);
        until_heard(&s, fast, 1);
        while (attnd_next(fast, 0.1, &p, NULL) == 0)
            ;
        for (int i = 0; i < N; i++) {
            CU_ASSERT_EQUAL_FATAL(step(&s, 0, 1, BOTH), 0);
            CU_ASSERT_EQUAL_FATAL(attnd_next(fast, 20, &p, NULL), 0);
            CU_ASSERT_EQUAL(p.lost, 0);
        }
        CU_ASSERT(house_number(s.client, "daemon.outputs_dropped_total") > 0);
        attnd_unsubscribe(slow);
        attnd_unsubscribe(fast);
    }
    studio_close(&s);
}

static void a_new_subscriber_gets_the_last_telemetry_at_once(void)
{
    static const char *const topics[] = {"telemetry/daemon/", "telemetry/pools/", "telemetry/profiles/", "telemetry/streams/"};
    struct studio s;
    if (studio_open(&s, 3600, "", "full")) { /* the next one would come in an hour */
        for (int again = 0; again < 2; again++) {
            struct attnd_subscriber *subscriber = NULL;
            struct attnd_publication p;
            unsigned seen = 0;
            CU_ASSERT_EQUAL_FATAL(attnd_subscribe(&subscriber, s.house.telemetry, NULL, "telemetry/", NULL), 0);
            for (int i = 0; i < 4 && attnd_next(subscriber, 20, &p, NULL) == 0; i++)
                for (unsigned t = 0; t < 4; t++)
                    if (strcmp(p.topic, topics[t]) == 0) {
                        CU_ASSERT(strstr(p.json, attnd_hello(s.client)->instance) != NULL);
                        CU_ASSERT_EQUAL(p.sequence, 0);
                        seen |= 1u << t;
                    }
            CU_ASSERT_EQUAL(seen, 15);
            attnd_unsubscribe(subscriber);
        }
    }
    studio_close(&s);
}

static void telemetry_follows_in_sequence_and_tells_what_happened(void)
{
    struct studio s;
    if (studio_open(&s, 0.02, "", "full")) {
        struct attnd_subscriber *subscriber = NULL;
        struct attnd_publication p = {0};
        uint64_t last = 0;
        double tokens = 0;
        CU_ASSERT_EQUAL_FATAL(attnd_subscribe(&subscriber, s.house.telemetry, NULL, "telemetry/daemon/", NULL), 0);
        CU_ASSERT_EQUAL(step(&s, 0, 9, BOTH), 0);
        CU_ASSERT_EQUAL(step(&s, 1, 4, BOTH), 0);
        for (int i = 0; i < 1000 && tokens < 13; i++) {
            CU_ASSERT_EQUAL_FATAL(attnd_next(subscriber, 20, &p, NULL), 0);
            CU_ASSERT(i == 0 || p.sequence == last || p.sequence == last + 1);
            CU_ASSERT_EQUAL(p.lost, 0);
            last = p.sequence;
            CU_ASSERT(status_number(p.json, "daemon.tokens_total") >= tokens);
            tokens = status_number(p.json, "daemon.tokens_total");
        }
        CU_ASSERT_EQUAL(tokens, 13);
        CU_ASSERT_EQUAL(status_number(p.json, "daemon.attend_seconds.count"), 4); /* two heads, two messages */
        attnd_unsubscribe(subscriber);
    }
    studio_close(&s);
}

static void status_adds_up(void)
{
    struct studio s;
    if (studio_open(&s, 3600, "pools: [{threads: 1, heads: 0}, {threads: 1}]\n", "full")) {
        static const char *const sums[] = {"memory_allocated_bytes", "memory_resident_bytes", "memory_control_bytes",
                                           "memory_full_bf16_bytes"};
        struct attnd_stream other;
        char *text = NULL;
        CU_ASSERT_EQUAL_FATAL(attnd_open(s.client, "other", &s.shape, "bf16", false, &other, NULL), 0);
        for (uint32_t layer = 0; layer < 2; layer++) {
            struct attnd_part part[2] = {tokens_part(&s.tokens[layer], &s.stream, 0, 512, BOTH, s.out, NULL),
                                         tokens_part(&s.tokens[layer], &other, 0, 70 + layer, WIRE_APPEND, NULL, NULL)};
            CU_ASSERT_EQUAL(attnd_step(s.client, layer, part, 2, NULL), 0);
        }
        CU_ASSERT_EQUAL_FATAL(attnd_status(s.client, 0, &text, NULL), 0);
        for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) {
            static const char *const groups[] = {"pools", "profiles", "streams"};
            char path[96];
            snprintf(path, sizeof path, "daemon.%s", sums[i]);
            double whole = status_number(text, path);
            CU_ASSERT(whole > 0);
            for (size_t g = 0; g < 3; g++) {
                double sum = 0;
                for (int j = 0; j < 2; j++) {
                    snprintf(path, sizeof path, "%s.%d.%s", groups[g], j, sums[i]);
                    sum += status_number(text, path);
                }
                if (sum != whole)
                    printf("\n%s of %s: %.0f and %.0f", sums[i], groups[g], sum, whole);
                CU_ASSERT_EQUAL(sum, whole);
            }
        }
        CU_ASSERT_EQUAL(status_number(text, "daemon.memory_full_bf16_bytes"), (2 * 512 + 70 + 71) * 2 * (16 + 64) * 2);
        CU_ASSERT_EQUAL(status_number(text, "daemon.tokens_total"), 2 * 512 + 70 + 71);
        CU_ASSERT_EQUAL(status_number(text, "streams.0.tokens_total"), 2 * 512);
        CU_ASSERT_EQUAL(status_number(text, "pools.0.tokens_total"), 2 * 512 + 70 + 71); /* one head each */
        CU_ASSERT_EQUAL(status_number(text, "pools.1.tokens_total"), 2 * 512 + 70 + 71);
        CU_ASSERT_EQUAL(status_number(text, "profiles.0.tokens_total"), 2 * 2 * 512); /* once per kv head */
        CU_ASSERT_EQUAL(status_number(text, "daemon.queued_tasks"), 0);
        CU_ASSERT_EQUAL(status_number(text, "daemon.queued_bytes"), 0);
        /* f32 is 32 bits for each number; pages are full, and their directory takes little. */
        double bits = status_number(text, "streams.0.memory_bits_per_coordinate");
        CU_ASSERT(bits >= 32 && bits < 32.1);
        ASSERT_NEAR(status_number(text, "streams.0.memory_kept_fraction"), bits / 16, 1e-12);
        free(text);
        CU_ASSERT_EQUAL(attnd_close(s.client, &other, NULL, NULL), 0);
        CU_ASSERT_EQUAL(attnd_close(s.client, &s.stream, NULL, NULL), 0);
        for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) {
            char path[96];
            snprintf(path, sizeof path, "daemon.%s", sums[i]);
            CU_ASSERT_EQUAL(house_number(s.client, path), 0);
        }
    }
    studio_close(&s);
}

static void a_window_keeps_the_fraction_that_its_budget_says(void)
{
    struct studio s;
    if (studio_open(&s, 3600, "", "window,budget_fraction=0.25,storage=bf16")) {
        for (int i = 0; i < 2; i++) /* 1024 are expected */
            CU_ASSERT_EQUAL(step(&s, 0, 512, BOTH), 0);
        CU_ASSERT_EQUAL(house_number(s.client, "streams.0.memory_full_bf16_bytes"), 1024 * 2 * (16 + 64) * 2);
        double empty = house_number(s.client, "streams.0.memory_allocated_bytes"), kept;
        for (int i = 0; i < 2; i++)
            CU_ASSERT_EQUAL(step(&s, 1, 512, BOTH), 0);
        kept = house_number(s.client, "streams.0.memory_allocated_bytes") / (2 * 1024 * 2 * (16 + 64) * 2);
        CU_ASSERT(empty > 0);
        CU_ASSERT(kept <= 0.25 && kept > 0.2);
        ASSERT_NEAR(house_number(s.client, "streams.0.memory_kept_fraction"), kept, 1e-12);
        ASSERT_NEAR(house_number(s.client, "profiles.0.memory_kept_fraction"), kept, 1e-12);
    }
    studio_close(&s);
}

TEST_SUITE("e2e/publications", TEST(every_output_is_published_as_it_was_answered),
           TEST(a_subscriber_to_one_layer_hears_of_no_other), TEST(whoever_subscribes_under_load_is_heard),
           TEST(what_a_slow_subscriber_loses_is_counted_and_holds_up_nobody),
           TEST(a_slow_subscriber_takes_nothing_from_a_fast_one), TEST(a_new_subscriber_gets_the_last_telemetry_at_once),
           TEST(telemetry_follows_in_sequence_and_tells_what_happened), TEST(status_adds_up),
           TEST(a_window_keeps_the_fraction_that_its_budget_says))
