/* Load: several producer processes with many streams at once, and nothing left of them afterwards. */
#include "tests/e2e/house.h"
#include "tests/e2e/producer.h"
#include "tests/test.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { PRODUCERS = 4, STREAMS = 16, LAYERS = 2 };

static void serve(const char *keys, size_t tokens, bool busy)
{
    struct house house;
    char yaml[2048];
    snprintf(yaml, sizeof yaml, "%s%s", keys, producer_profiles);
    if (house_open_telling(&house, 0.05, yaml)) { /* telemetry looks on all the time */
        pid_t producer[PRODUCERS];
        struct attnd_client *client = NULL;
        for (int i = 0; i < PRODUCERS; i++)
            producer[i] = producer_start(house.ingest, i, STREAMS, tokens);
        for (int i = 0; i < PRODUCERS; i++) {
            CU_ASSERT(producer[i] > 0);
            CU_ASSERT_EQUAL(producer_wait(producer[i]), 0);
        }
        CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, house.ingest, NULL, NULL), 0);
        CU_ASSERT_EQUAL(house_number(client, "daemon.tokens_total"), PRODUCERS * STREAMS * LAYERS * (double)tokens);
        CU_ASSERT(house_number(client, "daemon.parts_resent_total") > 0);
        CU_ASSERT_EQUAL(house_number(client, "daemon.refused_total.busy") > 0, busy);
        static const char *const gone[] = {"streams_open",         "memory_allocated_bytes", "memory_resident_bytes",
                                           "memory_control_bytes", "memory_full_bf16_bytes", "queued_bytes",
                                           "queued_tasks",         "kept_reply_bytes",       "streams_failed_total"};
        for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) {
            char path[64];
            snprintf(path, sizeof path, "daemon.%s", gone[i]);
            if (house_number(client, path) != 0)
                printf("\n%s: %g", path, house_number(client, path));
            CU_ASSERT_EQUAL(house_number(client, path), 0);
        }
        attnd_disconnect(client);
    }
    house_close(&house);
}

static void every_token_of_four_producers_is_answered_once_with_the_right_bits(void)
{
    serve("", SANITIZED ? 200 : 2000, false);
}

/* The same with little credit, so that many parts are refused as busy and sent again, and with two pools. */
static void so_it_is_when_credit_is_short(void)
{
    serve("limits: {message_bytes: 128 KiB, credit_bytes: 128 KiB, queued_bytes: 128 KiB}\n"
          "pools: [{threads: 1}, {threads: 2}]\n",
          SANITIZED ? 100 : 500, true);
}

/* ---- threads of this process, over the other transports */

struct worker_thread {
    pthread_t thread;
    const char *endpoint;
    void *context;
    int index, result;
};

static void *work(void *context)
{
    struct worker_thread *w = context;
    w->result = producer_run(w->endpoint, w->context, w->index, 4, SANITIZED ? 60 : 300);
    return NULL;
}

static void serve_threads(const char *endpoints, bool own_context)
{
    enum { THREADS = 3 };
    char yaml[2048];
    struct daemon *daemon = NULL;
    struct fault fault = {0};
    struct worker_thread w[THREADS] = {{0}};
    void *context = zmq_ctx_new();
    snprintf(yaml, sizeof yaml, "%s%s", endpoints, producer_profiles);
    struct config *config = house_config(NULL, 1, yaml);
    CU_ASSERT_FATAL(config && context);
    int err = daemon_start(&daemon, config, context, NULL, &fault);
    if (err)
        printf("\n%s", fault.text);
    CU_ASSERT_EQUAL_FATAL(err, 0);
    for (int i = 0; i < THREADS; i++) {
        w[i].endpoint = daemon_endpoint(daemon);
        w[i].context = own_context ? NULL : context;
        w[i].index = i;
        CU_ASSERT_EQUAL_FATAL(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(w[i].thread, NULL);
        CU_ASSERT_EQUAL(w[i].result, 0);
    }
    daemon_stop(daemon);
    config_destroy(config);
    zmq_ctx_term(context);
}

static void tcp_serves_as_well(void)
{
    serve_threads("ingest: {endpoints: [\"tcp://127.0.0.1:*\"]}\n"
                  "outputs: {endpoints: [\"tcp://127.0.0.1:*\"]}\n"
                  "telemetry: {endpoints: [\"tcp://127.0.0.1:*\"]}\n",
                  true);
}

static void inproc_serves_within_one_context(void)
{
    if (UNDER_TSAN) /* it does not see how libzmq hands a frame from one thread to the other */
        return;
    serve_threads("ingest: {endpoints: [\"inproc://ingest\"]}\n"
                  "outputs: {endpoints: [\"inproc://outputs\"]}\n"
                  "telemetry: {endpoints: [\"inproc://telemetry\"]}\n",
                  false);
}

/* ---- one stream, several who take it from each other */

enum { RIVALS = 3, RIVAL_TOKENS = SANITIZED ? 300 : 1500 };

struct rivalry {
    struct house *house;
    struct shape shape;
    struct tokens tokens;
    const float *expected;
    atomic_uint answers[RIVAL_TOKENS];
    atomic_size_t n_wrong, n_lost;
};

struct rival {
    struct rivalry *rivalry;
    pthread_t thread;
    uint64_t seed;
};

/* Takes the stream, sends a few batches from where it is, and takes it again. */
static void *vie(void *context)
{
    struct rival *me = context;
    struct rivalry *r = me->rivalry;
    struct attnd_client *client = NULL;
    size_t width = floats_out(&r->shape, 1);
    float out[16 * 64];
    bool more = attnd_connect(&client, r->house->ingest, NULL, NULL) == 0;
    for (uint64_t turn = 0; more; turn++) {
        struct attnd_stream stream;
        struct fault fault = {0};
        if (attnd_open(client, "prize", &r->shape, "full", true, &stream, &fault)) {
            atomic_fetch_add(&r->n_wrong, 1);
            break;
        }
        for (uint64_t i = 0; i < 6 && (more = stream.next[0] < RIVAL_TOKENS); i++) {
            uint64_t at = stream.next[0], n = 1 + pick(me->seed, turn * 8 + i, 9);
            n = n < RIVAL_TOKENS - at ? n : RIVAL_TOKENS - at;
            struct attnd_part part = tokens_part(&r->tokens, &stream, at, n, WIRE_APPEND | WIRE_ATTEND, out, NULL);
            int err = attnd_step(client, 0, &part, 1, &fault);
            if (err == ERR_NOT_OWNER) {
                atomic_fetch_add(&r->n_lost, 1);
                break;
            }
            atomic_fetch_add(&r->n_wrong, err || floats_differ(out, r->expected + at * width, n * width) > 1e-6);
            for (uint64_t t = 0; !err && t < n; t++)
                atomic_fetch_add(&r->answers[at + t], 1);
        }
        attnd_forget(&stream);
    }
    attnd_disconnect(client);
    return NULL;
}

static void a_stream_that_is_taken_back_and_forth_gets_every_token_once(void)
{
    struct house house;
    if (house_open(&house, "")) {
        struct rivalry *r = calloc(1, sizeof *r);
        struct rival rival[RIVALS];
        struct local local;
        size_t wrong = 0;
        r->house = &house;
        r->shape = house_shape(1, 0, 4, 2, 16, 16);
        size_t width = floats_out(&r->shape, 1);
        float *expected = calloc(RIVAL_TOKENS, width * sizeof *expected);
        tokens_create(&r->tokens, &r->shape, 1, 0, 0, RIVAL_TOKENS);
        CU_ASSERT_FATAL(local_open(&local, house.config, &r->shape, "full"));
        CU_ASSERT_EQUAL(local_step(&local, &r->tokens, 0, 0, RIVAL_TOKENS, PART_APPEND | PART_ATTEND, expected, NULL), 0);
        r->expected = expected;
        for (uint64_t i = 0; i < RIVALS; i++) {
            rival[i] = (struct rival){.rivalry = r, .seed = i};
            CU_ASSERT_EQUAL_FATAL(pthread_create(&rival[i].thread, NULL, vie, &rival[i]), 0);
        }
        for (size_t i = 0; i < RIVALS; i++)
            pthread_join(rival[i].thread, NULL);
        for (size_t t = 0; t < RIVAL_TOKENS; t++)
            wrong += atomic_load(&r->answers[t]) != 1;
        CU_ASSERT_EQUAL(wrong, 0);
        CU_ASSERT_EQUAL(atomic_load(&r->n_wrong), 0);
        CU_ASSERT(atomic_load(&r->n_lost) > 0); /* it was taken while somebody was at it */
        local_close(&local);
        tokens_destroy(&r->tokens);
        free(expected);
        free(r);
    }
    house_close(&house);
}

TEST_SUITE("e2e/load", TEST(every_token_of_four_producers_is_answered_once_with_the_right_bits),
           TEST(so_it_is_when_credit_is_short), TEST(tcp_serves_as_well), TEST(inproc_serves_within_one_context),
           TEST(a_stream_that_is_taken_back_and_forth_gets_every_token_once))
