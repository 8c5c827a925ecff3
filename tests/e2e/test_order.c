/* Order: replies of one stream leave in the order of its requests, those of different streams as they are done. */
#include "tests/e2e/scene.h"
#include "tests/test.h"

#include <stdio.h>
#include <string.h>

enum { SLOW_TOKENS = UNDER_TSAN ? 150 : 300, BOTH = WIRE_APPEND | WIRE_ATTEND };

/* A message that takes long and one that doesn't, on different streams, then others. One pool for each kv head, so that a long one
 * does not hold up all. */
static void replies_of_other_streams_overtake_but_never_those_of_the_same(void)
{
    struct scene s;
    if (scene_open(&s, "pools: [{threads: 1}, {threads: 2}]\n", ATTENTION_TENSOR, "full")) {
        struct shape one = house_shape(0, 1, 1, 1, 16, 8);
        struct tokens tokens;
        struct raw_message message = {0};
        struct raw_reply reply;
        enum { FIRST_SLOW, QUICK, SECOND_SLOW, MIXED, LAST_QUICK, N };
        uint64_t id[N], place[N] = {0};
        tokens_create(&tokens, &one, 1, 0, 0, 2 * SLOW_TOKENS);
        uint64_t slow = raw_open_stream(&s.raw, "slow", &one, "full", false),
                 quick = raw_open_stream(&s.raw, "quick", &one, "full", false); /* the other pool's */
        static const struct {
            bool slow, quick;
        } carries[N] = {{true, false}, {false, true}, {true, false}, {true, true}, {false, true}};
        uint64_t next_slow = 0, next_quick = 0;
        for (int i = 0; i < N; i++) {
            message = (struct raw_message){0};
            size_t n = i == FIRST_SLOW ? SLOW_TOKENS : 2;
            if (carries[i].slow) {
                raw_add(&message, slow, &tokens, next_slow, n, BOTH);
                next_slow += n;
            }
            if (carries[i].quick) {
                raw_add(&message, quick, &tokens, next_quick, 2, BOTH);
                next_quick += 2;
            }
            raw_send_message(&s.raw, &message);
            id[i] = s.raw.id;
        }
        for (uint64_t i = 1; i <= N; i++) {
            CU_ASSERT_FATAL(raw_receive(&s.raw, 60, &reply));
            CU_ASSERT_EQUAL(raw_error(&reply), 0);
            for (int j = 0; j < N; j++)
                if (reply.header.id == id[j])
                    place[j] = i;
            raw_reply_free(&reply);
        }
        CU_ASSERT(place[FIRST_SLOW] < place[SECOND_SLOW]);
        CU_ASSERT(place[SECOND_SLOW] < place[MIXED]);
        CU_ASSERT(place[QUICK] < place[MIXED]);
        CU_ASSERT(place[MIXED] < place[LAST_QUICK]); /* though it was done long before */
        tokens_destroy(&tokens);
    }
    scene_close(&s);
}

/* Many streams, messages with parts of several of them, all at once: within each stream the order holds. */
static void the_order_of_each_stream_holds_in_a_crowd(void)
{
    enum { STREAMS = 6, MESSAGES = 400 };
    struct scene s;
    if (scene_open(&s, "pools: [{threads: 2}, {threads: 2}]\n", ATTENTION_SOFTMAX, "full")) {
        uint64_t id[STREAMS], sent[STREAMS] = {0}, seen[STREAMS] = {0};
        size_t wrong = 0;
        for (int i = 0; i < STREAMS; i++) {
            char name[16];
            snprintf(name, sizeof name, "s%d", i);
            id[i] = raw_open_stream(&s.raw, name, &s.shape, "window,window_tokens=100", false);
        }
        for (uint64_t m = 0; m < MESSAGES; m++) {
            struct raw_message message = {0};
            for (uint64_t i = 0; i < STREAMS; i++)
                if (pick(1, m * STREAMS + i, 3) == 0 || i == m % STREAMS) {
                    size_t n = 1 + pick(2, m * STREAMS + i, i == 0 ? 40 : 3); /* some take longer */
                    raw_add(&message, id[i], &s.tokens, sent[i], n, BOTH);
                    message.at[message.n_parts - 1] = 0;
                    sent[i] += n;
                }
            raw_send_message(&s.raw, &message);
        }
        for (uint64_t m = 0; m < MESSAGES; m++) {
            struct raw_reply reply;
            CU_ASSERT_FATAL(raw_receive(&s.raw, 60, &reply));
            for (size_t p = 0; p < reply.header.n_parts; p++)
                for (int i = 0; i < STREAMS; i++)
                    if (reply.part[p].stream == id[i]) {
                        wrong += reply.part[p].status != 0 || reply.part[p].first_token != seen[i];
                        seen[i] += reply.part[p].n_tokens;
                    }
            raw_reply_free(&reply);
        }
        CU_ASSERT_EQUAL(wrong, 0);
        CU_ASSERT(memcmp(sent, seen, sizeof sent) == 0);
    }
    scene_close(&s);
}

/* close waits for what was sent before it; what comes behind it is refused. */
static void close_is_answered_after_what_was_sent_before_it(void)
{
    struct scene s;
    if (scene_open(&s, "", ATTENTION_TENSOR, "full")) {
        struct raw_reply reply;
        struct raw_message message = {0};
        char text[96];
        raw_add(&message, s.stream, &s.tokens, SCENE_HELD, SLOW_TOKENS, BOTH);
        raw_send_message(&s.raw, &message);
        snprintf(text, sizeof text, "{\"op\":\"close\",\"id\":77,\"stream\":%llu}", (unsigned long long)s.stream);
        raw_send(&s.raw, &(struct raw_frame){text, strlen(text)}, 1);
        message = (struct raw_message){0};
        raw_add(&message, s.stream, &s.tokens, SCENE_HELD + SLOW_TOKENS, 1, BOTH);
        raw_send_message(&s.raw, &message);
        CU_ASSERT_FATAL(raw_receive(&s.raw, 60, &reply));
        CU_ASSERT_EQUAL(raw_error(&reply), 0);
        CU_ASSERT_EQUAL(reply.part[0].n_tokens, SLOW_TOKENS);
        raw_reply_free(&reply);
        for (int i = 0; i < 2; i++) {
            CU_ASSERT_FATAL(raw_receive(&s.raw, 60, &reply));
            if (reply.text[0]) {
                CU_ASSERT(strstr(reply.text, "\"id\":77") && strstr(reply.text, "\"ok\":true"));
            } else {
                CU_ASSERT_EQUAL(raw_error(&reply), ERR_UNKNOWN_STREAM);
            }
            raw_reply_free(&reply);
        }
        CU_ASSERT(raw_ask(&s.raw, text, &reply));
        CU_ASSERT(strstr(reply.text, "unknown_stream") != NULL); /* twice is once too often */
    }
    scene_close(&s);
}

TEST_SUITE("e2e/order", TEST(replies_of_other_streams_overtake_but_never_those_of_the_same),
           TEST(the_order_of_each_stream_holds_in_a_crowd), TEST(close_is_answered_after_what_was_sent_before_it))
