/* attn tune on a running daemon: layouts are tried and compared, the best is written, the daemon is left as it was. */
#include "tests/test.h"
#include "tests/tools/answer.h"
#include "tests/tools/daemon_here.h"
#include "tests/tools/support.h"
#include "tools/command.h"

#include "cache/policy.h"
#include "client/attnd_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char LOAD[] = "--synthetic clustered,tokens=40,key_dim=16,heads=4,kv_heads=2 --streams 2 --profile window";

static size_t pools_of(const char *endpoint)
{
    struct attnd_client *client;
    char *text = NULL;
    CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, endpoint, NULL, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(attnd_status(client, 0, &text, NULL), 0);
    json_t *status = json_loads(text, 0, NULL);
    size_t n = json_array_size(json_object_get(status, "pools"));
    json_decref(status);
    free(text);
    attnd_disconnect(client);
    return n;
}

static void the_best_layout_is_written_and_the_daemon_left_as_it_was(void)
{
    static struct answer answer;
    struct daemon_here d;
    char args[512], out[SUPPORT_PATH_BYTES], config[SUPPORT_PATH_BYTES];
    daemon_here_start(&d, "");
    support_file(config,
                 "# mine\npools: [{name: a, threads: 1}, {name: b, threads: 1}, {name: c, threads: 1}]\nlog_level: error\n");
    support_file(out, "");
    snprintf(args, sizeof args, "--endpoint %s --config %s --out %s --layouts 1x1,2x1 --rounds 3 %s --json", d.endpoint, config,
             out, LOAD);
    answer_get(&answer, command_tune, args);
    CU_ASSERT_EQUAL_FATAL(answer.code, COMMAND_DONE);
    const char *best = answer_text(answer.json, "best");
    const json_t *layouts = json_object_get(answer.json, "layouts");
    CU_ASSERT_EQUAL(json_array_size(layouts), 2);
    CU_ASSERT_EQUAL(answer_number(answer.json, "rounds"), 3);
    for (size_t i = 0; i < 2; i++) {
        const json_t *row = json_array_get(layouts, i);
        bool is_best = strcmp(answer_text(row, "layout"), best) == 0;
        CU_ASSERT(answer_number(row, "tokens_per_second") > 0 && answer_number(row, "p99_seconds") > 0);
        CU_ASSERT(is_best ? answer_number(row, "ratio_to_best") == 1 : answer_number(row, "ratio_to_best") <= 1);
        CU_ASSERT(answer_number(row, "ratio_low") <= answer_number(row, "ratio_to_best"));
    }
    CU_ASSERT_EQUAL(pools_of(d.endpoint), 3); /* as the configuration says */
    struct config *written = NULL;
    CU_ASSERT_EQUAL_FATAL(config_load(&written, out, policy_check_rule, NULL, NULL), 0);
    CU_ASSERT_EQUAL(written->n_pools, best[0] == '1' ? 1 : 2);
    CU_ASSERT_STRING_EQUAL(written->log_level, "error");
    config_destroy(written);
    answer_drop(&answer);
    unlink(out);
    unlink(config);
    daemon_here_stop(&d);
}

static void wrong_calls_are_told(void)
{
    static struct answer answer;
    static const char *const wrong[][2] = {
        {"--out x --config y", "one of --trace and --synthetic"},
        {"--out x", "--config FILE is required"},
        {"--out x --config y --layouts 2y1 --trace t", "--layouts takes pools x threads"},
        {"--out x --config y --rounds 1 --trace t", "--rounds must be"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        answer_get(&answer, command_tune, wrong[i][0]);
        CU_ASSERT_EQUAL(answer.code, COMMAND_USAGE);
        if (!strstr(answer.errors, wrong[i][1]))
            printf("\n%s: %s", wrong[i][0], answer.errors);
        CU_ASSERT(strstr(answer.errors, wrong[i][1]) != NULL);
        answer_drop(&answer);
    }
    answer_get(&answer, command_tune,
               "--endpoint ipc:///tmp/attnd-nowhere/x --config /nonexistent/f --out x --synthetic "
               "isotropic,tokens=2,key_dim=4,heads=1,kv_heads=1");
    CU_ASSERT_EQUAL(answer.code, COMMAND_FAILED);
    CU_ASSERT(strstr(answer.errors, "/nonexistent/f") != NULL);
    answer_drop(&answer);
}

TEST_SUITE("tools/tune", TEST(the_best_layout_is_written_and_the_daemon_left_as_it_was), TEST(wrong_calls_are_told))
