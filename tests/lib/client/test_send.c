/* What goes out: frames, indices, and what is refused before anything leaves. */
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

static const char endpoint[] = "inproc://fake-send";
static void *context;
static struct fake_daemon *fake;
static struct attnd_client *client;
static struct attnd_stream stream[2];
static float q[N * H * D], k[2][N * HKV * D], v[2][N * HKV * E], out[2][N * H * E], lse[2][N * H];
static struct fake_message seen;

static void start(enum element element)
{
    struct shape shape = {.n_layers = 2,
                          .kind = {ATTENTION_SOFTMAX, ATTENTION_TENSOR},
                          .heads = H,
                          .kv_heads = HKV,
                          .key_dim = D,
                          .value_dim = E,
                          .scale = 1,
                          .expected_tokens = 8,
                          .element = element};
    context = zmq_ctx_new();
    fake = fake_start(context, endpoint);
    CU_ASSERT_PTR_NOT_NULL_FATAL(fake);
    fake_set(fake, &(struct fake_rules){.message_bytes = 4000, .tokens_per_message = 1000});
    CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, endpoint, context, NULL), 0);
    attnd_set_timeout(client, 5);
    for (size_t i = 0; i < 2; i++)
        CU_ASSERT_EQUAL_FATAL(attnd_open(client, i ? "b" : "a", &shape, NULL, false, &stream[i], NULL), 0);
    for (size_t i = 0; i < sizeof q / sizeof *q; i++)
        q[i] = (float)i;
    for (size_t s = 0; s < 2; s++) {
        for (size_t i = 0; i < N * HKV * D; i++)
            k[s][i] = (float)(100 + 100 * s + i);
        for (size_t i = 0; i < N * HKV * E; i++)
            v[s][i] = (float)(300 + 100 * s + i);
    }
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
                               .q = q,
                               .key = {k[0], k[1]},
                               .value = {v[0], v[1]},
                               .out = out[s],
                               .lse = lse[s]};
}

static int frame_is(size_t frame, const void *bytes, size_t n)
{
    return seen.bytes[frame] == n && memcmp(seen.frame[frame], bytes, n) == 0;
}

static void a_softmax_message_is_q_k_v(void)
{
    start(ELEMENT_F32);
    struct attnd_part part = part_of(0, 3, WIRE_APPEND | WIRE_ATTEND);
    CU_ASSERT_EQUAL(attnd_step(client, 0, &part, 1, NULL), 0);
    CU_ASSERT_EQUAL(fake_seen(fake, 0, &seen), 1);
    CU_ASSERT_EQUAL(seen.n_frames, 4);
    CU_ASSERT_TRUE(frame_is(1, q, 3 * H * D * 4) && frame_is(2, k[0], 3 * HKV * D * 4) && frame_is(3, v[0], 3 * HKV * E * 4));
    CU_ASSERT_TRUE(seen.header.type == WIRE_REQUEST && seen.header.layer == 0 && seen.header.n_parts == 1);
    CU_ASSERT_TRUE(seen.part[0].stream == stream[0].id && seen.part[0].n_tokens == 3 && seen.part[0].first_token == 0);
    stop();
}

static void a_tensor_message_is_q_k1_v1_k2_v2(void)
{
    start(ELEMENT_BF16);
    struct attnd_part part = part_of(0, 2, WIRE_APPEND | WIRE_ATTEND);
    CU_ASSERT_EQUAL(attnd_step(client, 1, &part, 1, NULL), 0);
    fake_seen(fake, 0, &seen);
    CU_ASSERT_EQUAL(seen.n_frames, 6);
    for (size_t s = 0; s < 2; s++)
        CU_ASSERT_TRUE(frame_is(2 + 2 * s, k[s], 2 * HKV * D * 2) && frame_is(3 + 2 * s, v[s], 2 * HKV * E * 2));
    CU_ASSERT_TRUE(frame_is(1, q, 2 * H * D * 2));
    stop();
}

static void a_frame_joins_the_parts_that_carry_it(void)
{
    start(ELEMENT_F32);
    struct attnd_part parts[3] = {part_of(0, 1, WIRE_APPEND), part_of(1, 2, WIRE_ATTEND),
                                  part_of(1, 1, WIRE_APPEND | WIRE_OBSERVE)};
    float rows[2 * HKV * D], queries[3 * H * D];
    parts[2].q = q + 5;
    parts[2].key[0] = k[1];
    CU_ASSERT_EQUAL(attnd_step(client, 0, parts, 3, NULL), 0);
    fake_seen(fake, 0, &seen);
    CU_ASSERT_EQUAL(seen.n_frames, 4);
    memcpy(queries, q, 2 * H * D * 4);
    memcpy(queries + 2 * H * D, q + 5, H * D * 4);
    memcpy(rows, k[0], HKV * D * 4);
    memcpy(rows + HKV * D, k[1], HKV * D * 4);
    CU_ASSERT_TRUE(frame_is(1, queries, sizeof queries));
    CU_ASSERT_TRUE(frame_is(2, rows, sizeof rows));
    stop();
}

static void frames_that_no_part_carries_are_not_sent(void)
{
    start(ELEMENT_F32);
    struct attnd_part append = part_of(0, 1, WIRE_APPEND), attend = part_of(0, 1, WIRE_ATTEND);
    append.q = NULL;
    attend.key[0] = attend.value[0] = NULL;
    CU_ASSERT_EQUAL(attnd_step(client, 0, &append, 1, NULL), 0);
    fake_seen(fake, 0, &seen);
    CU_ASSERT_EQUAL(seen.n_frames, 3);
    CU_ASSERT_EQUAL(attnd_step(client, 0, &attend, 1, NULL), 0);
    fake_seen(fake, 0, &seen);
    CU_ASSERT_EQUAL(seen.n_frames, 2);
    stop();
}

static void indices_go_up_with_what_is_appended(void)
{
    start(ELEMENT_F32);
    struct attnd_part append = part_of(0, 3, WIRE_APPEND), attend = part_of(0, 2, WIRE_ATTEND), both[2] = {append, append};
    CU_ASSERT_EQUAL(attnd_step(client, 0, &append, 1, NULL), 0);
    CU_ASSERT_EQUAL(attnd_step(client, 0, &attend, 1, NULL), 0);
    fake_seen(fake, 0, &seen);
    CU_ASSERT_EQUAL(seen.part[0].first_token, 3); /* tokens held */
    CU_ASSERT_EQUAL(attnd_step(client, 0, both, 2, NULL), 0);
    fake_seen(fake, 0, &seen);
    CU_ASSERT_TRUE(seen.part[0].first_token == 3 && seen.part[1].first_token == 6);
    CU_ASSERT_TRUE(stream[0].next[0] == 9 && stream[0].next[1] == 0 && stream[1].next[0] == 0);
    stop();
}

static void replies_are_confirmed_by_the_next_message_of_the_layer(void)
{
    start(ELEMENT_F32);
    struct attnd_part append = part_of(0, 3, WIRE_APPEND | WIRE_ATTEND), attend = part_of(0, 1, WIRE_ATTEND);
    CU_ASSERT_EQUAL(attnd_step(client, 0, &append, 1, NULL), 0);
    fake_seen(fake, 0, &seen);
    CU_ASSERT_EQUAL(seen.part[0].position, 0);
    CU_ASSERT_EQUAL(attnd_step(client, 1, &append, 1, NULL), 0); /* another layer: nothing of it */
    fake_seen(fake, 0, &seen);
    CU_ASSERT_EQUAL(seen.part[0].position, 0);
    CU_ASSERT_EQUAL(attnd_step(client, 0, &attend, 1, NULL), 0);
    fake_seen(fake, 0, &seen);
    CU_ASSERT_EQUAL(seen.part[0].position, 3);
    stop();
}

static void what_is_sent_again_is_not_confirmed(void)
{
    start(ELEMENT_F32);
    struct attnd_part append = part_of(0, 2, WIRE_APPEND | WIRE_ATTEND);
    for (int i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(attnd_step(client, 0, &append, 1, NULL), 0);
    stream[0].next[0] = 2;
    out[0][0] = 0;
    CU_ASSERT_EQUAL(attnd_step(client, 0, &append, 1, NULL), 0);
    fake_seen(fake, 0, &seen);
    CU_ASSERT_TRUE(seen.part[0].first_token == 2 && seen.part[0].position == 2);
    CU_ASSERT_EQUAL(out[0][0], fake_output(1, 0, 2, 0, 0));
    CU_ASSERT_TRUE(stream[0].next[0] == 4 && stream[0].confirmed[0] == 4);
    stop();
}

static void what_makes_no_message_is_refused_before_it_leaves(void)
{
    start(ELEMENT_F32);
    struct attnd_stream closed = {0};
    struct shape tensor_first = *stream[1].shape;
    struct {
        struct attnd_part part;
        uint32_t layer;
        int err;
    } bad[] = {
        {part_of(0, 0, WIRE_APPEND), 0, ERR_MALFORMED},
        {part_of(0, 1, 0), 0, ERR_MALFORMED},
        {part_of(0, 1, WIRE_PARTIAL | WIRE_APPEND), 0, ERR_MALFORMED},
        {part_of(0, 1, 16), 0, ERR_MALFORMED},
        {part_of(0, 1, WIRE_APPEND), 2, ERR_INVALID},
        {part_of(0, 1001, WIRE_APPEND), 0, ERR_TOO_LARGE},
        {part_of(0, 500, WIRE_APPEND), 0, ERR_TOO_LARGE}, /* of message_bytes */
        {part_of(0, 1, WIRE_APPEND | WIRE_ATTEND), 0, ERR_INVALID},
        {part_of(0, 1, WIRE_APPEND | WIRE_ATTEND), 0, ERR_INVALID},
        {part_of(0, 1, WIRE_APPEND | WIRE_ATTEND | WIRE_PARTIAL), 0, ERR_INVALID},
        {part_of(0, 1, WIRE_APPEND), 1, ERR_INVALID},
        {part_of(0, 1, WIRE_APPEND), 0, ERR_INVALID},
    };
    bad[7].part.q = NULL;
    bad[8].part.out = NULL;
    bad[9].part.lse = NULL;
    bad[10].part.value[1] = NULL;
    bad[11].part.stream = &closed;
    struct fault fault;
    uint64_t ticket;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fault.err = 0;
        CU_ASSERT_EQUAL(attnd_send(client, bad[i].layer, &bad[i].part, 1, &ticket, &fault), bad[i].err);
        CU_ASSERT_EQUAL(fault.err, bad[i].err);
    }
    struct attnd_part parts[FAKE_PARTS_MAX + 1];
    for (size_t i = 0; i <= FAKE_PARTS_MAX; i++)
        parts[i] = part_of(i % 2, 1, WIRE_APPEND);
    CU_ASSERT_EQUAL(attnd_send(client, 0, parts, 0, &ticket, NULL), ERR_INVALID);
    CU_ASSERT_EQUAL(attnd_send(client, 0, parts, FAKE_PARTS_MAX + 1, &ticket, NULL), ERR_TOO_LARGE);
    stream[1].shape->kind[0] = ATTENTION_TENSOR;
    CU_ASSERT_EQUAL(attnd_send(client, 0, parts, 2, &ticket, NULL), ERR_INVALID); /* two kinds of attention */
    stream[1].shape->kind[0] = tensor_first.kind[0];

    CU_ASSERT_EQUAL(fake_seen(fake, 0, NULL), 0);
    CU_ASSERT_EQUAL(attnd_in_flight(client), 0);
    CU_ASSERT_TRUE(stream[0].next[0] == 0 && stream[1].next[0] == 0);
    CU_ASSERT_EQUAL(attnd_step(client, 0, parts, 2, NULL), 0);
    stop();
}

/* One message of a layer leaves no room for one of another: what arrived of the first is confirmed before. */
static void a_client_short_of_credit_confirms_first(void)
{
    start(ELEMENT_F32);
    uint64_t ticket[3];
    struct attnd_part part[3];
    size_t n_controls = fake_n_controls(fake);
    fake_set(fake, &(struct fake_rules){.message_bytes = 4000, .tokens_per_message = 1000, .credit = 1});
    for (int i = 0; i < 3; i++) /* 64 + 4 x (2 x 3 + 3 + 2) x 4 bytes out, 4 x 2 x 2 x 4 in: three are 912 */
        part[i] = part_of(0, N, WIRE_APPEND | WIRE_ATTEND);
    for (int i = 0; i < 3; i++)
        CU_ASSERT_EQUAL_FATAL(attnd_send(client, 0, &part[i], 1, &ticket[i], NULL), 0);
    for (int i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(attnd_wait(client, ticket[i], NULL), 0);
    CU_ASSERT_EQUAL(fake_n_controls(fake), n_controls);
    for (int i = 0; i < 3; i++) { /* tensor: 64 + 4 x (6 + 3 + 2 + 3 + 2) x 4 and 64: 1152 with what was received */
        part[i] = part_of(1, N, WIRE_APPEND | WIRE_ATTEND);
        CU_ASSERT_EQUAL_FATAL(attnd_send(client, 1, &part[i], 1, &ticket[i], NULL), 0);
    }
    for (int i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL(attnd_wait(client, ticket[i], NULL), 0);
        CU_ASSERT_EQUAL(part[i].fault.err, 0);
    }
    CU_ASSERT(fake_n_controls(fake) > n_controls);
    CU_ASSERT_EQUAL(fake_received(fake, 0), 3 * N);
    stop();
}

static void who_receives_sees_which_tickets_are_answered(void)
{
    uint64_t ticket[2];
    start(ELEMENT_F32);
    fake_set(fake, &(struct fake_rules){.hold = 2}); /* two answers, the later one first */
    struct attnd_part parts[2] = {part_of(0, 1, WIRE_APPEND | WIRE_ATTEND), part_of(1, 1, WIRE_APPEND | WIRE_ATTEND)};
    CU_ASSERT_EQUAL(attnd_send(client, 0, &parts[0], 1, &ticket[0], NULL), 0);
    CU_ASSERT_EQUAL(attnd_receive(client, 0.01, NULL), ERR_TIMEOUT); /* nothing is given up */
    CU_ASSERT_EQUAL(attnd_in_flight(client), 1);
    CU_ASSERT_EQUAL(attnd_send(client, 0, &parts[1], 1, &ticket[1], NULL), 0);
    CU_ASSERT_EQUAL(attnd_receive(client, 5, NULL), 0);
    CU_ASSERT_TRUE(!attnd_answered(client, ticket[0]) && attnd_answered(client, ticket[1]));
    CU_ASSERT_EQUAL(attnd_receive(client, 5, NULL), 0);
    CU_ASSERT_TRUE(attnd_answered(client, ticket[0]) && attnd_answered(client, ticket[1]));
    CU_ASSERT_EQUAL(attnd_wait(client, ticket[1], NULL), 0);
    CU_ASSERT_TRUE(attnd_answered(client, ticket[0]) && !attnd_answered(client, ticket[1])); /* waited for: gone */
    CU_ASSERT_EQUAL(attnd_wait(client, ticket[0], NULL), 0);
    CU_ASSERT_EQUAL(out[0][0], fake_output(stream[0].id, 0, 0, 0, 0));
    stop();
}

TEST_SUITE("lib/client/send", TEST(a_softmax_message_is_q_k_v), TEST(a_tensor_message_is_q_k1_v1_k2_v2),
           TEST(a_frame_joins_the_parts_that_carry_it), TEST(frames_that_no_part_carries_are_not_sent),
           TEST(indices_go_up_with_what_is_appended), TEST(a_client_short_of_credit_confirms_first),
           TEST(replies_are_confirmed_by_the_next_message_of_the_layer), TEST(what_is_sent_again_is_not_confirmed),
           TEST(what_makes_no_message_is_refused_before_it_leaves), TEST(who_receives_sees_which_tickets_are_answered))
