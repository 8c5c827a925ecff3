/* Reload: pools, threads and profiles change under load without a bit of difference; what cannot change is refused by name, and
 * then nothing has changed. */
#include "tests/e2e/house.h"
#include "tests/e2e/producer.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PRODUCERS = 2, STREAMS = 8, LAYERS = 2, RELOADS = 50, TOKENS = SANITIZED ? 150 : 1500 };

/* 1 to 3 pools of 1 to 4 threads, some with heads of their own. */
static void draw_layout(uint64_t round, char *yaml, size_t size)
{
    size_t n = 1 + (size_t)pick(21, round, 3), at = (size_t)snprintf(yaml, size, "pools:\n");
    for (size_t i = 0; i < n; i++) {
        bool owns = i + 1 < n && pick(22, 10 * round + i, 2);
        at += (size_t)snprintf(yaml + at, size - at, "  - {name: %c%zu, threads: %d, heads: ", pick(24, round, 2) ? 'a' : 'b',
                               i, 1 + (int)pick(23, 10 * round + i, 4));
        at += (size_t)snprintf(yaml + at, size - at, owns ? "%zu}\n" : "auto}\n", i);
    }
    snprintf(yaml + at, size - at, "%s", producer_profiles);
}

/* Everything the pools say of memory is what the streams say. */
static void pools_hold_what_the_streams_hold(struct attnd_client *client)
{
    static const char *const names[] = {"allocated", "resident", "control", "full_bf16"};
    for (size_t m = 0; m < sizeof names / sizeof *names; m++) {
        double sum[2] = {0};
        for (int side = 0; side < 2; side++)
            for (size_t i = 0; i < 1000; i++) {
                char path[80];
                snprintf(path, sizeof path, "%s.%zu.memory_%s_bytes", side ? "streams" : "pools", i, names[m]);
                double x = house_number(client, path);
                if (isnan(x))
                    break;
                sum[side] += x;
            }
        CU_ASSERT(sum[0] > 0);
        CU_ASSERT_EQUAL(sum[0], sum[1]);
    }
}

static void fifty_reloads_under_load_change_no_bit(void)
{
    struct house house;
    struct attnd_client *client = NULL;
    struct control_reload answer;
    struct fault fault;
    char yaml[4096];
    pid_t producer[PRODUCERS];
    double all = PRODUCERS * STREAMS * LAYERS * (double)TOKENS, tokens = 0, before = 0;
    size_t n = 0, moved = 0, loaded = 0;
    if (house_open_telling(&house, 0.02, producer_profiles)) {
        CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, house.ingest, NULL, NULL), 0);
        for (int i = 0; i < PRODUCERS; i++)
            producer[i] = producer_start(house.ingest, i, STREAMS, TOKENS); /* which compare every output with one in process */
        for (; n < RELOADS || tokens < all; n++) {
            draw_layout(n, yaml, sizeof yaml);
            usleep((useconds_t)pick(20, n, 20000));
            int err = attnd_reload(client, yaml, "drawn", &answer, &fault);
            if (err)
                printf("\n%s", fault.text);
            CU_ASSERT_EQUAL_FATAL(err, 0);
            tokens = house_number(client, "daemon.tokens_total");
            CU_ASSERT(tokens >= before); /* counters go on */
            loaded += tokens > before;
            before = tokens;
            moved += answer.heads_moved;
        }
        for (int i = 0; i < PRODUCERS; i++)
            CU_ASSERT_EQUAL(producer_wait(producer[i]), 0);
        CU_ASSERT(loaded > 1 && moved > 100);
        CU_ASSERT_EQUAL(house_number(client, "daemon.memory_allocated_bytes"), 0);
        printf("(%zu reloads, %zu under load, %zu heads moved) ", n, loaded, moved);
        attnd_disconnect(client);
    }
    house_close(&house);
}

/* A house with one open stream of a few tokens. */
struct scene {
    struct house house;
    struct shape shape;
    struct tokens tokens;
    struct attnd_client *client;
    struct attnd_stream stream;
    float *out;
};

static bool scene_up(struct scene *s)
{
    memset(s, 0, sizeof *s);
    if (!house_open(&s->house, "pools: [{name: one, threads: 1}]\n"))
        return false;
    s->shape = house_shape(1, 1, 4, 2, 8, 8);
    tokens_create(&s->tokens, &s->shape, 1, 0, 0, 64);
    s->out = calloc(floats_out(&s->shape, 64), sizeof *s->out);
    CU_ASSERT_EQUAL_FATAL(attnd_connect(&s->client, s->house.ingest, NULL, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(attnd_open(s->client, "here", &s->shape, "full", false, &s->stream, NULL), 0);
    return true;
}

static void scene_down(struct scene *s)
{
    attnd_close(s->client, &s->stream, NULL, NULL);
    attnd_disconnect(s->client);
    tokens_destroy(&s->tokens);
    free(s->out);
    house_close(&s->house);
}

static int step(struct scene *s, size_t n)
{
    struct attnd_part part = tokens_part(&s->tokens, &s->stream, s->stream.next[0], n, WIRE_APPEND | WIRE_ATTEND, s->out, NULL);
    return attnd_step(s->client, 0, &part, 1, NULL);
}

static void what_cannot_change_is_refused_by_name_and_nothing_changes(void)
{
    static const struct {
        const char *yaml, *says;
    } wrong[] = {
        {"ingest: {endpoints: [\"inproc://elsewhere\"]}\n", "ingest.endpoints cannot change"},
        {"outputs: {endpoints: [\"inproc://elsewhere\"]}\n", "outputs.endpoints cannot change"},
        {"telemetry: {interval_seconds: 7}\n", "telemetry.interval_seconds cannot change"},
        {"isa: scalar\n", "isa cannot change"},
        {"limits: {streams: 3}\n", "limits.streams cannot change while the daemon runs: it is"},
        {"limits: {message_bytes: 1 MiB}\n", "limits.message_bytes cannot change"},
        {"limits: {subscriber_messages: 5}\n", "limits.subscriber_messages cannot change"},
        {"pools: [{threads: -1}]\n", "bad.yaml:"},
        {"pools: [{thread: 1}]\nprofiles: 3\n", "bad.yaml:1:"},
        {"profiles: [{name: x, rules: [{policy: nothing}]}]\n", "nothing"},
        {"pools: [", "bad.yaml:"},
    };
    struct scene s;
    struct control_reload answer;
    if (scene_up(&s)) {
        CU_ASSERT_EQUAL(step(&s, 5), 0);
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            struct fault fault = {0};
            char yaml[512];
            bool sockets = strstr(wrong[i].yaml, "endpoints") != NULL;
            snprintf(yaml, sizeof yaml, "%s%s", wrong[i].yaml, sockets ? "pools: [{name: two, threads: 2}]\n" : "");
            CU_ASSERT_EQUAL(attnd_reload(s.client, yaml, "bad.yaml", &answer, &fault), ERR_INVALID);
            if (!strstr(fault.text, wrong[i].says))
                printf("\n%s: %s", wrong[i].yaml, fault.text);
            CU_ASSERT(strstr(fault.text, wrong[i].says) != NULL);
        }
        CU_ASSERT_EQUAL(house_number(s.client, "pools.0.threads"), 1);
        CU_ASSERT_EQUAL(step(&s, 5), 0);
        scene_down(&s);
    }
}

static void a_profile_that_comes_can_be_opened_and_pools_keep_count(void)
{
    struct scene s;
    struct control_reload answer;
    struct attnd_stream other;
    struct fault fault;
    if (scene_up(&s)) {
        const char *profile = "narrow";
        CU_ASSERT_EQUAL(attnd_open(s.client, "early", &s.shape, profile, false, &other, &fault), ERR_UNKNOWN_PROFILE);
        CU_ASSERT_EQUAL(step(&s, 30), 0);
        double tokens = house_number(s.client, "pools.0.tokens_total");
        CU_ASSERT(tokens > 0);
        CU_ASSERT_EQUAL(attnd_reload(s.client,
                                     "pools: [{name: new, threads: 1, heads: 0}, {name: one, threads: 2}]\nlog_level: error\n"
                                     "profiles: [{name: narrow, rules: [{policy: window, window_tokens: 9}]}]\n",
                                     "more.yaml", &answer, &fault),
                        0);
        CU_ASSERT(answer.pools == 2 && answer.threads == 3 && answer.heads_moved == 4 && answer.profiles > 1);
        CU_ASSERT_EQUAL(house_number(s.client, "pools.1.tokens_total"), tokens);
        CU_ASSERT_EQUAL(house_number(s.client, "pools.0.tokens_total"), 0);
        pools_hold_what_the_streams_hold(s.client);
        CU_ASSERT_EQUAL(step(&s, 30), 0);
        pools_hold_what_the_streams_hold(s.client);
        CU_ASSERT_EQUAL(attnd_open(s.client, "late", &s.shape, profile, false, &other, &fault), 0);
        CU_ASSERT_EQUAL(attnd_close(s.client, &other, NULL, NULL), 0);
        CU_ASSERT_EQUAL(attnd_reload(s.client, "{}", "empty.yaml", &answer, &fault), 0);
        CU_ASSERT_EQUAL(attnd_open(s.client, "later", &s.shape, profile, false, &other, &fault), ERR_UNKNOWN_PROFILE);
        CU_ASSERT_EQUAL(attnd_reload(s.client, NULL, NULL, &answer, &fault), ERR_IO); /* its file is gone by now */
        CU_ASSERT(strstr(fault.text, "cannot be read") != NULL);
        CU_ASSERT_EQUAL(step(&s, 4), 0);
        scene_down(&s);
    }
}

TEST_SUITE("e2e/reload", TEST(fifty_reloads_under_load_change_no_bit),
           TEST(what_cannot_change_is_refused_by_name_and_nothing_changes),
           TEST(a_profile_that_comes_can_be_opened_and_pools_keep_count))
