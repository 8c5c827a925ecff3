/* What comes back: outputs, refusals, replies late, out of order, or wrong. */
#include "tests/test.h"

#include "tests/lib/client/fake_daemon.h"

#include <stdlib.h>
#include <string.h>
#include <zmq.h>

/* size_t, since sizes are products of them. */
#define H ((size_t)2)
#define HKV ((size_t)1)
#define D ((size_t)3)
#define E ((size_t)2)
#define N ((size_t)4)

static const char endpoint[] = "inproc://fake-reply";
static void *context;
static struct fake_daemon *fake;
static struct attnd_client *client;
static struct attnd_stream stream[2];
static const float zeros[N * H * D];
static float out[2][N * H * E], lse[2][N * H];
static struct fault fault;

static void start(void)
{
    struct shape shape = {
        .n_layers = 1, .heads = H, .kv_heads = HKV, .key_dim = D, .value_dim = E, .scale = 1, .expected_tokens = 8};
    context = zmq_ctx_new();
    fake = fake_start(context, endpoint);
    CU_ASSERT_PTR_NOT_NULL_FATAL(fake);
    CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, endpoint, context, NULL), 0);
    attnd_set_timeout(client, 60);
    for (size_t i = 0; i < 2; i++)
        CU_ASSERT_EQUAL_FATAL(attnd_open(client, i ? "b" : "a", &shape, NULL, false, &stream[i], NULL), 0);
    memset(out, 0, sizeof out);
    memset(lse, 0, sizeof lse);
    fault = (struct fault){0};
}

static void stop(void)
{
    attnd_forget(&stream[0]);
    attnd_forget(&stream[1]);
    attnd_disconnect(client);
    fake_stop(fake);
    zmq_ctx_term(context);
}

static struct attnd_part part_of(size_t s, uint32_t n_tokens, uint16_t flags)
{
    return (struct attnd_part){.stream = &stream[s],
                               .n_tokens = n_tokens,
                               .flags = flags,
                               .q = zeros,
                               .key = {zeros},
                               .value = {zeros},
                               .out = out[s],
                               .lse = lse[s]};
}

static int outputs_are(const float *x, size_t s, uint64_t first, size_t n)
{
    for (size_t t = 0; t < n; t++)
        for (size_t h = 0; h < H; h++)
            for (size_t c = 0; c < E; c++)
                if (x[(t * H + h) * E + c] != fake_output(stream[s].id, 0, first + t, h, c))
                    return 0;
    return 1;
}

static void outputs_and_lse_go_to_the_parts_that_asked(void)
{
    start();
    struct attnd_part parts[3] = {part_of(0, 2, WIRE_APPEND), part_of(0, 1, WIRE_ATTEND),
                                  part_of(1, 3, WIRE_APPEND | WIRE_ATTEND | WIRE_PARTIAL)};
    CU_ASSERT_EQUAL(attnd_step(client, 0, parts, 3, NULL), 0);
    CU_ASSERT_TRUE(outputs_are(out[0], 0, 2, 1) && outputs_are(out[1], 1, 0, 3));
    for (size_t i = 0; i < 3 * H; i++)
        CU_ASSERT_EQUAL(lse[1][i], fake_lse(stream[1].id, 0, i / H, i % H));
    CU_ASSERT_TRUE(lse[0][0] == 0 && out[0][H * E] == 0); /* and nowhere else */
    stop();
}

static void replies_out_of_order_find_their_messages(void)
{
    enum { MESSAGES = 6 };
    start();
    static float each[MESSAGES][H * E];
    struct attnd_part parts[MESSAGES];
    uint64_t ticket[MESSAGES];
    fake_set(fake, &(struct fake_rules){.hold = MESSAGES});
    for (size_t i = 0; i < MESSAGES; i++) {
        parts[i] = part_of(0, 1, WIRE_APPEND | WIRE_ATTEND);
        parts[i].out = each[i];
        CU_ASSERT_EQUAL_FATAL(attnd_send(client, 0, &parts[i], 1, &ticket[i], NULL), 0);
    }
    CU_ASSERT_EQUAL(attnd_in_flight(client), MESSAGES);
    static const size_t order[MESSAGES] = {3, 0, 5, 1, 4, 2};
    for (size_t i = 0; i < MESSAGES; i++) {
        CU_ASSERT_EQUAL(attnd_wait(client, ticket[order[i]], NULL), 0);
        CU_ASSERT_TRUE(outputs_are(each[order[i]], 0, order[i], 1));
    }
    CU_ASSERT_EQUAL(attnd_in_flight(client), 0);
    CU_ASSERT_EQUAL(attnd_wait(client, ticket[0], &fault), ERR_INVALID); /* each once */
    stop();
}

static void hundreds_of_messages_may_be_in_flight(void)
{
    enum { MESSAGES = 500 };
    start();
    static struct attnd_part parts[MESSAGES];
    static float each[MESSAGES][H * E];
    static uint64_t ticket[MESSAGES];
    for (size_t i = 0; i < MESSAGES; i++) {
        parts[i] = part_of(0, 1, WIRE_APPEND | WIRE_ATTEND);
        parts[i].out = each[i];
        CU_ASSERT_EQUAL_FATAL(attnd_send(client, 0, &parts[i], 1, &ticket[i], NULL), 0);
    }
    int good = 1;
    for (size_t i = 0; i < MESSAGES; i++)
        good = good && attnd_wait(client, ticket[MESSAGES - 1 - i], NULL) == 0;
    for (size_t i = 0; i < MESSAGES; i++)
        good = good && outputs_are(each[i], 0, i, 1);
    CU_ASSERT_TRUE(good);
    CU_ASSERT_EQUAL(stream[0].confirmed[0], MESSAGES);
    stop();
}

/* More than ZeroMQ queues in either direction, at a daemon that does not read at first: neither side may wait for the other. */
static void a_full_way_out_is_waited_for(void)
{
    enum { MESSAGES = 5000 };
    start();
    static struct attnd_part parts[MESSAGES];
    static uint64_t ticket[MESSAGES];
    int good = 1;
    fake_set(fake, &(struct fake_rules){.pause_ms = 100});
    for (size_t i = 0; i < MESSAGES && good; i++) {
        parts[i] = part_of(0, 1, WIRE_APPEND | WIRE_ATTEND);
        good = attnd_send(client, 0, &parts[i], 1, &ticket[i], &fault) == 0;
    }
    for (size_t i = 0; i < MESSAGES && good; i++)
        good = attnd_wait(client, ticket[i], &fault) == 0;
    CU_ASSERT_TRUE(good);
    CU_ASSERT_EQUAL(stream[0].confirmed[0], MESSAGES);
    stop();
}

static void one_refused_part_leaves_the_others(void)
{
    start();
    struct attnd_part parts[2] = {part_of(0, 2, WIRE_APPEND | WIRE_ATTEND), part_of(1, 2, WIRE_APPEND | WIRE_ATTEND)};
    uint64_t ticket;
    fake_set(fake, &(struct fake_rules){.refuse = {ERR_NOT_FINITE}});
    CU_ASSERT_EQUAL_FATAL(attnd_send(client, 0, parts, 2, &ticket, NULL), 0);
    CU_ASSERT_TRUE(stream[0].next[0] == 2 && stream[1].next[0] == 2);
    CU_ASSERT_EQUAL(attnd_wait(client, ticket, &fault), 0);
    CU_ASSERT_EQUAL(parts[0].fault.err, ERR_NOT_FINITE);
    CU_ASSERT_STRING_EQUAL(parts[0].fault.text, "part 0 said no");
    CU_ASSERT_EQUAL(parts[1].fault.err, 0);
    CU_ASSERT_TRUE(outputs_are(out[1], 1, 0, 2) && out[0][0] == 0);
    CU_ASSERT_TRUE(stream[0].next[0] == 0 && stream[0].confirmed[0] == 0 && stream[1].next[0] == 2 &&
                   stream[1].confirmed[0] == 2);
    stop();
}

static void a_step_returns_the_first_refusal(void)
{
    start();
    struct attnd_part parts[2] = {part_of(0, 1, WIRE_APPEND), part_of(1, 1, WIRE_APPEND)};
    fake_set(fake, &(struct fake_rules){.refuse = {0, ERR_OVERFLOW}});
    CU_ASSERT_EQUAL(attnd_step(client, 0, parts, 2, &fault), ERR_OVERFLOW);
    CU_ASSERT_STRING_EQUAL(fault.text, "part 1 said no");
    CU_ASSERT_TRUE(stream[0].next[0] == 1 && stream[1].next[0] == 0);
    stop();
}

static void a_wrong_index_or_busy_sets_the_stream_to_what_is_expected(void)
{
    static const int errs[] = {ERR_WRONG_INDEX, ERR_BUSY};
    for (size_t i = 0; i < 2; i++) {
        start();
        struct attnd_part part = part_of(0, 1, WIRE_APPEND);
        stream[0].next[0] = 9;
        fake_set(fake, &(struct fake_rules){.refuse = {errs[i]}, .expected = 5});
        CU_ASSERT_EQUAL(attnd_step(client, 0, &part, 1, &fault), errs[i]);
        CU_ASSERT_EQUAL(fault.expected, 5);
        CU_ASSERT_EQUAL(stream[0].next[0], 5);
        stop();
    }
}

static void what_follows_a_refused_append_comes_back_too(void)
{
    start();
    struct attnd_part parts[3] = {part_of(0, 1, WIRE_APPEND), part_of(0, 1, WIRE_APPEND), part_of(0, 1, WIRE_APPEND)};
    uint64_t ticket[3];
    fake_set(fake, &(struct fake_rules){.refuse = {ERR_WRONG_INDEX}, .expected = 0});
    for (size_t i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(attnd_send(client, 0, &parts[i], 1, &ticket[i], NULL), 0);
    for (size_t i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(attnd_wait(client, ticket[i], NULL), 0);
    CU_ASSERT_EQUAL(stream[0].next[0], 0);
    fake_set(fake, &(struct fake_rules){0});
    for (size_t i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(attnd_step(client, 0, &parts[i], 1, NULL), 0);
    CU_ASSERT_TRUE(stream[0].next[0] == 3 && stream[0].confirmed[0] == 3);
    stop();
}

static void a_message_refused_as_a_whole_fails_every_part(void)
{
    start();
    struct attnd_part parts[2] = {part_of(0, 2, WIRE_APPEND | WIRE_ATTEND), part_of(1, 2, WIRE_APPEND)};
    uint64_t ticket;
    fake_set(fake, &(struct fake_rules){.reply = FAKE_REFUSE_WHOLE});
    CU_ASSERT_EQUAL_FATAL(attnd_send(client, 0, parts, 2, &ticket, NULL), 0);
    CU_ASSERT_EQUAL(attnd_wait(client, ticket, &fault), ERR_TOO_LARGE);
    CU_ASSERT_STRING_EQUAL(fault.text, "all of it said no");
    CU_ASSERT_TRUE(parts[0].fault.err == ERR_TOO_LARGE && parts[1].fault.err == ERR_TOO_LARGE);
    CU_ASSERT_TRUE(stream[0].next[0] == 0 && stream[1].next[0] == 0);
    stop();
}

static void an_answer_that_is_given_up_on_touches_nothing(void)
{
    start();
    struct attnd_part part = part_of(0, 1, WIRE_APPEND | WIRE_ATTEND);
    fake_set(fake, &(struct fake_rules){.reply = FAKE_SILENT, .late = 1});
    attnd_set_timeout(client, 0.02);
    CU_ASSERT_EQUAL(attnd_step(client, 0, &part, 1, &fault), ERR_TIMEOUT);
    CU_ASSERT_EQUAL(attnd_in_flight(client), 0);
    attnd_set_timeout(client, 60);
    fake_set(fake, &(struct fake_rules){0});

    float other[H * E] = {0};
    struct attnd_part next = part_of(0, 1, WIRE_APPEND | WIRE_ATTEND);
    next.out = other;
    part.out = NULL; /* who writes there now, crashes */
    CU_ASSERT_EQUAL(attnd_step(client, 0, &next, 1, NULL), 0);
    CU_ASSERT_EQUAL(attnd_step(client, 0, &next, 1, NULL), 0); /* the late answer was read on the way */
    CU_ASSERT_TRUE(outputs_are(other, 0, 2, 1) && out[0][0] == 0);
    CU_ASSERT_EQUAL(stream[0].confirmed[0], 0); /* token 0 may still be asked for */
    stop();
}

static void wrong_replies_are_malformed_and_touch_nothing(void)
{
    for (enum fake_reply how = FAKE_NO_PARTS; how < N_FAKE_REPLIES; how++) {
        start();
        struct attnd_part parts[2] = {part_of(0, 2, WIRE_APPEND | WIRE_ATTEND), part_of(1, 1, WIRE_APPEND | WIRE_ATTEND)};
        fake_set(fake, &(struct fake_rules){.reply = how});
        CU_ASSERT_EQUAL(attnd_step(client, 0, parts, 2, &fault), ERR_MALFORMED);
        CU_ASSERT_TRUE(out[0][0] == 0 && out[1][0] == 0 && stream[0].confirmed[0] == 0);
        fake_set(fake, &(struct fake_rules){0});
        CU_ASSERT_EQUAL(attnd_step(client, 0, parts, 2, &fault), 0); /* and the next reply is read from its beginning */
        stop();
    }
}

static void close_waits_for_what_is_in_flight(void)
{
    start();
    struct attnd_part part = part_of(0, 1, WIRE_APPEND | WIRE_ATTEND);
    uint64_t ticket;
    CU_ASSERT_EQUAL_FATAL(attnd_send(client, 0, &part, 1, &ticket, NULL), 0);
    CU_ASSERT_EQUAL(attnd_close(client, &stream[0], NULL, NULL), 0);
    CU_ASSERT_EQUAL(out[0][0], fake_output(1, 0, 0, 0, 0));
    CU_ASSERT_EQUAL(attnd_wait(client, ticket, NULL), 0);

    struct attnd_part lost = part_of(1, 1, WIRE_APPEND | WIRE_ATTEND);
    fake_set(fake, &(struct fake_rules){.reply = FAKE_SILENT});
    CU_ASSERT_EQUAL_FATAL(attnd_send(client, 0, &lost, 1, &ticket, NULL), 0);
    attnd_set_timeout(client, 0.02);
    CU_ASSERT_EQUAL(attnd_close(client, &stream[1], NULL, &fault), ERR_TIMEOUT);
    CU_ASSERT_PTR_NULL(stream[1].next); /* freed all the same, and no ticket points to it */
    CU_ASSERT_EQUAL(attnd_in_flight(client), 0);
    stop();
}

TEST_SUITE("lib/client/reply", TEST(outputs_and_lse_go_to_the_parts_that_asked), TEST(replies_out_of_order_find_their_messages),
           TEST(hundreds_of_messages_may_be_in_flight), TEST(a_full_way_out_is_waited_for),
           TEST(one_refused_part_leaves_the_others), TEST(a_step_returns_the_first_refusal),
           TEST(a_wrong_index_or_busy_sets_the_stream_to_what_is_expected), TEST(what_follows_a_refused_append_comes_back_too),
           TEST(a_message_refused_as_a_whole_fails_every_part), TEST(an_answer_that_is_given_up_on_touches_nothing),
           TEST(wrong_replies_are_malformed_and_touch_nothing), TEST(close_waits_for_what_is_in_flight))
