/* Exactly once: what is sent again is applied once and answered with the same bytes, whoever sends it again and whenever. */
#include "tests/e2e/scene.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { BOTH = WIRE_APPEND | WIRE_ATTEND, ALL = BOTH | WIRE_PARTIAL };

static bool same(const float *a, const float *b, size_t n)
{
    return a && b && memcmp(a, b, n * sizeof *a) == 0;
}

static bool same_payload(const struct raw_reply *a, const struct raw_reply *b)
{
    return a->n_out == b->n_out && a->n_lse == b->n_lse && same(a->out, b->out, a->n_out) &&
           (!a->n_lse || same(a->lse, b->lse, a->n_lse));
}

static double resent(struct scene *s)
{
    struct attnd_client *client = NULL;
    if (attnd_connect(&client, s->house.ingest, NULL, NULL))
        return -1;
    double n = house_number(client, "daemon.parts_resent_total");
    attnd_disconnect(client);
    return n;
}

static void a_resend_is_answered_with_the_same_bytes_and_changes_nothing(void)
{
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "full")) {
        struct raw_reply first, again;
        CU_ASSERT_EQUAL(scene_step(&s, &first, SCENE_HELD, 7, ALL, 0), 0);
        scene_remember(&s, SCENE_HELD + 7);
        for (int i = 0; i < 3; i++) {
            CU_ASSERT_EQUAL(scene_step(&s, &again, SCENE_HELD, 7, ALL, 0), 0);
            CU_ASSERT(same_payload(&first, &again));
            CU_ASSERT_EQUAL(again.part[0].position, SCENE_HELD + 7);
            CU_ASSERT_EQUAL(again.part[0].n_tokens, 7);
            raw_reply_free(&again);
        }
        CU_ASSERT(scene_unchanged(&s, SCENE_HELD + 7));
        CU_ASSERT_EQUAL(resent(&s), 3);
        raw_reply_free(&first);
    }
    scene_close(&s);
}

/* The numbers that come with a resend are not looked at: the cache has those of the first time. */
static void a_resend_does_not_depend_on_its_numbers(void)
{
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "full")) {
        struct raw_reply first, again;
        struct raw_message message = {0};
        CU_ASSERT_EQUAL(scene_step(&s, &first, SCENE_HELD, 7, BOTH, 0), 0);
        raw_add(&message, s.stream, &s.tokens, SCENE_HELD, 7, BOTH);
        message.at[0] = 300;
        raw_send_message(&s.raw, &message);
        CU_ASSERT(raw_receive(&s.raw, 20, &again));
        CU_ASSERT(same_payload(&first, &again));
        raw_reply_free(&first);
        raw_reply_free(&again);
    }
    scene_close(&s);
}

static void a_resend_may_be_cut_otherwise(void)
{
    static const size_t cut[][2] = {{0, 20}, {0, 1}, {5, 1}, {19, 1}, {3, 9}, {4, 8}, {12, 8}, {1, 18}};
    enum { FIRST = 20 };
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "full")) {
        static const size_t batches[] = {4, 1, 7, 8};
        size_t width = floats_out(&s.shape, 1), lse_width = floats_lse(&s.shape, 1), at = 0;
        float *out = calloc(FIRST, width * sizeof *out), *lse = calloc(FIRST, lse_width * sizeof *lse);
        struct raw_reply reply;
        for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
            CU_ASSERT_EQUAL(scene_step(&s, &reply, SCENE_HELD + at, batches[i], ALL, 0), 0);
            memcpy(out + at * width, reply.out, reply.n_out * sizeof *out);
            memcpy(lse + at * lse_width, reply.lse, reply.n_lse * sizeof *lse);
            at += batches[i];
            raw_reply_free(&reply);
        }
        for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
            CU_ASSERT_EQUAL(scene_step(&s, &reply, SCENE_HELD + cut[i][0], cut[i][1], ALL, 0), 0);
            CU_ASSERT_EQUAL(reply.n_out, cut[i][1] * width);
            CU_ASSERT(same(reply.out, out + cut[i][0] * width, cut[i][1] * width));
            CU_ASSERT(same(reply.lse, lse + cut[i][0] * lse_width, cut[i][1] * lse_width));
            raw_reply_free(&reply);
        }
        free(out);
        free(lse);
    }
    scene_close(&s);
}

static void what_was_confirmed_is_not_kept_but_still_known_as_applied(void)
{
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "full")) {
        struct raw_reply reply;
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD, 4, BOTH, SCENE_HELD), 0);
        CU_ASSERT_EQUAL(scene_send(&s, 0, SCENE_HELD, BOTH, 0), ERR_NOT_KEPT);
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD, 4, BOTH, 0), 0);                    /* this one was not confirmed */
        CU_ASSERT_EQUAL(scene_send(&s, 5, SCENE_HELD - 5 + 2, BOTH, 0), ERR_NOT_KEPT); /* one half of it */
        CU_ASSERT_EQUAL(scene_step(&s, &reply, 0, SCENE_HELD, WIRE_APPEND, 0), 0);     /* nothing to send back */
        CU_ASSERT_EQUAL(reply.part[0].position, SCENE_HELD);
        CU_ASSERT_EQUAL(reply.header.frames, 0);
        raw_reply_free(&reply);
        scene_remember(&s, SCENE_HELD + 4);
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD, 4, ALL, 0), ERR_NOT_KEPT); /* lse was not asked for the first time */
        CU_ASSERT(scene_unchanged(&s, SCENE_HELD + 4));
    }
    scene_close(&s);
}

/* What was appended without queries was never answered with outputs: a resend that wants them is told so. */
static void outputs_that_never_were_are_not_kept(void)
{
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "full")) {
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD, 4, BOTH, 0), 0);
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD + 4, 4, WIRE_APPEND, 0), 0);
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD + 8, 4, BOTH, 0), 0);
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD + 4, 4, BOTH, 0), ERR_NOT_KEPT);
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD, 12, BOTH, 0), ERR_NOT_KEPT);
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD + 8, 4, BOTH, 0), 0);
    }
    scene_close(&s);
}

/* A step of many streams in one message: a stream that then falls silent must not hold the outputs of all others. */
static void a_kept_reply_holds_its_own_outputs_only(void)
{
    enum { STREAMS = 32 };
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "full")) {
        struct attnd_client *client = NULL;
        struct raw_message message = {0};
        struct raw_reply reply;
        uint64_t id[STREAMS];
        size_t each = floats_out(&s.shape, 10) * sizeof(float);
        CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, s.house.ingest, NULL, NULL), 0);
        double before = house_number(client, "daemon.kept_reply_bytes");
        for (int i = 0; i < STREAMS; i++) {
            char name[16];
            snprintf(name, sizeof name, "s%d", i);
            id[i] = raw_open_stream(&s.raw, name, &s.shape, "full", false);
            raw_add(&message, id[i], &s.tokens, 0, 10, BOTH);
        }
        raw_send_message(&s.raw, &message);
        CU_ASSERT(raw_receive(&s.raw, 20, &reply));
        raw_reply_free(&reply);
        CU_ASSERT_EQUAL(house_number(client, "daemon.kept_reply_bytes") - before, STREAMS * each);
        message = (struct raw_message){0};
        for (int i = 1; i < STREAMS; i++) {
            raw_add(&message, id[i], &s.tokens, 10, 1, WIRE_APPEND);
            message.part[i - 1].position = 10;
        }
        raw_send_message(&s.raw, &message);
        CU_ASSERT(raw_receive(&s.raw, 20, &reply));
        raw_reply_free(&reply);
        CU_ASSERT_EQUAL(house_number(client, "daemon.kept_reply_bytes") - before, each);
        attnd_disconnect(client);
    }
    scene_close(&s);
}

/* The same message many times at once: one is applied, the others wait for it and repeat its answer, in order. */
static void resends_while_the_original_runs_wait_for_its_answer(void)
{
    enum { COPIES = 6, N = 100 };
    struct scene s;
    for (int kind = 0; kind < N_ATTENTION; kind++) {
        if (scene_open(&s, "", (enum attention_kind)kind, "full")) {
            struct raw_reply reply[2][COPIES];
            uint64_t first = s.raw.id + 1;
            for (uint64_t i = 0; i < 2 * COPIES; i++) {
                struct raw_message message = {0};
                raw_add(&message, s.stream, &s.tokens, SCENE_HELD + i / COPIES * N, N, ALL);
                raw_send_message(&s.raw, &message);
            }
            for (size_t i = 0; i < 2 * COPIES; i++) {
                struct raw_reply *r = &reply[i / COPIES][i % COPIES];
                CU_ASSERT_FATAL(raw_receive(&s.raw, 60, r));
                CU_ASSERT_EQUAL(r->header.id, first + i);
                CU_ASSERT_EQUAL(raw_error(r), 0);
                CU_ASSERT(same_payload(r, &reply[i / COPIES][0]));
            }
            for (size_t i = 0; i < 2 * COPIES; i++)
                raw_reply_free(&reply[i / COPIES][i % COPIES]);
            CU_ASSERT_EQUAL(resent(&s), 2 * COPIES - 2);
        }
        scene_close(&s);
    }
}

static void another_connection_goes_on_where_the_first_was_cut_off(void)
{
    enum { EACH = 5, SENT = 30 };
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "full")) {
        struct attnd_client *heir = NULL;
        struct attnd_stream stream;
        struct local local;
        size_t width = floats_out(&s.shape, 1);
        float *out = calloc(SENT * EACH, width * sizeof *out), *expected = calloc(SENT * EACH, width * sizeof *expected);
        CU_ASSERT_FATAL(local_open(&local, s.house.config, &s.shape, "full"));
        CU_ASSERT_EQUAL(local_step(&local, &s.tokens, 0, 0, SCENE_HELD, PART_APPEND, NULL, NULL), 0);
        for (uint64_t i = 0; i < SENT; i++) {
            struct raw_message message = {0};
            raw_add(&message, s.stream, &s.tokens, SCENE_HELD + i * EACH, EACH, BOTH);
            raw_send_message(&s.raw, &message);
            local_step(&local, &s.tokens, 0, SCENE_HELD + i * EACH, EACH, PART_APPEND | PART_ATTEND,
                       expected + i * EACH * width, NULL);
        }
        raw_close(&s.raw); /* without reading one reply; what was still on its way out is lost */
        s.raw.socket = NULL;
        CU_ASSERT_EQUAL_FATAL(attnd_connect(&heir, s.house.ingest, NULL, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(attnd_open(heir, "scene", &s.shape, "full", true, &stream, NULL), 0);
        CU_ASSERT((stream.next[0] - SCENE_HELD) % EACH == 0);
        stream.next[0] = SCENE_HELD; /* it has none of the outputs: again from the first */
        for (uint64_t i = 0; i < SENT; i++) {
            struct attnd_part part =
                tokens_part(&s.tokens, &stream, SCENE_HELD + i * EACH, EACH, BOTH, out + i * EACH * width, NULL);
            CU_ASSERT_EQUAL(attnd_step(heir, 0, &part, 1, NULL), 0);
        }
        CU_ASSERT(same(out, expected, SENT * EACH * width));
        CU_ASSERT_EQUAL(house_number(heir, "streams.0.tokens_total"), SCENE_HELD + SENT * EACH);
        attnd_forget(&stream);
        attnd_disconnect(heir);
        local_close(&local);
        free(out);
        free(expected);
    }
    scene_close(&s);
}

/* A producer may send far ahead of reading: whatever was taken is answered. */
static void a_producer_far_ahead_gets_every_reply(void)
{
    enum { N = UNDER_TSAN ? 3000 : 10000 };
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "window,window_tokens=16")) {
        uint64_t first = s.raw.id + 1;
        size_t missing = 0, wrong = 0;
        for (uint64_t i = 0; i < N; i++) {
            struct raw_message message = {0};
            raw_add(&message, s.stream, &s.tokens, SCENE_HELD + i, 1, BOTH);
            message.at[0] = i % SCENE_TOKENS;
            message.part[0].position = i; /* keeps few */
            raw_send_message(&s.raw, &message);
        }
        for (uint64_t i = 0; i < N && !missing; i++) {
            struct raw_reply reply;
            missing += !raw_receive(&s.raw, 20, &reply);
            wrong += reply.header.id != first + i || raw_error(&reply) != 0;
            raw_reply_free(&reply);
        }
        CU_ASSERT_EQUAL(missing, 0);
        CU_ASSERT_EQUAL(wrong, 0);
    }
    scene_close(&s);
}

/* A producer that forgets what it has sent, sends old and new tokens in any cut, and does not wait. In the end every token was
 * applied once, and whatever answer came for a token was the right one. */
static void random_resends_leave_every_token_applied_once(void)
{
    enum { ROUNDS = 400, AHEAD = 8, N = 500 };
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "full")) {
        struct local local;
        size_t width = floats_out(&s.shape, 1), wrong = 0, n_acknowledged = 0;
        float *expected = calloc(SCENE_TOKENS, width * sizeof *expected);
        bool acknowledged[SCENE_TOKENS] = {false};
        uint64_t next = SCENE_HELD, sent = 0, received = 0;
        CU_ASSERT_FATAL(local_open(&local, s.house.config, &s.shape, "full"));
        for (uint64_t i = 0; i < N; i++)
            local_step(&local, &s.tokens, 0, i, 1, PART_APPEND | PART_ATTEND, expected + i * width, NULL);
        for (uint64_t round = 0; round < ROUNDS; round++) {
            struct raw_message message = {0};
            struct raw_reply reply;
            uint64_t n = 1 + pick(1, round, 9), at = next;
            if (pick(2, round, 2) && next > SCENE_HELD + 20) { /* something old, or partly old, or beyond */
                at = next - 20 + pick(3, round, 24);
                n = 1 + pick(4, round, 12);
            }
            if (at + n > N)
                continue;
            raw_add(&message, s.stream, &s.tokens, at, n, BOTH);
            raw_send_message(&s.raw, &message);
            if (at == next)
                next += n;
            for (sent++; received < sent && (sent - received > AHEAD || round > ROUNDS - 10); received++) {
                CU_ASSERT_FATAL(raw_receive(&s.raw, 20, &reply));
                const struct wire_part *p = &reply.part[0];
                int err = raw_error(&reply);
                wrong += err != 0 && err != ERR_WRONG_INDEX;
                wrong += !err && floats_differ(reply.out, expected + p->first_token * width, reply.n_out) > 1e-6;
                for (uint64_t i = 0; !err && i < p->n_tokens; i++)
                    acknowledged[p->first_token + i] = true;
                raw_reply_free(&reply);
            }
        }
        for (; received < sent; received++) {
            struct raw_reply reply;
            CU_ASSERT_FATAL(raw_receive(&s.raw, 20, &reply));
            for (uint64_t i = 0; !raw_error(&reply) && i < reply.part[0].n_tokens; i++)
                acknowledged[reply.part[0].first_token + i] = true;
            raw_reply_free(&reply);
        }
        for (uint64_t i = SCENE_HELD; i < next; i++)
            n_acknowledged += acknowledged[i];
        CU_ASSERT_EQUAL(wrong, 0);
        CU_ASSERT_EQUAL(n_acknowledged, next - SCENE_HELD);
        struct attnd_client *client = NULL;
        CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, s.house.ingest, NULL, NULL), 0);
        CU_ASSERT_EQUAL(house_number(client, "streams.0.tokens_total"), next);
        CU_ASSERT_EQUAL(house_number(client, "daemon.tokens_total"), next);
        attnd_disconnect(client);
        local_close(&local);
        free(expected);
    }
    scene_close(&s);
}

static void a_stream_opened_anew_begins_at_zero_and_its_old_number_is_unknown(void)
{
    struct scene s;
    if (scene_open(&s, "", ATTENTION_SOFTMAX, "full")) {
        struct raw_reply reply;
        char text[96];
        uint64_t old = s.stream;
        snprintf(text, sizeof text, "{\"op\":\"close\",\"id\":5,\"stream\":%llu}", (unsigned long long)old);
        CU_ASSERT(raw_ask(&s.raw, text, &reply));
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD, 1, BOTH, 0), ERR_UNKNOWN_STREAM);
        s.stream = raw_open_stream(&s.raw, "scene", &s.shape, "full", true); /* resume opens what is not there */
        CU_ASSERT(s.stream != 0 && s.stream != old);
        CU_ASSERT_EQUAL(scene_send(&s, SCENE_HELD, 1, BOTH, 0), ERR_WRONG_INDEX);
        CU_ASSERT_EQUAL(scene_send(&s, 0, SCENE_HELD, BOTH, 0), 0);
        CU_ASSERT(scene_unchanged(&s, SCENE_HELD)); /* the same tokens, the same bits */
    }
    scene_close(&s);
}

TEST_SUITE("e2e/once", TEST(a_resend_is_answered_with_the_same_bytes_and_changes_nothing),
           TEST(a_resend_does_not_depend_on_its_numbers), TEST(a_resend_may_be_cut_otherwise),
           TEST(what_was_confirmed_is_not_kept_but_still_known_as_applied), TEST(outputs_that_never_were_are_not_kept),
           TEST(a_kept_reply_holds_its_own_outputs_only), TEST(resends_while_the_original_runs_wait_for_its_answer),
           TEST(another_connection_goes_on_where_the_first_was_cut_off), TEST(a_producer_far_ahead_gets_every_reply),
           TEST(random_resends_leave_every_token_applied_once),
           TEST(a_stream_opened_anew_begins_at_zero_and_its_old_number_is_unknown))
