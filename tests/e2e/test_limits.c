/* Limits: what is above one is refused with an error that names it, and works again once there is room. */
#include "tests/e2e/scene.h"
#include "tests/test.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A tensor stream whose queries take long: while they run, others wait behind them. */
enum { SLOW_TOKENS = UNDER_TSAN ? 150 : 400 };

static void start_something_slow(struct raw *raw, const struct shape *shape, uint64_t stream, const struct tokens *tokens)
{
    struct raw_message message = {0};
    struct raw_reply reply;
    raw_add(&message, stream, tokens, 0, SLOW_TOKENS, WIRE_APPEND);
    raw_send_message(raw, &message);
    CU_ASSERT(raw_receive(raw, 20, &reply));
    CU_ASSERT_EQUAL(raw_error(&reply), 0);
    raw_reply_free(&reply);
    message = (struct raw_message){0};
    raw_add(&message, stream, tokens, SLOW_TOKENS, SLOW_TOKENS, WIRE_ATTEND);
    message.at[0] = 0;
    raw_send_message(raw, &message);
    CU_ASSERT(raw_ask(raw, "{\"op\":\"status\",\"id\":1}", &reply)); /* answered once the message was taken */
    CU_ASSERT(strstr(reply.text, "\"ok\":true") != NULL);
}

static const char one_thread[] = "pools: [{threads: 1}]\n";

static void more_than_the_credit_is_busy_and_told_where_to_go_on(void)
{
    char yaml[256];
    struct scene s;
    snprintf(yaml, sizeof yaml, "%slimits: {message_bytes: 256 KiB, credit_bytes: 256 KiB}\n", one_thread);
    if (scene_open(&s, yaml, ATTENTION_TENSOR, "full")) {
        enum { AHEAD = 40 };
        struct raw_reply reply;
        uint64_t slow = raw_open_stream(&s.raw, "slow", &s.shape, "full", false), next = SCENE_HELD, taken = 0, busy = 0;
        start_something_slow(&s.raw, &s.shape, slow, &s.tokens);
        for (int i = 0; i < AHEAD; i++) { /* 10 tokens of 768 bytes each, all at once: 300 KiB */
            struct raw_message message = {0};
            raw_add(&message, s.stream, &s.tokens, next, 10, WIRE_APPEND | WIRE_ATTEND);
            raw_send_message(&s.raw, &message);
            next += 10;
        }
        next = SCENE_HELD;
        for (int i = 0; i < AHEAD + 1; i++) {
            CU_ASSERT_FATAL(raw_receive(&s.raw, 60, &reply));
            if (reply.part[0].stream == slow) {
                CU_ASSERT_EQUAL(raw_error(&reply), 0);
            } else if (raw_error(&reply) == 0) {
                CU_ASSERT_EQUAL(reply.part[0].position, next + 10);
                CU_ASSERT_EQUAL(busy, 0); /* nothing behind a refused one is taken, since a token is missing */
                next += 10;
                taken++;
            } else {
                CU_ASSERT(raw_error(&reply) == ERR_BUSY || (busy && raw_error(&reply) == ERR_WRONG_INDEX));
                CU_ASSERT_EQUAL(reply.part[0].position, next);
                CU_ASSERT_EQUAL(reply.fault[0].fault.expected, next);
                busy++;
            }
            raw_reply_free(&reply);
        }
        CU_ASSERT(taken > 0);
        CU_ASSERT(busy > 0);
        CU_ASSERT_EQUAL(scene_send(&s, next, 10, WIRE_APPEND | WIRE_ATTEND, 0), 0); /* from there on */
    }
    scene_close(&s);
}

/* The credit of a connection that asks for too much is its own: others go on. */
static void a_busy_connection_does_not_make_others_busy(void)
{
    char yaml[256];
    struct scene s;
    snprintf(yaml, sizeof yaml, "%slimits: {message_bytes: 256 KiB, credit_bytes: 256 KiB, queued_bytes: 1 MiB}\n", one_thread);
    if (scene_open(&s, yaml, ATTENTION_TENSOR, "full")) {
        enum { AHEAD = 400 }; /* 3 MB, most of it refused */
        struct raw greedy;
        struct raw_reply reply;
        CU_ASSERT_FATAL(raw_open(&greedy, s.house.ingest));
        uint64_t slow = raw_open_stream(&greedy, "slow", &s.shape, "full", false), other = 0;
        start_something_slow(&greedy, &s.shape, slow, &s.tokens);
        for (int i = 0; i < AHEAD; i++) {
            struct raw_message message = {0};
            raw_add(&message, slow, &s.tokens, SLOW_TOKENS + 10 * (uint64_t)i, 10, WIRE_APPEND | WIRE_ATTEND);
            message.at[0] = 0;
            raw_send_message(&greedy, &message);
        }
        for (uint64_t i = 0; i < 20; i++) /* while they wait in line */
            other += scene_send(&s, SCENE_HELD + i, 1, WIRE_APPEND, 0) != 0;
        CU_ASSERT_EQUAL(other, 0);
        for (int i = 0; i < AHEAD + 1; i++) {
            CU_ASSERT_FATAL(raw_receive(&greedy, 60, &reply));
            raw_reply_free(&reply);
        }
        raw_close(&greedy);
    }
    scene_close(&s);
}

/* A bound on all connections together, for who keeps within his own credit. */
static void more_than_the_daemon_queues_is_busy_whoever_sends_it(void)
{
    enum { APPEND = 384 * SLOW_TOKENS, ATTEND = 256 * SLOW_TOKENS, HEADS = 1000 }; /* bytes of the scene's tensors */
    char yaml[256];
    struct scene s;
    snprintf(yaml, sizeof yaml, "%slimits: {message_bytes: %d, credit_bytes: %d, queued_bytes: %d}\n", one_thread,
             APPEND + HEADS, APPEND + HEADS, APPEND + ATTEND - HEADS);
    if (scene_open(&s, yaml, ATTENTION_TENSOR, "full")) {
        struct raw greedy, other;
        struct raw_message message = {0};
        struct raw_reply reply;
        CU_ASSERT_FATAL(raw_open(&greedy, s.house.ingest) && raw_open(&other, s.house.ingest));
        uint64_t slow = raw_open_stream(&greedy, "slow", &s.shape, "full", false),
                 id = raw_open_stream(&other, "other", &s.shape, "full", false);
        start_something_slow(&greedy, &s.shape, slow, &s.tokens);
        raw_add(&message, id, &s.tokens, 0, SLOW_TOKENS, WIRE_APPEND);
        raw_send_message(&other, &message);
        CU_ASSERT(raw_receive(&other, 60, &reply));
        CU_ASSERT_EQUAL(raw_error(&reply), ERR_BUSY);
        CU_ASSERT(strstr(reply.fault[0].fault.text, "limits.queued_bytes") != NULL);
        CU_ASSERT_EQUAL(reply.fault[0].fault.expected, 0);
        raw_reply_free(&reply);
        CU_ASSERT(raw_receive(&greedy, 60, &reply)); /* now there is room */
        raw_reply_free(&reply);
        raw_send_message(&other, &message);
        CU_ASSERT(raw_receive(&other, 60, &reply));
        CU_ASSERT_EQUAL(raw_error(&reply), 0);
        raw_reply_free(&reply);
        raw_close(&greedy);
        raw_close(&other);
    }
    scene_close(&s);
}

static void *stop(void *house)
{
    house_stop(house);
    return NULL;
}

/* While something still runs, the daemon drains: it finishes that, and refuses what comes. */
static void a_draining_daemon_refuses_what_comes_and_finishes_what_it_took(void)
{
    struct scene s;
    if (scene_open(&s, one_thread, ATTENTION_TENSOR, "full")) {
        pthread_t thread;
        struct raw_reply reply;
        uint64_t slow = raw_open_stream(&s.raw, "slow", &s.shape, "full", false), last = 0;
        bool slow_came = false, closing = false;
        start_something_slow(&s.raw, &s.shape, slow, &s.tokens);
        CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, stop, &s.house), 0);
        for (bool refused = false; !refused && !slow_came;) { /* wrong_index until it drains, then closing */
            struct raw_message message = {0};
            raw_add(&message, s.stream, &s.tokens, SCENE_HELD + 1, 1, WIRE_APPEND);
            raw_send_message(&s.raw, &message);
            last = s.raw.id;
            bool answered = false;
            while (!answered && raw_receive(&s.raw, 20, &reply)) {
                slow_came |= reply.part[0].stream == slow && raw_error(&reply) == 0;
                answered = reply.header.id == last;
                closing |= answered && raw_error(&reply) == ERR_CLOSING;
                raw_reply_free(&reply);
            }
            refused = closing || !answered;
        }
        CU_ASSERT(closing);
        CU_ASSERT_EQUAL(raw_open_stream(&s.raw, "late", &s.shape, "full", false), 0);
        while (!slow_came && raw_receive(&s.raw, 20, &reply)) {
            slow_came = reply.part[0].stream == slow && raw_error(&reply) == 0 && reply.n_out > 0;
            raw_reply_free(&reply);
        }
        CU_ASSERT(slow_came);
        pthread_join(thread, NULL);
    }
    scene_close(&s);
}

struct flood {
    struct scene *scene;
    atomic_bool stop;
};

static void *flood(void *context)
{
    struct flood *f = context;
    struct raw raw;
    if (raw_open(&raw, f->scene->house.ingest)) {
        struct raw_reply reply;
        for (uint64_t n = 0; !atomic_load(&f->stop); n++) {
            struct raw_message message = {0};
            raw_add(&message, f->scene->stream, &f->scene->tokens, 0, 1, WIRE_APPEND);
            raw_send_message(&raw, &message);
            if (n > 1000 && raw_receive(&raw, 0.001, &reply))
                raw_reply_free(&reply);
        }
        raw_close(&raw);
    }
    return NULL;
}

static void a_daemon_stops_however_much_comes_in(void)
{
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "full")) {
        struct flood f = {.scene = &s};
        pthread_t thread;
        struct timespec a_while = {.tv_nsec = 100000000};
        CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, flood, &f), 0);
        nanosleep(&a_while, NULL);
        house_stop(&s.house); /* or this never returns */
        atomic_store(&f.stop, true);
        pthread_join(thread, NULL);
    }
    scene_close(&s);
}

static void streams_and_heads_are_limited_and_come_back_when_closed(void)
{
    struct house house;
    if (house_open(&house, "limits: {streams: 3, heads: 7}\n")) {
        struct attnd_client *client = NULL;
        struct attnd_stream stream[4], big;
        struct shape small = house_shape(1, 0, 2, 2, 8, 8), large = house_shape(2, 0, 2, 2, 8, 8);
        struct fault fault = {0};
        CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, house.ingest, NULL, NULL), 0);
        CU_ASSERT_EQUAL(attnd_open(client, "a", &small, NULL, false, &stream[0], NULL), 0);
        CU_ASSERT_EQUAL(attnd_open(client, "b", &small, NULL, false, &stream[1], NULL), 0);
        CU_ASSERT_EQUAL(attnd_open(client, "big", &large, NULL, false, &big, &fault), ERR_TOO_LARGE); /* 4 + 4 heads */
        CU_ASSERT(strstr(fault.text, "limits.heads") != NULL);
        CU_ASSERT_EQUAL(attnd_open(client, "c", &small, NULL, false, &stream[2], NULL), 0);
        CU_ASSERT_EQUAL(attnd_close(client, &stream[2], NULL, NULL), 0);
        struct shape one = house_shape(1, 0, 1, 1, 8, 8);
        CU_ASSERT_EQUAL(attnd_open(client, "c", &one, NULL, false, &stream[2], NULL), 0);
        CU_ASSERT_EQUAL(attnd_open(client, "d", &one, NULL, false, &stream[3], &fault), ERR_TOO_LARGE); /* a fourth */
        CU_ASSERT(strstr(fault.text, "limits.streams") != NULL);
        CU_ASSERT_EQUAL(attnd_close(client, &stream[0], NULL, NULL), 0);
        CU_ASSERT_EQUAL(attnd_open(client, "d", &one, NULL, false, &stream[3], NULL), 0);
        CU_ASSERT_EQUAL(house_number(client, "daemon.streams_open"), 3);
        for (int i = 1; i < 4; i++)
            attnd_forget(&stream[i]);
        attnd_disconnect(client);
    }
    house_close(&house);
}

/* What the caches could come to is reserved before tokens are taken, what an empty stream holds when it is opened. */
static void memory_is_limited_before_it_is_taken(void)
{
    enum { LIMIT = 400000 };
    struct scene s;
    char yaml[64];
    snprintf(yaml, sizeof yaml, "limits: {memory_bytes: %d}\n", LIMIT);
    if (scene_open(&s, yaml, ATTENTION_SOFTMAX, "full")) {
        struct attnd_client *client = NULL;
        struct raw_reply reply;
        uint64_t next = SCENE_HELD;
        int err = 0;
        CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, s.house.ingest, NULL, NULL), 0);
        while (next < SCENE_TOKENS && !(err = scene_send(&s, next, 10, WIRE_APPEND, 0)))
            next += 10;
        CU_ASSERT_EQUAL(err, 0); /* 600 tokens fit: 2 heads x 600 x 24 x 4 bytes and some */
        uint64_t other = raw_open_stream(&s.raw, "other", &s.shape, "full", false);
        struct raw_message message = {0};
        raw_add(&message, other, &s.tokens, 0, SCENE_TOKENS, WIRE_APPEND);
        raw_send_message(&s.raw, &message);
        CU_ASSERT(raw_receive(&s.raw, 20, &reply));
        CU_ASSERT_EQUAL(raw_error(&reply), ERR_NO_MEMORY);
        CU_ASSERT(strstr(reply.fault[0].fault.text, "limits.memory_bytes") != NULL);
        CU_ASSERT_EQUAL(reply.part[0].position, 0);
        raw_reply_free(&reply);
        int opened = 0;
        for (char name[16]; opened < 4000; opened++) { /* windows have a page from the start */
            snprintf(name, sizeof name, "w%d", opened);
            if (!raw_open_stream(&s.raw, name, &s.shape, "window,window_tokens=16", false))
                break;
        }
        double allocated = house_number(client, "daemon.memory_allocated_bytes");
        CU_ASSERT(allocated <= LIMIT);
        CU_ASSERT(opened > 0 && opened < 4000);
        struct raw_reply closed;
        char text[128];
        snprintf(text, sizeof text, "{\"op\":\"close\",\"id\":9,\"stream\":%llu}", (unsigned long long)s.stream);
        CU_ASSERT(raw_ask(&s.raw, text, &closed));
        message.part[0].n_tokens = SCENE_TOKENS / 4; /* which wait in memory, too */
        raw_send_message(&s.raw, &message);
        CU_ASSERT(raw_receive(&s.raw, 20, &reply));
        CU_ASSERT_EQUAL(raw_error(&reply), 0); /* there is room again */
        raw_reply_free(&reply);
        attnd_disconnect(client);
    }
    scene_close(&s);
}

/* Replies that are kept, and those to come, count as caches do; a stream that alone is too large is refused before it is made. */
static void kept_replies_and_empty_streams_count_against_memory(void)
{
    enum { LIMIT = 1 << 20, EACH = 40 };
    struct scene s;
    char yaml[64];
    snprintf(yaml, sizeof yaml, "limits: {memory_bytes: %d}\n", LIMIT);
    if (scene_open(&s, yaml, ATTENTION_SOFTMAX, "full")) {
        struct shape wide = house_shape(1, 0, 64, 1, 2, 64), many = house_shape(1024, 0, 16, 16, 8, 8);
        struct tokens tokens;
        struct raw_reply reply;
        struct raw_message message = {0};
        tokens_create(&tokens, &wide, 1, 0, 0, 3 * EACH);
        CU_ASSERT_EQUAL(raw_open_stream(&s.raw, "many", &many, "window,window_tokens=16", false), 0);
        uint64_t stream = raw_open_stream(&s.raw, "wide", &wide, "full", false);
        raw_add(&message, stream, &tokens, 0, EACH, WIRE_APPEND | WIRE_ATTEND); /* 640 KiB of outputs */
        raw_send_message(&s.raw, &message);
        CU_ASSERT(raw_receive(&s.raw, 20, &reply));
        CU_ASSERT_EQUAL(raw_error(&reply), 0);
        raw_reply_free(&reply);
        message = (struct raw_message){0};
        raw_add(&message, stream, &tokens, EACH, EACH, WIRE_APPEND | WIRE_ATTEND);
        raw_send_message(&s.raw, &message);
        CU_ASSERT(raw_receive(&s.raw, 20, &reply));
        CU_ASSERT_EQUAL(raw_error(&reply), ERR_NO_MEMORY);
        CU_ASSERT(strstr(reply.fault[0].fault.text, "limits.memory_bytes") != NULL);
        raw_reply_free(&reply);
        message.part[0].position = EACH; /* confirms the first */
        raw_send_message(&s.raw, &message);
        CU_ASSERT(raw_receive(&s.raw, 20, &reply));
        CU_ASSERT_EQUAL(raw_error(&reply), 0);
        raw_reply_free(&reply);
        tokens_destroy(&tokens);
    }
    scene_close(&s);
}

/* One key for a thousand query heads and wide values: a small message with an enormous answer. */
static void a_message_whose_reply_would_be_enormous_is_too_large(void)
{
    struct scene s;
    if (scene_open(&s, "limits: {message_bytes: 64 KiB, queued_bytes: 256 KiB, credit_bytes: 64 KiB}\n", ATTENTION_SOFTMAX,
                   "full")) {
        struct shape wide = house_shape(1, 0, 1024, 1, 1, 1024);
        struct tokens tokens;
        struct raw_message message = {0};
        struct raw_reply reply;
        tokens_create(&tokens, &wide, 1, 0, 0, 4);
        uint64_t id = raw_open_stream(&s.raw, "wide", &wide, "full", false);
        raw_add(&message, id, &tokens, 0, 4, WIRE_ATTEND); /* 16 KiB of queries, 16 MiB of outputs */
        raw_send_message(&s.raw, &message);
        CU_ASSERT(raw_receive(&s.raw, 20, &reply));
        CU_ASSERT_EQUAL(raw_error(&reply), ERR_TOO_LARGE);
        raw_reply_free(&reply);
        tokens_destroy(&tokens);
    }
    scene_close(&s);
}

TEST_SUITE("e2e/limits", TEST(more_than_the_credit_is_busy_and_told_where_to_go_on),
           TEST(a_busy_connection_does_not_make_others_busy), TEST(more_than_the_daemon_queues_is_busy_whoever_sends_it),
           TEST(a_draining_daemon_refuses_what_comes_and_finishes_what_it_took), TEST(a_daemon_stops_however_much_comes_in),
           TEST(streams_and_heads_are_limited_and_come_back_when_closed), TEST(memory_is_limited_before_it_is_taken),
           TEST(kept_replies_and_empty_streams_count_against_memory),
           TEST(a_message_whose_reply_would_be_enormous_is_too_large))
