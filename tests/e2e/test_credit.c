/* Credit: a producer may have so much outstanding, unconfirmed replies included; past it, it is told so and loses nothing. */
#include "tests/e2e/scene.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { BOTH = WIRE_APPEND | WIRE_ATTEND, CREDIT = 64 * 1024, EACH = 50 };

static const char little[] = "limits: {message_bytes: 64 KiB, credit_bytes: 64 KiB}\n";

/* What a part of EACH tokens asks for on the wire, and is answered with: 4 query heads, 2 kv heads, d = 16, e = 8, f32. */
enum { REQUEST = 64 + EACH * (4 * 16 + 2 * 16 + 2 * 8) * 4, REPLY = EACH * 4 * 8 * 4 };

static bool open_scene(struct scene *s)
{
    return scene_open(s, little, ATTENTION_SOFTMAX, "full");
}

/* Sends parts of EACH tokens and confirms none, until one is refused; returns the number taken. */
static uint64_t fill_up(struct scene *s, struct raw_reply *refusal)
{
    for (uint64_t i = 0;; i++) {
        if (scene_step(s, refusal, SCENE_HELD + i * EACH, EACH, BOTH, 0) || i == 1000)
            return i;
        raw_reply_free(refusal);
    }
}

static bool confirm(struct scene *s, uint64_t received, struct raw_reply *reply)
{
    char text[128];
    snprintf(text, sizeof text, "{\"op\":\"confirm\",\"id\":4,\"stream\":%llu,\"received\":[%llu]}",
             (unsigned long long)s->stream, (unsigned long long)received);
    return raw_ask(&s->raw, text, reply);
}

static void what_is_not_confirmed_counts_and_is_never_given_up(void)
{
    struct scene s;
    if (open_scene(&s)) {
        struct raw_reply reply;
        uint64_t before = SCENE_HELD * 4 * 8 * 4, n = fill_up(&s, &reply), at = SCENE_HELD + n * EACH;
        CU_ASSERT_EQUAL(n, (CREDIT - REQUEST - before) / REPLY); /* as many as are kept beside one more request and its reply */
        CU_ASSERT_EQUAL(raw_error(&reply), ERR_BUSY);
        CU_ASSERT_EQUAL(reply.part[0].position, at);
        CU_ASSERT_EQUAL(reply.fault[0].fault.expected, at);
        CU_ASSERT(strstr(reply.fault[0].fault.text, "limits.credit_bytes") != NULL);
        raw_reply_free(&reply);
        for (int round = 0; round < 2; round++) /* all that was answered is still there, and resends pass */
            for (uint64_t i = 0; i < n; i++)
                CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD + i * EACH, EACH, BOTH, 0), 0);
        CU_ASSERT_EQUAL(scene_send(&s, at, EACH, BOTH, 0), ERR_BUSY);
    }
    scene_close(&s);
}

static void a_message_confirms_before_it_is_weighed(void)
{
    struct scene s;
    if (open_scene(&s)) {
        struct raw_reply reply;
        uint64_t at = SCENE_HELD + fill_up(&s, &reply) * EACH;
        raw_reply_free(&reply);
        CU_ASSERT_EQUAL(scene_send(&s, at, EACH, BOTH, SCENE_HELD + EACH), 0);
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD, EACH, BOTH, 0), ERR_NOT_KEPT); /* what it confirmed */
        CU_ASSERT_EQUAL(scene_send(&s, at + EACH, EACH, BOTH, SCENE_HELD + EACH), ERR_BUSY);
        CU_ASSERT_EQUAL(scene_send(&s, at + EACH + 1, EACH, BOTH, at), ERR_WRONG_INDEX); /* a refused one confirms too */
        CU_ASSERT_EQUAL(scene_send(&s, at + EACH, EACH, BOTH, 0), 0);
    }
    scene_close(&s);
}

static void confirm_alone_makes_room(void)
{
    struct scene s;
    if (open_scene(&s)) {
        struct raw_reply reply;
        uint64_t n = fill_up(&s, &reply), at = SCENE_HELD + n * EACH;
        char text[128];
        raw_reply_free(&reply);
        CU_ASSERT(confirm(&s, SCENE_HELD + EACH, &reply));
        snprintf(text, sizeof text, "{\"op\":\"confirm\",\"id\":4,\"ok\":true,\"unconfirmed_bytes\":%d}", (int)(n - 1) * REPLY);
        CU_ASSERT_STRING_EQUAL(reply.text, text);
        CU_ASSERT_EQUAL(scene_send(&s, at, EACH, BOTH, 0), 0);
        CU_ASSERT_EQUAL(scene_send(&s, at + EACH, EACH, BOTH, 0), ERR_BUSY);
        CU_ASSERT(confirm(&s, at + EACH, &reply));
        CU_ASSERT(strstr(reply.text, "\"unconfirmed_bytes\":0}") != NULL);
    }
    scene_close(&s);
}

/* More than the credit by its reply alone. */
static void what_comes_alone_always_passes(void)
{
    struct scene s;
    if (open_scene(&s)) {
        struct shape wide = house_shape(1, 0, 64, 1, 2, 64);
        struct tokens tokens;
        struct raw_reply reply;
        tokens_create(&tokens, &wide, 1, 0, 0, 20);
        CU_ASSERT(confirm(&s, SCENE_HELD, &reply));
        uint64_t stream = raw_open_stream(&s.raw, "wide", &wide, "full", false);
        for (uint64_t i = 0; i < 3; i++) {
            struct raw_message message = {0};
            raw_add(&message, stream, &tokens, 5 * i, 5, BOTH); /* 80 KiB of outputs */
            message.part[0].position = 5 * i;
            raw_send_message(&s.raw, &message);
            CU_ASSERT(raw_receive(&s.raw, 20, &reply));
            CU_ASSERT_EQUAL(raw_error(&reply), 0);
            CU_ASSERT_EQUAL(reply.n_out, 5 * 64 * 64);
            raw_reply_free(&reply);
        }
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD, 1, BOTH, 0), ERR_BUSY); /* another stream of the connection */
        tokens_destroy(&tokens);
    }
    scene_close(&s);
}

static void who_takes_a_stream_over_takes_its_replies_on(void)
{
    struct scene s;
    if (open_scene(&s)) {
        struct raw_reply reply;
        struct raw heir;
        uint64_t at = SCENE_HELD + fill_up(&s, &reply) * EACH;
        raw_reply_free(&reply);
        uint64_t other = raw_open_stream(&s.raw, "other", &s.shape, "full", false);
        CU_ASSERT_FATAL(raw_open(&heir, s.house.ingest));
        CU_ASSERT_EQUAL(raw_open_stream(&heir, "scene", &s.shape, "full", true), s.stream);
        struct raw_message message = {0};
        raw_add(&message, other, &s.tokens, 0, EACH, BOTH);
        raw_send_message(&s.raw, &message); /* the former owner has its credit back */
        CU_ASSERT(raw_receive(&s.raw, 20, &reply));
        CU_ASSERT_EQUAL(raw_error(&reply), 0);
        raw_reply_free(&reply);
        CU_ASSERT(confirm(&s, at, &reply));
        CU_ASSERT(strstr(reply.text, "not_owner") != NULL);
        struct raw former = s.raw;
        s.raw = heir;
        CU_ASSERT_EQUAL(scene_send(&s, at, EACH, BOTH, 0), ERR_BUSY);
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD, EACH, BOTH, 0), 0);
        CU_ASSERT_EQUAL(scene_send(&s, at, EACH, BOTH, at), 0);
        raw_close(&former);
    }
    scene_close(&s);
}

static void a_wrong_confirm_is_refused_by_name(void)
{
    static const char *const wrong[][2] = {{"999999,\"received\":[1]", "unknown_stream"},
                                           {"%llu,\"received\":[1,2]", "wrong_shape"}};
    struct scene s;
    if (open_scene(&s)) {
        struct raw_reply reply;
        for (size_t i = 0; i < 2; i++) {
            char form[128], text[160];
            snprintf(form, sizeof form, "{\"op\":\"confirm\",\"id\":4,\"stream\":%s}", wrong[i][0]);
            char *at = strstr(form, "%llu");
            snprintf(text, sizeof text, "%.*s%.0llu%s", at ? (int)(at - form) : (int)strlen(form), form,
                     at ? (unsigned long long)s.stream : 0ull, at ? at + 4 : "");
            CU_ASSERT(raw_ask(&s.raw, text, &reply));
            CU_ASSERT(strstr(reply.text, wrong[i][1]) != NULL);
        }
        CU_ASSERT_EQUAL(scene_send(&s, 0, SCENE_HELD, BOTH, 0), 0); /* it is kept as before */
    }
    scene_close(&s);
}

/* Fewer bytes for each while several connections have messages under way. */
static void replies_tell_the_credit(void)
{
    struct scene s;
    if (scene_open(&s, "limits: {message_bytes: 64 KiB, credit_bytes: 96 KiB, queued_bytes: 128 KiB}\n", ATTENTION_SOFTMAX,
                   "full")) {
        struct raw_reply reply;
        CU_ASSERT_EQUAL(scene_step(&s, &reply, SCENE_HELD, 1, BOTH, SCENE_HELD), 0);
        CU_ASSERT_EQUAL(reply.header.credit, 96);
        raw_reply_free(&reply);
        struct raw_frame junk = {"ATND", 4};
        raw_send(&s.raw, &junk, 1);
        CU_ASSERT(raw_receive(&s.raw, 20, &reply));
        CU_ASSERT_EQUAL(reply.header.n_parts, 0);
        CU_ASSERT_EQUAL(reply.header.credit, 96);
        raw_reply_free(&reply);
    }
    scene_close(&s);
}

/* A status takes kilobytes; of two thousand that nobody reads, those beyond twice the credit, and what the system holds, are dropped. */
static void answers_that_nobody_reads_take_a_bounded_room(void)
{
    enum { N = 2000 };
    struct scene s;
    if (open_scene(&s)) {
        struct attnd_client *client = NULL;
        struct raw deaf = {.context = zmq_ctx_new()};
        struct raw_reply reply;
        struct raw_frame ask = {"{\"op\":\"status\",\"id\":1}", 22};
        int one = 1, linger = 0;
        double received = 0, dropped = 0;
        deaf.socket = zmq_socket(deaf.context, ZMQ_DEALER);
        zmq_setsockopt(deaf.socket, ZMQ_RCVHWM, &one, sizeof one);
        zmq_setsockopt(deaf.socket, ZMQ_SNDHWM, &linger, sizeof linger);
        zmq_setsockopt(deaf.socket, ZMQ_LINGER, &linger, sizeof linger);
        CU_ASSERT_EQUAL_FATAL(zmq_connect(deaf.socket, s.house.ingest), 0);
        uint64_t stream = raw_open_stream(&deaf, "deaf", &s.shape, "full", false);
        for (int i = 0; i < N; i++)
            raw_send(&deaf, &ask, 1);
        struct raw_message message = {0}; /* taken after all of them */
        raw_add(&message, stream, &s.tokens, 0, 1, BOTH);
        raw_send_message(&deaf, &message);
        CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, s.house.ingest, NULL, NULL), 0);
        while (!(house_number(client, "daemon.refused_total.busy") > 0))
            CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD, 1, WIRE_APPEND, SCENE_HELD), 0); /* others are served */
        while (raw_receive(&deaf, 1, &reply)) {
            received++;
            raw_reply_free(&reply);
        }
        dropped = house_number(client, "daemon.replies_dropped_total");
        CU_ASSERT(dropped > 0);
        CU_ASSERT_EQUAL(received + dropped, N + 1);
        raw_send_message(&deaf, &message); /* it reads again */
        CU_ASSERT(raw_receive(&deaf, 20, &reply));
        CU_ASSERT_EQUAL(raw_error(&reply), 0);
        raw_reply_free(&reply);
        attnd_disconnect(client);
        raw_close(&deaf);
    }
    scene_close(&s);
}

/* A client that goes through many layers of several streams confirms by itself what the next message of a layer will not. */
static void the_client_keeps_within_its_credit(void)
{
    enum { LAYERS = 12, STREAMS = 3, TOKENS = 40, STEP = 10, DEPTH = 4 };
    struct house house;
    if (house_open(&house, little)) {
        struct attnd_client *client = NULL;
        struct attnd_stream stream[STREAMS];
        struct shape shape = house_shape(LAYERS, 0, 8, 2, 16, 16);
        struct tokens tokens;
        size_t width = floats_out(&shape, STEP), sent = 0;
        float *out = calloc(DEPTH, width * sizeof *out);
        struct attnd_part part[DEPTH];
        uint64_t ticket[DEPTH];
        CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, house.ingest, NULL, NULL), 0);
        for (int i = 0; i < STREAMS; i++) {
            char name[16];
            snprintf(name, sizeof name, "s%d", i);
            CU_ASSERT_EQUAL_FATAL(attnd_open(client, name, &shape, "full", false, &stream[i], NULL), 0);
        }
        tokens_create(&tokens, &shape, 1, 0, 0, TOKENS);
        for (uint64_t at = 0; at < TOKENS; at += STEP) /* 5 KiB of outputs each: 180 KiB in a round */
            for (uint32_t layer = 0; layer < LAYERS; layer++)
                for (int i = 0; i < STREAMS; i++, sent++) {
                    size_t d = sent % DEPTH;
                    if (sent >= DEPTH) {
                        CU_ASSERT_EQUAL(attnd_wait(client, ticket[d], NULL), 0);
                        CU_ASSERT_EQUAL(part[d].fault.err, 0);
                    }
                    part[d] = tokens_part(&tokens, &stream[i], at, STEP, BOTH, out + d * width, NULL);
                    CU_ASSERT_EQUAL_FATAL(attnd_send(client, layer, &part[d], 1, &ticket[d], NULL), 0);
                }
        for (size_t d = 0; d < DEPTH; d++) {
            CU_ASSERT_EQUAL(attnd_wait(client, ticket[d], NULL), 0);
            CU_ASSERT_EQUAL(part[d].fault.err, 0);
        }
        CU_ASSERT(!(house_number(client, "daemon.refused_total.busy") > 0));
        CU_ASSERT_EQUAL(house_number(client, "daemon.tokens_total"), TOKENS * LAYERS * STREAMS);
        CU_ASSERT(house_number(client, "daemon.kept_reply_bytes") <= CREDIT);
        for (int i = 0; i < STREAMS; i++)
            CU_ASSERT_EQUAL(attnd_confirm(client, &stream[i], NULL), 0);
        CU_ASSERT_EQUAL(house_number(client, "daemon.kept_reply_bytes"), 0);
        for (int i = 0; i < STREAMS; i++)
            CU_ASSERT_EQUAL(attnd_close(client, &stream[i], NULL, NULL), 0);
        attnd_disconnect(client);
        tokens_destroy(&tokens);
        free(out);
    }
    house_close(&house);
}

TEST_SUITE("e2e/credit", TEST(what_is_not_confirmed_counts_and_is_never_given_up),
           TEST(a_message_confirms_before_it_is_weighed), TEST(confirm_alone_makes_room), TEST(what_comes_alone_always_passes),
           TEST(who_takes_a_stream_over_takes_its_replies_on), TEST(a_wrong_confirm_is_refused_by_name),
           TEST(replies_tell_the_credit), TEST(answers_that_nobody_reads_take_a_bounded_room),
           TEST(the_client_keeps_within_its_credit))
