/* Survival: producers that lose their connections and their lives, among peers that behave badly. */
#include "tests/e2e/producer.h"
#include "tests/e2e/raw.h"
#include "tests/e2e/survivor.h"
#include "tests/test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

enum { PRODUCERS = 4, STREAMS = 16, TOKENS = SANITIZED ? 200 : 2000 };

/* Peers that nobody should feel. */
struct pests {
    struct raw junk, greedy; /* random bytes; a producer that confirms nothing and reads nothing */
    void *deaf;              /* a subscriber that never reads */
    struct shape shape;
    struct tokens tokens;
    uint64_t stream, n;
};

static void pests_open(struct pests *p, struct house *house)
{
    int one = 1, linger = 0;
    memset(p, 0, sizeof *p);
    CU_ASSERT_FATAL(raw_open(&p->junk, house->ingest) && raw_open(&p->greedy, house->ingest));
    p->shape = house_shape(1, 0, 4, 2, 16, 8);
    tokens_create(&p->tokens, &p->shape, 1, 0, 0, 100);
    p->stream = raw_open_stream(&p->greedy, "greedy", &p->shape, "window,window_tokens=16", false);
    p->deaf = zmq_socket(p->junk.context, ZMQ_SUB);
    zmq_setsockopt(p->deaf, ZMQ_RCVHWM, &one, sizeof one);
    zmq_setsockopt(p->deaf, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(p->deaf, ZMQ_SUBSCRIBE, "", 0);
    CU_ASSERT_EQUAL(zmq_connect(p->deaf, house->outputs), 0);
}

static void pests_act(struct pests *p)
{
    unsigned char bytes[200];
    struct raw_message message = {0};
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)pick(1, p->n * sizeof bytes + i, 256);
    if (p->n % 2)
        memcpy(bytes, "ATND\1\1\0", 8);
    struct raw_frame frame[3] = {{bytes, 1 + pick(2, p->n, 199)}, {bytes, pick(3, p->n, 200)}, {bytes, 7}};
    raw_send(&p->junk, frame, 1 + pick(4, p->n, 3));
    raw_add(&message, p->stream, &p->tokens, p->n * 20, 20, WIRE_APPEND | WIRE_ATTEND);
    message.at[0] = 0;
    raw_send_message(&p->greedy, &message);
    p->n++;
}

static void pests_close(struct pests *p)
{
    zmq_close(p->deaf);
    raw_close(&p->junk);
    raw_close(&p->greedy);
    tokens_destroy(&p->tokens);
}

static void every_token_survives_cuts_and_a_kill(void)
{
    struct house house;
    char yaml[2048], file[PRODUCERS][128];
    snprintf(yaml, sizeof yaml, "limits: {credit_bytes: 4 MiB, message_bytes: 4 MiB}\n%s", producer_profiles);
    if (house_open(&house, yaml)) {
        pid_t producer[PRODUCERS];
        struct attnd_client *client = NULL;
        struct pests pests;
        const struct timespec a_while = {.tv_nsec = 5000000};
        const uint64_t all = (uint64_t)SURVIVOR_LAYERS * STREAMS * TOKENS;
        int status = 0;
        pests_open(&pests, &house);
        for (int i = 0; i < PRODUCERS; i++) {
            snprintf(file[i], sizeof file[i], "%s/memory%d", house.folder, i);
            producer[i] = survivor_start(house.ingest, i, STREAMS, TOKENS, file[i]);
            CU_ASSERT_FATAL(producer[i] > 0);
        }
        while (survivor_answered(file[0], STREAMS, TOKENS) < all / 2 && waitpid(producer[0], &status, WNOHANG) == 0) {
            pests_act(&pests);
            nanosleep(&a_while, NULL);
        }
        CU_ASSERT_EQUAL(kill(producer[0], SIGKILL), 0);
        CU_ASSERT_EQUAL(waitpid(producer[0], &status, 0), producer[0]);
        CU_ASSERT(WIFSIGNALED(status));
        uint64_t answered = survivor_answered(file[0], STREAMS, TOKENS);
        CU_ASSERT(answered >= all / 2 && answered < all);
        producer[0] = survivor_start(house.ingest, 0, STREAMS, TOKENS, file[0]);
        for (int i = 0; i < PRODUCERS; i++) {
            CU_ASSERT_EQUAL(producer_wait(producer[i]), 0);
            CU_ASSERT_EQUAL(survivor_answered(file[i], STREAMS, TOKENS), all);
            unlink(file[i]);
        }
        CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, house.ingest, NULL, NULL), 0);
        double greedy = house_number(client, "streams.0.tokens_total");
        CU_ASSERT_EQUAL(house_number(client, "daemon.tokens_total"), PRODUCERS * (double)all + greedy); /* each once */
        CU_ASSERT_EQUAL(house_number(client, "daemon.streams_open"), 1);
        CU_ASSERT_EQUAL(house_number(client, "daemon.streams_failed_total"), 0);
        CU_ASSERT_EQUAL(house_number(client, "daemon.streams_expired_total"), 0);
        CU_ASSERT(house_number(client, "daemon.parts_resent_total") > 0);
        CU_ASSERT(house_number(client, "daemon.kept_reply_bytes") <= 4 << 20);
        attnd_disconnect(client);
        pests_close(&pests);
    }
    house_close(&house);
}

TEST_SUITE("e2e/survival", TEST(every_token_survives_cuts_and_a_kill))
