/* What may change while the daemon runs, and what may not. */
#include "config/live.h"
#include "tests/lib/config/fixture.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct messages messages;

/* Of each fixed key a value that is not the default: what the refusal says of it. */
static const struct {
    const char *yaml, *key, *value;
} fixed[] = {
    {"ingest: {endpoints: [\"tcp://127.0.0.1:1\"]}", "ingest.endpoints", "tcp://127.0.0.1:1"},
    {"outputs: {endpoints: [\"tcp://127.0.0.1:2\"]}", "outputs.endpoints", "tcp://127.0.0.1:2"},
    {"telemetry: {endpoints: [\"tcp://127.0.0.1:3\"]}", "telemetry.endpoints", "tcp://127.0.0.1:3"},
    {"telemetry: {interval_seconds: 7}", "telemetry.interval_seconds", "7"},
    {"http: {address: \"127.0.0.1:4\"}", "http.address", "127.0.0.1:4"},
    {"isa: scalar", "isa", "scalar"},
    {"limits: {message_bytes: 1048576}", "limits.message_bytes", "1048576"},
    {"limits: {streams: 3}", "limits.streams", "3"},
    {"limits: {subscriber_messages: 5}", "limits.subscriber_messages", "5"},
};
enum { N_FIXED = sizeof fixed / sizeof *fixed };

static struct config *running_config(void)
{
    struct config *config = parse("", &messages);
    CU_ASSERT_PTR_NOT_NULL_FATAL(config);
    return config;
}

static void each_fixed_value_is_refused_by_name_with_both_values(void)
{
    struct config *running = running_config();
    for (size_t i = 0; i < N_FIXED; i++) {
        struct config *asked = parse(fixed[i].yaml, &messages);
        struct fault fault = {0};
        char from[128], to[128];
        CU_ASSERT_PTR_NOT_NULL_FATAL(asked);
        CU_ASSERT_EQUAL(config_check_fixed(running, asked, &fault), ERR_INVALID);
        snprintf(from, sizeof from, "%s cannot change while the daemon runs: it is ", fixed[i].key);
        snprintf(to, sizeof to, ", not %s", fixed[i].value);
        CU_ASSERT_EQUAL(strncmp(fault.text, from, strlen(from)), 0);
        const char *end = strstr(fault.text, to);
        CU_ASSERT(end && strlen(end) == strlen(to));
        config_destroy(asked);
    }
    config_destroy(running);
}

static void an_endpoint_more_is_a_change(void)
{
    struct config *running = parse("ingest: {endpoints: [\"tcp://127.0.0.1:1\"]}", &messages);
    struct config *asked = parse("ingest: {endpoints: [\"tcp://127.0.0.1:1\", \"tcp://127.0.0.1:2\"]}", &messages);
    struct fault fault = {0};
    CU_ASSERT_EQUAL(config_check_fixed(running, asked, &fault), ERR_INVALID);
    CU_ASSERT_EQUAL(config_check_fixed(asked, asked, &fault), 0);
    config_destroy(running);
    config_destroy(asked);
}

static void everything_else_may_change(void)
{
    struct config *running = running_config();
    struct config *asked = parse("spin_seconds: 0\nlog_level: error\npools: [{name: a, threads: 1, heads: auto}]\n"
                                 "limits: {credit_bytes: 268435456, lease_seconds: 1, memory_bytes: 7}\n"
                                 "profiles: [{name: new, rules: [{policy: full}]}]\n",
                                 &messages);
    struct fault fault = {0};
    CU_ASSERT_PTR_NOT_NULL_FATAL(asked);
    CU_ASSERT_EQUAL(config_check_fixed(running, asked, &fault), 0);
    config_destroy(running);
    config_destroy(asked);
}

static void what_a_reload_leaves_out_stays_if_it_is_fixed_and_is_the_default_if_not(void)
{
    struct config *running = parse("isa: scalar\nlimits: {streams: 3, lease_seconds: 1}\n", &messages), *again;
    struct config *defaults = running_config();
    CU_ASSERT_EQUAL_FATAL(config_reread(&again, running, "f", "spin_seconds: 0\n", fake_check_rule, collect_message, &messages),
                          0);
    CU_ASSERT_STRING_EQUAL(again->isa, "scalar");
    CU_ASSERT_EQUAL(again->limits.streams, 3);
    CU_ASSERT_EQUAL(again->limits.lease_seconds, defaults->limits.lease_seconds);
    CU_ASSERT_EQUAL(again->spin_seconds, 0);
    CU_ASSERT_STRING_EQUAL(again->path, running->path);
    config_destroy(again);
    config_destroy(running);
    config_destroy(defaults);
}

static void without_a_text_the_file_is_read_again(void)
{
    char path[] = "/tmp/attnd-test-live-XXXXXX";
    int file = mkstemp(path);
    CU_ASSERT_FATAL(file >= 0);
    struct config *running, *again;
    CU_ASSERT_EQUAL(write(file, "spin_seconds: 0\n", 16), 16);
    CU_ASSERT_EQUAL_FATAL(config_load(&running, path, fake_check_rule, collect_message, &messages), 0);
    CU_ASSERT_EQUAL(pwrite(file, "spin_seconds: 1\n", 16, 0), 16);
    CU_ASSERT_EQUAL_FATAL(config_reread(&again, running, NULL, NULL, fake_check_rule, collect_message, &messages), 0);
    CU_ASSERT_EQUAL(again->spin_seconds, 1);
    CU_ASSERT_STRING_EQUAL(again->path, path);
    config_destroy(again);
    CU_ASSERT_EQUAL(unlink(path), 0);
    messages.n = 0;
    CU_ASSERT_EQUAL(config_reread(&again, running, NULL, NULL, fake_check_rule, collect_message, &messages), ERR_IO);
    CU_ASSERT_EQUAL(messages.n, 1);
    CU_ASSERT_PTR_NULL(again);
    config_destroy(running);
    close(file);
}

TEST_SUITE("lib/config/live", TEST(each_fixed_value_is_refused_by_name_with_both_values), TEST(an_endpoint_more_is_a_change),
           TEST(everything_else_may_change), TEST(what_a_reload_leaves_out_stays_if_it_is_fixed_and_is_the_default_if_not),
           TEST(without_a_text_the_file_is_read_again))
