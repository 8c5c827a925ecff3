/* Parts stand alone: what is refused in a message does not touch what is taken, nor whose it is. */
#include "tests/e2e/scene.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STREAMS = 5, N = 3 };

/* Streams s0 .. s4 with nothing in them. */
static void open_some(struct scene *s, uint64_t id[STREAMS])
{
    for (int i = 0; i < STREAMS; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        id[i] = raw_open_stream(&s->raw, name, &s->shape, "full", false);
        CU_ASSERT_FATAL(id[i] != 0);
    }
}

/* What a stream that was empty answers to tokens [0, N), in process. */
static void expected_outputs(struct scene *s, float *out, float *lse)
{
    struct local local;
    CU_ASSERT_FATAL(local_open(&local, s->house.config, &s->shape, "full"));
    CU_ASSERT_EQUAL(local_step(&local, &s->tokens, 0, 0, N, PART_APPEND | PART_ATTEND | PART_PARTIAL, out, lse), 0);
    local_close(&local);
}

static bool same(const float *a, const float *b, size_t n)
{
    return memcmp(a, b, n * sizeof *a) == 0;
}

static void a_refused_part_does_not_stop_the_others(void)
{
    enum { ATTEND = WIRE_APPEND | WIRE_ATTEND };
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "full")) {
        struct tokens bad;
        struct raw_message message = {0};
        struct raw_reply reply;
        uint64_t id[STREAMS];
        size_t n_out = floats_out(&s.shape, N), n_lse = floats_lse(&s.shape, N);
        float *out = malloc(n_out * sizeof *out), *lse = malloc(n_lse * sizeof *lse);
        open_some(&s, id);
        expected_outputs(&s, out, lse);
        tokens_create(&bad, &s.shape, 1, 0, 0, N);
        ((float *)bad.value[0])[5] = NAN;
        raw_add(&message, id[0], &s.tokens, 0, N, ATTEND | WIRE_PARTIAL);
        raw_add(&message, id[1], &bad, 0, N, ATTEND | WIRE_PARTIAL);
        raw_add(&message, id[2], &s.tokens, 0, N, ATTEND);
        raw_add(&message, id[3], &s.tokens, 7, N, ATTEND);
        raw_add(&message, id[4], &s.tokens, 0, N, ATTEND | WIRE_PARTIAL);
        raw_send_message(&s.raw, &message);
        CU_ASSERT_FATAL(raw_receive(&s.raw, 20, &reply));
        static const int errors[STREAMS] = {0, ERR_NOT_FINITE, 0, ERR_WRONG_INDEX, 0};
        for (int i = 0; i < STREAMS; i++) {
            CU_ASSERT_EQUAL(wire_status_err(reply.part[i].status), errors[i]);
            CU_ASSERT_EQUAL(reply.part[i].stream, id[i]);
            CU_ASSERT_EQUAL(reply.part[i].n_tokens, errors[i] ? 0 : N);
            CU_ASSERT_EQUAL(reply.part[i].position, errors[i] ? 0 : N); /* next index */
        }
        CU_ASSERT_EQUAL(reply.n_faults, 2);
        CU_ASSERT(reply.fault[0].part == 1 && reply.fault[0].fault.err == ERR_NOT_FINITE);
        CU_ASSERT(reply.fault[1].part == 3 && reply.fault[1].fault.err == ERR_WRONG_INDEX);
        CU_ASSERT_EQUAL(reply.fault[1].fault.expected, 0);
        CU_ASSERT_EQUAL(reply.n_out, 3 * n_out); /* dense: refused parts leave no holes */
        CU_ASSERT_EQUAL(reply.n_lse, 2 * n_lse);
        for (size_t i = 0; i < 3 && reply.n_out == 3 * n_out; i++)
            CU_ASSERT(same(reply.out + i * n_out, out, n_out));
        for (size_t i = 0; i < 2 && reply.n_lse == 2 * n_lse; i++)
            CU_ASSERT(same(reply.lse + i * n_lse, lse, n_lse));
        raw_reply_free(&reply);
        tokens_destroy(&bad);
        free(out);
        free(lse);
    }
    scene_close(&s);
}

static void when_all_parts_are_refused_the_reply_has_faults_only(void)
{
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "full")) {
        struct raw_message message = {0};
        struct raw_reply reply;
        uint64_t id[STREAMS];
        open_some(&s, id);
        for (int i = 0; i < STREAMS; i++)
            raw_add(&message, id[i], &s.tokens, 1, N, WIRE_APPEND | WIRE_ATTEND | WIRE_PARTIAL);
        raw_send_message(&s.raw, &message);
        CU_ASSERT_FATAL(raw_receive(&s.raw, 20, &reply));
        CU_ASSERT_EQUAL(reply.header.frames, WIRE_HAS_FAULTS);
        CU_ASSERT_EQUAL(reply.n_faults, STREAMS);
        raw_reply_free(&reply);
    }
    scene_close(&s);
}

/* Where the shape of one part is not known, nobody can tell where the numbers of those behind it lie. */
static void an_unknown_stream_refuses_the_whole_message(void)
{
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "full")) {
        struct raw_message message = {0};
        struct raw_reply reply;
        uint64_t id[STREAMS];
        open_some(&s, id);
        for (int i = 0; i < STREAMS; i++)
            raw_add(&message, i == 2 ? 12345 : id[i], &s.tokens, 0, N, WIRE_APPEND);
        raw_send_message(&s.raw, &message);
        CU_ASSERT_FATAL(raw_receive(&s.raw, 20, &reply));
        for (int i = 0; i < STREAMS; i++) {
            CU_ASSERT_EQUAL(wire_status_err(reply.part[i].status), i == 2 ? ERR_UNKNOWN_STREAM : ERR_WRONG_SHAPE);
            CU_ASSERT_EQUAL(reply.part[i].position, 0); /* nothing was applied */
        }
        raw_reply_free(&reply);
    }
    scene_close(&s);
}

static void parts_of_different_attention_cannot_share_a_message(void)
{
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "full")) {
        struct raw_message message = {0};
        struct raw_reply reply;
        struct shape tensor = house_shape(0, 1, 4, 2, 16, 8);
        uint64_t id = raw_open_stream(&s.raw, "tensor", &tensor, "full", false);
        raw_add(&message, s.stream, &s.tokens, SCENE_HELD, 1, WIRE_APPEND);
        raw_add(&message, id, &s.tokens, 0, 1, WIRE_APPEND);
        raw_send_message(&s.raw, &message);
        CU_ASSERT_FATAL(raw_receive(&s.raw, 20, &reply));
        CU_ASSERT_EQUAL(wire_status_err(reply.part[0].status), ERR_WRONG_SHAPE);
        CU_ASSERT_EQUAL(wire_status_err(reply.part[1].status), ERR_WRONG_SHAPE);
        CU_ASSERT(scene_unchanged(&s, SCENE_HELD));
        raw_reply_free(&reply);
    }
    scene_close(&s);
}

/* Several parts of one stream: each counts on those before it. */
static void parts_of_one_stream_follow_each_other_within_a_message(void)
{
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "full")) {
        struct raw_message message = {0};
        struct raw_reply reply, whole;
        uint64_t id[STREAMS];
        size_t n = floats_out(&s.shape, N);
        open_some(&s, id);
        raw_add(&message, id[0], &s.tokens, 0, N, WIRE_APPEND | WIRE_ATTEND);
        raw_add(&message, id[0], &s.tokens, N, N, WIRE_APPEND | WIRE_ATTEND);
        raw_add(&message, id[0], &s.tokens, N, N, WIRE_APPEND | WIRE_ATTEND);     /* again: a resend */
        raw_add(&message, id[0], &s.tokens, 3 * N, N, WIRE_APPEND | WIRE_ATTEND); /* leaves a hole */
        raw_add(&message, id[0], &s.tokens, 2 * N, N, WIRE_ATTEND);               /* queries alone, of all that is held */
        raw_send_message(&s.raw, &message);
        CU_ASSERT_FATAL(raw_receive(&s.raw, 20, &reply));
        static const int errors[] = {0, 0, 0, ERR_WRONG_INDEX, 0};
        for (int i = 0; i < 5; i++)
            CU_ASSERT_EQUAL(wire_status_err(reply.part[i].status), errors[i]);
        CU_ASSERT_EQUAL(reply.n_faults, 1);
        CU_ASSERT_EQUAL(reply.fault[0].fault.expected, 2 * N);
        message = (struct raw_message){0};
        raw_add(&message, id[1], &s.tokens, 0, 2 * N, WIRE_APPEND | WIRE_ATTEND);
        raw_send_message(&s.raw, &message);
        CU_ASSERT_FATAL(raw_receive(&s.raw, 20, &whole));
        CU_ASSERT_EQUAL_FATAL(reply.n_out, 4 * n);
        CU_ASSERT(floats_differ(reply.out, whole.out, 2 * n) <= 1e-6);
        CU_ASSERT(same(reply.out + 2 * n, reply.out + n, n));
        raw_reply_free(&reply);
        raw_reply_free(&whole);
    }
    scene_close(&s);
}

static void only_the_writer_appends_and_attends(void)
{
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "full")) {
        struct raw stranger;
        struct raw_reply reply;
        CU_ASSERT_FATAL(raw_open(&stranger, s.house.ingest));
        for (unsigned flags = WIRE_APPEND; flags <= WIRE_ATTEND; flags++) {
            struct raw_message message = {0};
            raw_add(&message, s.stream, &s.tokens, SCENE_HELD, 1, flags);
            raw_send_message(&stranger, &message);
            CU_ASSERT(raw_receive(&stranger, 20, &reply));
            CU_ASSERT_EQUAL(raw_error(&reply), ERR_NOT_OWNER);
            raw_reply_free(&reply);
        }
        CU_ASSERT(scene_unchanged(&s, SCENE_HELD));
        raw_close(&stranger);
    }
    scene_close(&s);
}

/* A stranger's `confirmed` must not cost the writer the replies that are kept for it. */
static void a_stranger_confirms_nothing(void)
{
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "full")) {
        struct raw stranger;
        struct raw_reply reply;
        struct raw_message message = {0};
        CU_ASSERT_FATAL(raw_open(&stranger, s.house.ingest));
        raw_add(&message, s.stream, &s.tokens, SCENE_HELD, 1, WIRE_APPEND);
        message.part[0].position = INT64_MAX;
        raw_send_message(&stranger, &message);
        CU_ASSERT(raw_receive(&stranger, 20, &reply));
        CU_ASSERT_EQUAL(raw_error(&reply), ERR_NOT_OWNER);
        raw_reply_free(&reply);
        CU_ASSERT_EQUAL(scene_send(&s, 0, SCENE_HELD, WIRE_APPEND | WIRE_ATTEND, 0), 0);
        raw_close(&stranger);
    }
    scene_close(&s);
}

static void after_a_takeover_the_former_writer_is_a_stranger(void)
{
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "full")) {
        struct raw heir;
        struct raw_reply reply;
        struct shape other = s.shape;
        other.key_dim = 8;
        CU_ASSERT_FATAL(raw_open(&heir, s.house.ingest));
        CU_ASSERT_EQUAL(raw_open_stream(&heir, "scene", &other, "full", true), 0); /* another shape */
        CU_ASSERT_EQUAL(raw_open_stream(&heir, "scene", &s.shape, "full", false), 0);
        CU_ASSERT_EQUAL(raw_open_stream(&heir, "scene", &s.shape, "full", true), s.stream);
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD, 1, WIRE_APPEND, 0), ERR_NOT_OWNER);
        struct raw_message message = {0};
        raw_add(&message, s.stream, &s.tokens, SCENE_HELD, 1, WIRE_APPEND | WIRE_ATTEND);
        raw_send_message(&heir, &message);
        CU_ASSERT(raw_receive(&heir, 20, &reply));
        CU_ASSERT_EQUAL(raw_error(&reply), 0);
        raw_reply_free(&reply);
        raw_close(&heir);
    }
    scene_close(&s);
}

static void close_tells_the_last_numbers_and_forgets_the_stream(void)
{
    struct house house;
    if (house_open(&house, "")) {
        struct attnd_client *client = NULL;
        struct attnd_stream stream;
        struct control_close last;
        struct shape shape = house_shape(2, 0, 4, 2, 16, 8);
        CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, house.ingest, NULL, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(attnd_open(client, "x", &shape, "bf16", false, &stream, NULL), 0);
        for (uint32_t layer = 0; layer < 2; layer++) {
            struct tokens tokens;
            tokens_create(&tokens, &shape, 1, layer, 0, 100);
            struct attnd_part part = tokens_part(&tokens, &stream, 0, layer ? 40 : 100, WIRE_APPEND, NULL, NULL);
            CU_ASSERT_EQUAL(attnd_step(client, layer, &part, 1, NULL), 0);
            tokens_destroy(&tokens);
        }
        double allocated = house_number(client, "streams.0.memory_allocated_bytes");
        CU_ASSERT_EQUAL(attnd_close(client, &stream, &last, NULL), 0);
        CU_ASSERT_EQUAL((double)last.bytes, allocated);
        CU_ASSERT_EQUAL(last.bytes_full_bf16, (100 + 40) * 2 * (16 + 8) * 2);
        CU_ASSERT_EQUAL(last.tokens, 100); /* of the longest layer */
        CU_ASSERT_EQUAL(house_number(client, "streams"), 0);
        CU_ASSERT_EQUAL(house_number(client, "daemon.memory_allocated_bytes"), 0);
        CU_ASSERT_EQUAL(house_number(client, "daemon.memory_control_bytes"), 0);
        CU_ASSERT_EQUAL(house_number(client, "daemon.kept_reply_bytes"), 0);
        attnd_disconnect(client);
    }
    house_close(&house);
}

TEST_SUITE("e2e/parts", TEST(a_refused_part_does_not_stop_the_others),
           TEST(when_all_parts_are_refused_the_reply_has_faults_only), TEST(an_unknown_stream_refuses_the_whole_message),
           TEST(parts_of_different_attention_cannot_share_a_message),
           TEST(parts_of_one_stream_follow_each_other_within_a_message), TEST(only_the_writer_appends_and_attends),
           TEST(a_stranger_confirms_nothing), TEST(after_a_takeover_the_former_writer_is_a_stranger),
           TEST(close_tells_the_last_numbers_and_forgets_the_stream))
