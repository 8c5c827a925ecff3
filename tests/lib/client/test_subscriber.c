#include "tests/test.h"

#include "client/attnd_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

static const char endpoint[] = "inproc://fake-publisher";
static void *context, *publisher;
static struct attnd_subscriber *subscriber;
static struct attnd_publication got;

static void start(const char *prefix)
{
    char subscription[64];
    int wait_ms = 5000;
    context = zmq_ctx_new();
    publisher = zmq_socket(context, ZMQ_XPUB);
    zmq_setsockopt(publisher, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms);
    CU_ASSERT_EQUAL_FATAL(zmq_bind(publisher, endpoint), 0);
    CU_ASSERT_EQUAL_FATAL(attnd_subscribe(&subscriber, endpoint, context, prefix, NULL), 0);
    /* XPUB hears of the subscription: what is sent from now on arrives. */
    CU_ASSERT_EQUAL_FATAL(zmq_recv(publisher, subscription, sizeof subscription, 0), (int)strlen(prefix) + 1);
}

static void stop(void)
{
    attnd_unsubscribe(subscriber);
    zmq_close(publisher);
    zmq_ctx_term(context);
}

static void publish_output(const char *topic, uint64_t sequence, size_t n_floats)
{
    struct wire_header header = {.type = WIRE_OUTPUT, .n_parts = 1, .layer = 3, .frames = WIRE_HAS_OUTPUTS, .id = sequence};
    struct wire_part part = {.stream = 8, .first_token = 40, .position = 42, .n_tokens = 2, .flags = WIRE_APPEND | WIRE_ATTEND};
    unsigned char head[WIRE_HEADER_BYTES + WIRE_PART_BYTES];
    float out[64];
    for (size_t i = 0; i < 64; i++)
        out[i] = (float)(sequence + i);
    wire_encode(&header, &part, head);
    zmq_send(publisher, topic, strlen(topic), ZMQ_SNDMORE);
    zmq_send(publisher, head, sizeof head, ZMQ_SNDMORE);
    zmq_send(publisher, out, n_floats * sizeof *out, 0);
}

static void publish_json(const char *topic, const char *json)
{
    zmq_send(publisher, topic, strlen(topic), ZMQ_SNDMORE);
    zmq_send(publisher, json, strlen(json), 0);
}

static int next(void)
{
    return attnd_next(subscriber, 5, &got, NULL);
}

static void outputs_arrive_with_their_topic_and_part(void)
{
    start("out/");
    publish_output("out/chat-1/3/", 5, 8);
    CU_ASSERT_EQUAL_FATAL(next(), 0);
    CU_ASSERT_STRING_EQUAL(got.topic, "out/chat-1/3/");
    CU_ASSERT_TRUE(got.sequence == 5 && got.lost == 0 && got.out_bytes == 32 && got.json == NULL);
    CU_ASSERT_TRUE(got.header.layer == 3 && got.part.first_token == 40 && got.part.n_tokens == 2);
    CU_ASSERT_EQUAL(got.out[7], 12);
    stop();
}

static void a_gap_is_counted_for_each_topic(void)
{
    static const struct {
        const char *topic;
        uint64_t sequence, lost;
    } sent[] = {
        {"out/a/0/", 4, 0}, {"out/a/1/", 0, 0},  {"out/a/0/", 5, 0}, {"out/a/0/", 9, 3},
        {"out/a/1/", 2, 1}, {"out/a/0/", 10, 0}, {"out/a/0/", 0, 0}, /* opened anew */ {"out/a/0/", 2, 1},
    };
    start("out/");
    for (size_t i = 0; i < sizeof sent / sizeof *sent; i++) {
        publish_output(sent[i].topic, sent[i].sequence, 4);
        CU_ASSERT_EQUAL_FATAL(next(), 0);
        CU_ASSERT_EQUAL(got.sequence, sent[i].sequence);
        CU_ASSERT_EQUAL(got.lost, sent[i].lost);
    }
    stop();
}

static void a_thousand_topics_are_kept_apart(void)
{
    char topic[32];
    int good = 1;
    start("out/");
    for (uint64_t round = 0; round < 2; round++)
        for (uint64_t i = 0; i < 1000; i++) {
            snprintf(topic, sizeof topic, "out/s%u/0/", (unsigned)i);
            publish_output(topic, round ? 1 + i + i % 7 : i, 1);
            good = good && next() == 0 && got.lost == (round ? i % 7 : 0);
        }
    CU_ASSERT_TRUE(good);
    stop();
}

static void telemetry_arrives_as_text(void)
{
    start("telemetry/");
    publish_json("out/a/0/", "{}"); /* not subscribed to */
    publish_json("telemetry/memory/", "{\"instance\":\"a\",\"sequence\":7,\"bytes\":1}");
    CU_ASSERT_EQUAL_FATAL(next(), 0);
    CU_ASSERT_STRING_EQUAL(got.json, "{\"instance\":\"a\",\"sequence\":7,\"bytes\":1}");
    CU_ASSERT_TRUE(got.sequence == 7 && got.lost == 0 && got.out == NULL);
    stop();
}

static void a_repeated_value_or_another_daemon_is_no_gap(void)
{
    static const struct {
        const char *json;
        uint64_t lost;
    } sent[] = {
        {"{\"instance\":\"a\",\"sequence\":7}", 0},   {"{\"instance\":\"a\",\"sequence\":7}", 0},
        {"{\"instance\":\"a\",\"sequence\":9}", 1},   {"{\"instance\":\"b\",\"sequence\":100}", 0},
        {"{\"instance\":\"b\",\"sequence\":102}", 1},
    };
    start("telemetry/");
    for (size_t i = 0; i < sizeof sent / sizeof *sent; i++) {
        publish_json("telemetry/time/", sent[i].json);
        CU_ASSERT_EQUAL_FATAL(next(), 0);
        CU_ASSERT_EQUAL(got.lost, sent[i].lost);
    }
    stop();
}

static void nothing_published_is_a_timeout(void)
{
    struct fault fault = {0};
    start("out/");
    CU_ASSERT_EQUAL(attnd_next(subscriber, 0.01, &got, &fault), ERR_TIMEOUT);
    CU_ASSERT_EQUAL(fault.err, ERR_TIMEOUT);
    CU_ASSERT_EQUAL(attnd_next(subscriber, 0, &got, NULL), ERR_TIMEOUT);
    stop();
}

static void what_is_no_publication_is_malformed_and_the_next_is_read(void)
{
    char topic[200] = "out/";
    start("out/");
    memset(topic + 4, 'x', sizeof topic - 5);
    topic[sizeof topic - 1] = '\0';
    zmq_send(publisher, "out/only-a-topic/", 17, 0);
    CU_ASSERT_EQUAL(next(), ERR_MALFORMED);
    publish_json("out/a/0/", "ATND");
    CU_ASSERT_EQUAL(next(), ERR_MALFORMED);
    publish_json("out/a/0/", "{\"sequence\":1}");
    CU_ASSERT_EQUAL(next(), ERR_MALFORMED);
    publish_output(topic, 0, 1);
    CU_ASSERT_EQUAL(next(), ERR_MALFORMED);
    for (int i = 0; i < 5; i++)
        zmq_send(publisher, "out/", 4, i < 4 ? ZMQ_SNDMORE : 0);
    CU_ASSERT_EQUAL(next(), ERR_MALFORMED);
    publish_output("out/a/0/", 3, 1);
    CU_ASSERT_EQUAL(next(), 0);
    stop();
}

static void a_subscription_needs_somewhere_to_go(void)
{
    struct fault fault;
    CU_ASSERT_EQUAL(attnd_subscribe(&subscriber, NULL, NULL, "out/", &fault), ERR_INVALID);
    CU_ASSERT_EQUAL(attnd_subscribe(&subscriber, "nowhere", NULL, "out/", &fault), ERR_IO);
    CU_ASSERT_PTR_NULL(subscriber);
    attnd_unsubscribe(NULL);
}

TEST_SUITE("lib/client/subscriber", TEST(outputs_arrive_with_their_topic_and_part), TEST(a_gap_is_counted_for_each_topic),
           TEST(a_thousand_topics_are_kept_apart), TEST(telemetry_arrives_as_text),
           TEST(a_repeated_value_or_another_daemon_is_no_gap), TEST(nothing_published_is_a_timeout),
           TEST(what_is_no_publication_is_malformed_and_the_next_is_read), TEST(a_subscription_needs_somewhere_to_go))
