/* Fairness: whoever has much under way, others' turns come. Subscribers see the order in which messages were finished. */
#include "tests/e2e/scene.h"
#include "tests/test.h"

#include <stdio.h>
#include <string.h>

enum { BOTH = WIRE_APPEND | WIRE_ATTEND, SLOW_TOKENS = UNDER_TSAN ? 150 : 400, BACKLOG = 60, STREAMS = 3 };

static void send_one(struct raw *raw, uint64_t stream, const struct tokens *tokens, uint64_t first, size_t n, unsigned flags,
                     uint64_t numbers)
{
    struct raw_message message = {0};
    raw_add(&message, stream, tokens, first, n, flags);
    message.at[0] = numbers;
    raw_send_message(raw, &message);
}

/* Everything that this connection has sent was taken by the gateway: status is answered after it. */
static void await_taken(struct raw *raw)
{
    static const char ask[] = "{\"op\":\"status\",\"id\":1}";
    struct raw_reply reply = {0};
    raw_send(raw, &(struct raw_frame){ask, sizeof ask - 1}, 1);
    while (!reply.text[0]) {
        CU_ASSERT_FATAL(raw_receive(raw, 60, &reply));
        raw_reply_free(&reply);
    }
}

/* A subscription works once a publication has come by. */
static void subscribe(struct scene *s, struct attnd_subscriber **subscriber, struct attnd_publication *publication)
{
    uint64_t at = SCENE_HELD;
    CU_ASSERT_EQUAL_FATAL(attnd_subscribe(subscriber, s->house.outputs, NULL, "out/", NULL), 0);
    do {
        CU_ASSERT_EQUAL(scene_send(s, at, 1, BOTH, at), 0);
    } while (at++ < SCENE_TOKENS - 2 && attnd_next(*subscriber, 0.02, publication, NULL));
    while (publication->part.first_token + 1 < at) /* those that came late */
        CU_ASSERT_EQUAL_FATAL(attnd_next(*subscriber, 20, publication, NULL), 0);
}

/* While one task holds the only thread, a connection queues a backlog on several streams, and then another sends one token: in
 * each round every head has one turn, so at most one message of each of the backlog's streams is finished before it, or begun. */
static void a_backlog_delays_others_by_one_round_at_most(void)
{
    struct scene s;
    if (scene_open(&s, "pools: [{threads: 1}]\n", ATTENTION_TENSOR, "full")) {
        struct attnd_subscriber *subscriber = NULL;
        struct attnd_publication publication;
        struct raw greedy;
        uint64_t slow, stream[STREAMS];
        int before = 0;
        bool slow_first = false;
        CU_ASSERT_FATAL(raw_open(&greedy, s.house.ingest));
        slow = raw_open_stream(&greedy, "slow", &s.shape, "full", false);
        for (int i = 0; i < STREAMS; i++) {
            char name[24];
            snprintf(name, sizeof name, "greedy%d", i);
            stream[i] = raw_open_stream(&greedy, name, &s.shape, "full", false);
        }
        send_one(&greedy, slow, &s.tokens, 0, SLOW_TOKENS, WIRE_APPEND, 0);
        await_taken(&greedy);
        subscribe(&s, &subscriber, &publication);
        uint64_t at = publication.part.first_token + 1;
        send_one(&greedy, slow, &s.tokens, SLOW_TOKENS, SLOW_TOKENS, WIRE_ATTEND, 0);
        for (uint64_t m = 0; m < BACKLOG; m++)
            for (int i = 0; i < STREAMS; i++)
                send_one(&greedy, stream[i], &s.tokens, m, 1, BOTH, m);
        await_taken(&greedy);
        send_one(&s.raw, s.stream, &s.tokens, at, 1, BOTH, at);
        for (;;) {
            CU_ASSERT_EQUAL_FATAL(attnd_next(subscriber, 60, &publication, NULL), 0);
            if (strcmp(publication.topic, "out/scene/0/") == 0)
                break;
            slow_first |= strcmp(publication.topic, "out/slow/0/") == 0;
            before += strcmp(publication.topic, "out/slow/0/") != 0;
        }
        CU_ASSERT(slow_first);
        CU_ASSERT(before <= 2 * STREAMS); /* of 180 */
        attnd_unsubscribe(subscriber);
        raw_close(&greedy);
    }
    scene_close(&s);
}

TEST_SUITE("e2e/fair", TEST(a_backlog_delays_others_by_one_round_at_most))
