/* Load: several producer processes with many streams at once, and nothing left of them afterwards. */
#include "tests/e2e/house.h"
#include "tests/e2e/producer.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>

#if defined(__SANITIZE_ADDRESS__) || UNDER_TSAN
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

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

TEST_SUITE("e2e/load", TEST(every_token_of_four_producers_is_answered_once_with_the_right_bits),
           TEST(so_it_is_when_credit_is_short))
