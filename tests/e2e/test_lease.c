/* Leases: who is gone is forgotten, who is only silent is not. */
#include "tests/e2e/scene.h"
#include "tests/test.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { BOTH = WIRE_APPEND | WIRE_ATTEND };

/* Until a number of the daemon's status is this, half a minute at most. */
static bool comes_to(struct attnd_client *client, const char *path, double value)
{
    struct timespec a_while = {.tv_nsec = 20000000};
    for (int i = 0; i < 1500; i++, nanosleep(&a_while, NULL))
        if (house_number(client, path) == value)
            return true;
    printf("\n%s stays %g", path, house_number(client, path));
    return false;
}

/* A producer that fills a stream and ends without a word. */
static void come_and_go(struct scene *s, const char *name)
{
    struct raw raw;
    struct raw_message message = {0};
    struct raw_reply reply;
    CU_ASSERT_FATAL(raw_open(&raw, s->house.ingest));
    uint64_t stream = raw_open_stream(&raw, name, &s->shape, "full", false);
    raw_add(&message, stream, &s->tokens, 0, 100, BOTH);
    raw_send_message(&raw, &message);
    CU_ASSERT(raw_receive(&raw, 20, &reply));
    CU_ASSERT_EQUAL(raw_error(&reply), 0);
    raw_reply_free(&reply);
    raw_close(&raw);
}

static void streams_of_a_producer_that_is_gone_are_closed_and_freed(void)
{
    struct scene s;
    if (scene_open(&s, "limits: {lease_seconds: 1}\n", ATTENTION_SOFTMAX, "full")) {
        struct attnd_client *client = NULL;
        struct raw_reply reply;
        CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, s.house.ingest, NULL, NULL), 0);
        CU_ASSERT_EQUAL(attnd_hello(client)->lease_seconds, 1);
        double allocated = house_number(client, "daemon.memory_allocated_bytes"),
               kept = house_number(client, "daemon.kept_reply_bytes");
        for (int round = 1; round <= 3; round++) { /* the scene's own producer is silent for longer than each of these */
            come_and_go(&s, "gone");
            CU_ASSERT_EQUAL(house_number(client, "daemon.streams_open"), 2);
            CU_ASSERT(house_number(client, "daemon.memory_allocated_bytes") > allocated);
            CU_ASSERT(comes_to(client, "daemon.streams_expired_total", round));
            CU_ASSERT_EQUAL(house_number(client, "daemon.streams_open"), 1);
            CU_ASSERT_EQUAL(house_number(client, "daemon.memory_allocated_bytes"), allocated);
            CU_ASSERT_EQUAL(house_number(client, "daemon.kept_reply_bytes"), kept);
        }
        CU_ASSERT(raw_receive(&s.raw, 20, &reply)); /* it was asked after meanwhile, and goes on */
        CU_ASSERT_STRING_EQUAL(reply.text, "{\"op\":\"lease\",\"lease_seconds\":1}");
        while (raw_receive(&s.raw, 0, &reply))
            CU_ASSERT(strstr(reply.text, "lease") != NULL);
        struct raw_message message = {0};
        raw_add(&message, s.stream, &s.tokens, SCENE_HELD, 1, BOTH);
        raw_send_message(&s.raw, &message);
        do {
            CU_ASSERT_FATAL(raw_receive(&s.raw, 20, &reply));
        } while (reply.text[0]);
        CU_ASSERT_EQUAL(raw_error(&reply), 0);
        raw_reply_free(&reply);
        attnd_disconnect(client);
    }
    scene_close(&s);
}

/* A client whose stream expired is told so, and opens it anew. */
static void a_stream_that_expired_is_unknown(void)
{
    struct scene s;
    if (scene_open(&s, "limits: {lease_seconds: 1}\n", ATTENTION_SOFTMAX, "full")) {
        struct attnd_client *client = NULL;
        struct attnd_stream stream;
        CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, s.house.ingest, NULL, NULL), 0);
        raw_close(&s.raw);
        s.raw.socket = NULL;
        CU_ASSERT(comes_to(client, "daemon.streams_expired_total", 1));
        char *text = NULL;
        struct fault fault;
        CU_ASSERT_EQUAL(attnd_status(client, s.stream, &text, &fault), ERR_UNKNOWN_STREAM);
        CU_ASSERT_EQUAL(attnd_open(client, "scene", &s.shape, "full", true, &stream, NULL), 0);
        CU_ASSERT_EQUAL(stream.next[0], 0);
        CU_ASSERT_EQUAL(attnd_close(client, &stream, NULL, NULL), 0);
        attnd_disconnect(client);
    }
    scene_close(&s);
}

TEST_SUITE("e2e/lease", TEST(streams_of_a_producer_that_is_gone_are_closed_and_freed), TEST(a_stream_that_expired_is_unknown))
