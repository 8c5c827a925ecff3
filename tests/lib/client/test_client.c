#include "tests/test.h"

#include "base/clock.h"
#include "tests/lib/client/fake_daemon.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

static const char endpoint[] = "inproc://fake-client";
static struct shape shape = {.n_layers = 2,
                             .kind = {ATTENTION_SOFTMAX, ATTENTION_TENSOR},
                             .heads = 2,
                             .kv_heads = 1,
                             .key_dim = 3,
                             .value_dim = 2,
                             .scale = 1,
                             .expected_tokens = 8};

static struct setup {
    void *context;
    struct fake_daemon *fake;
    struct attnd_client *client;
} start(const struct fake_rules *rules)
{
    struct setup s = {.context = zmq_ctx_new()};
    s.fake = fake_start(s.context, endpoint);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s.fake);
    if (rules)
        fake_set(s.fake, rules);
    return s;
}

static void connect_to_it(struct setup *s)
{
    CU_ASSERT_EQUAL_FATAL(attnd_connect(&s->client, endpoint, s->context, NULL), 0);
    attnd_set_timeout(s->client, 5);
}

static void stop(struct setup *s)
{
    attnd_disconnect(s->client);
    fake_stop(s->fake);
    zmq_ctx_term(s->context);
}

static void connecting_says_hello(void)
{
    struct setup s = start(&(struct fake_rules){.message_bytes = 5000});
    connect_to_it(&s);
    const struct control_hello *hello = attnd_hello(s.client);
    CU_ASSERT_STRING_EQUAL(hello->instance, "fake");
    CU_ASSERT_EQUAL(hello->message_bytes, 5000);
    CU_ASSERT_EQUAL(fake_n_controls(s.fake), 1);
    stop(&s);
}

static void a_daemon_of_another_protocol_is_refused(void)
{
    struct setup s = start(&(struct fake_rules){.protocol = 2});
    struct fault fault;
    CU_ASSERT_EQUAL(attnd_connect(&s.client, endpoint, s.context, &fault), ERR_VERSION);
    CU_ASSERT_PTR_NULL(s.client);
    CU_ASSERT_EQUAL(fault.err, ERR_VERSION);
    stop(&s);
}

static void endpoints_that_cannot_be_are_refused_at_once(void)
{
    struct attnd_client *client;
    struct fault fault;
    char text[CONTROL_ENDPOINT_BYTES + 1];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    CU_ASSERT_EQUAL(attnd_connect(&client, text, NULL, &fault), ERR_TOO_LARGE);
    CU_ASSERT_EQUAL(attnd_connect(&client, "inproc://x", NULL, &fault), ERR_INVALID); /* a context of its own sees no one */
    CU_ASSERT_EQUAL(attnd_connect(&client, "carrier-pigeon://x", NULL, &fault), ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, "carrier-pigeon"));
    CU_ASSERT_PTR_NULL(client);
    attnd_disconnect(NULL);
}

static void open_tells_where_to_go_on(void)
{
    struct setup s = start(&(struct fake_rules){.next_token = 17});
    struct attnd_stream stream;
    connect_to_it(&s);
    CU_ASSERT_EQUAL_FATAL(attnd_open(s.client, "a", &shape, NULL, true, &stream, NULL), 0);
    CU_ASSERT_EQUAL(stream.id, 1);
    CU_ASSERT_TRUE(stream.next[0] == 17 && stream.next[1] == 17 && stream.confirmed[1] == 17);
    CU_ASSERT_TRUE(stream.shape != &shape && stream.shape->n_layers == 2 && stream.shape->key_dim == 3);
    attnd_forget(&stream);
    CU_ASSERT_PTR_NULL(stream.next);
    stop(&s);
}

static void what_the_daemon_refuses_reaches_the_caller(void)
{
    struct fake_rules rules = {0};
    fault_set(&rules.open_fault, ERR_EXISTS, "it is there");
    struct setup s = start(&rules);
    struct attnd_stream stream;
    struct fault fault;
    connect_to_it(&s);
    CU_ASSERT_EQUAL(attnd_open(s.client, "a", &shape, "full", false, &stream, &fault), ERR_EXISTS);
    CU_ASSERT_STRING_EQUAL(fault.text, "it is there");
    CU_ASSERT_TRUE(stream.next == NULL && stream.shape == NULL);
    CU_ASSERT_EQUAL(attnd_open(s.client, "a", &shape, "full", false, &stream, NULL), ERR_EXISTS);
    stop(&s);
}

static void what_cannot_be_opened_is_not_even_asked(void)
{
    struct setup s = start(NULL);
    struct attnd_stream stream;
    struct shape bad = shape;
    char text[CONTROL_PROFILE_BYTES + 1];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    connect_to_it(&s);
    CU_ASSERT_EQUAL(attnd_open(s.client, text, &shape, "full", false, &stream, NULL), ERR_INVALID);
    CU_ASSERT_EQUAL(attnd_open(s.client, "a", &shape, text, false, &stream, NULL), ERR_INVALID);
    bad.heads = 3;
    bad.kv_heads = 2;
    CU_ASSERT_EQUAL(attnd_open(s.client, "a", &bad, "full", false, &stream, NULL), ERR_INVALID);
    CU_ASSERT_EQUAL(fake_n_controls(s.fake), 1); /* hello */
    stop(&s);
}

static void close_returns_the_last_numbers_and_frees(void)
{
    struct setup s = start(NULL);
    struct attnd_stream stream;
    struct control_close last;
    connect_to_it(&s);
    CU_ASSERT_EQUAL_FATAL(attnd_open(s.client, "a", &shape, NULL, false, &stream, NULL), 0);
    CU_ASSERT_EQUAL(attnd_close(s.client, &stream, &last, NULL), 0);
    CU_ASSERT_TRUE(last.bytes == 11 && last.bytes_full_bf16 == 22 && last.tokens == 33 && last.attention_seconds == 0.25);
    CU_ASSERT_TRUE(stream.shape == NULL && stream.next == NULL);
    stop(&s);
}

static void status_is_the_daemons_json(void)
{
    struct setup s = start(NULL);
    char *json;
    connect_to_it(&s);
    CU_ASSERT_EQUAL_FATAL(attnd_status(s.client, 0, &json, NULL), 0);
    CU_ASSERT_STRING_EQUAL(json, "{\"fake\":true}");
    free(json);
    stop(&s);
}

/* Over a socket of its own context, as most producers use it; and a daemon that was there and is gone. */
static void a_client_with_its_own_context_works_over_ipc(void)
{
    char path[64];
    snprintf(path, sizeof path, "ipc:///tmp/attnd-test-client-%ld", (long)getpid());
    void *context = zmq_ctx_new();
    struct fake_daemon *fake = fake_start(context, path);
    struct attnd_client *client;
    struct attnd_stream stream;
    struct fault fault;
    char *json = NULL;
    CU_ASSERT_PTR_NOT_NULL_FATAL(fake);
    CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, path, NULL, &fault), 0);
    CU_ASSERT_EQUAL_FATAL(attnd_open(client, "a", &shape, NULL, false, &stream, &fault), 0);
    float q[6] = {0}, k[3] = {0}, v[2] = {0}, out[4] = {0};
    struct attnd_part part = {
        .stream = &stream, .n_tokens = 1, .flags = WIRE_APPEND | WIRE_ATTEND, .q = q, .key = {k}, .value = {v}, .out = out};
    attnd_set_spin(client, 0);
    CU_ASSERT_EQUAL(attnd_step(client, 0, &part, 1, &fault), 0);
    CU_ASSERT_EQUAL(out[3], fake_output(1, 0, 0, 1, 1));
    fake_stop(fake);
    zmq_ctx_term(context);
    attnd_set_timeout(client, 0.05);
    CU_ASSERT_EQUAL(attnd_status(client, 0, &json, &fault), ERR_TIMEOUT);
    CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, path));
    CU_ASSERT_PTR_NULL(json);
    attnd_forget(&stream);
    attnd_disconnect(client);
}

TEST_SUITE("lib/client/client", TEST(connecting_says_hello), TEST(a_daemon_of_another_protocol_is_refused),
           TEST(endpoints_that_cannot_be_are_refused_at_once), TEST(open_tells_where_to_go_on),
           TEST(what_the_daemon_refuses_reaches_the_caller), TEST(what_cannot_be_opened_is_not_even_asked),
           TEST(close_returns_the_last_numbers_and_frees), TEST(status_is_the_daemons_json),
           TEST(a_client_with_its_own_context_works_over_ipc))
