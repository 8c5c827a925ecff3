/* attn feed beside a daemon in this process: every kind of stream, every way to send it, refusals, lost connections, wrong words. */
#include "tests/test.h"

#include "base/clock.h"
#include "client/attnd_client.h"
#include "daemon/daemon.h"
#include "io/safetensors.h"
#include "tests/tools/answer.h"
#include "tests/tools/daemon_here.h"
#include "tests/tools/support.h"
#include "tools/command.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void feed(struct answer *a, const struct daemon_here *d, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Feeds the daemon and expects JSON. */
static void feed(struct answer *a, const struct daemon_here *d, const char *format, ...)
{
    char words[600], all[800];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    snprintf(all, sizeof all, "--endpoint %s --json %s", d->endpoint, words);
    answer_get(a, command_feed, all);
    if (a->code != COMMAND_DONE)
        printf("\n%s: %s", words, a->errors);
    CU_ASSERT_EQUAL(a->code, COMMAND_DONE);
    CU_ASSERT_PTR_NOT_NULL_FATAL(a->json);
}

/* All of them arrived, and each has the bits of the same profile in process. */
static void assert_verified(const struct answer *a, double tokens)
{
    CU_ASSERT_EQUAL(answer_number(a->json, "tokens"), tokens);
    CU_ASSERT_EQUAL(answer_number(a->json, "acknowledged"), tokens);
    CU_ASSERT_EQUAL(answer_number(a->json, "verified"), tokens);
}

static void every_kind_of_stream_is_verified(void)
{
    static const char *const kinds[] = {"isotropic", "clustered", "drifting", "heavy"}, *const forms[] = {"softmax", "tensor"};
    struct answer a = {0};
    struct daemon_here d;
    daemon_here_start(&d, "");
    for (size_t k = 0; k < 4; k++)
        for (size_t f = 0; f < 2; f++) {
            feed(&a, &d, "--synthetic %s,tokens=40,key_dim=8,heads=4,kv_heads=2,value_dim=6,layers=2,attention=%s --verify",
                 kinds[k], forms[f]);
            assert_verified(&a, 40);
            CU_ASSERT(answer_number(a.json, "error_mean") > 0 && answer_number(a.json, "error_mean") < 1e-6);
            CU_ASSERT(answer_number(a.json, "error_max") < 1e-4);
            CU_ASSERT_EQUAL(answer_number(a.json, "error_tokens"), 20);
        }
    answer_drop(&a);
    daemon_here_stop(&d);
}

static void policies_are_verified_in_random_batches_parts_and_connections(void)
{
    static const struct {
        const char *attention, *profile;
        bool exact; /* the tokens are sent in bf16 */
    } cases[] = {
        {"softmax", "bf16", true},
        {"softmax", "window,budget_fraction=0.25", false},
        {"softmax", "uniform,budget_fraction=0.25", false},
        {"softmax", "h2o,budget_fraction=0.25", false},
        {"softmax", "subgen,budget_fraction=0.75", false},
        {"tensor", "full", true},
        {"tensor", "window,window_tokens=16x9", false},
        {"tensor", "two-cache", true},
    };
    struct answer a = {0};
    struct daemon_here d;
    daemon_here_start(&d, "pools: [{threads: 2}]\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        feed(&a, &d,
             "--synthetic clustered,tokens=150,key_dim=16,heads=4,kv_heads=2,attention=%s --profile %s --element bf16 "
             "--streams 7 "
             "--connections 2 --parts 3 --batch random --seed %zu --verify",
             cases[i].attention, cases[i].profile, i);
        assert_verified(&a, 7 * 150);
        CU_ASSERT_EQUAL(answer_number(a.json, "resent"), 0);
        CU_ASSERT_EQUAL(answer_number(a.json, "error_mean") < 1e-5, cases[i].exact);
        CU_ASSERT(answer_number(a.json, "error_max") >= answer_number(a.json, "error_mean"));
    }
    answer_drop(&a);
    daemon_here_stop(&d);
}

static void another_profile_in_process_is_not_bit_equal(void)
{
    static const char load[] =
        "--synthetic clustered,tokens=60,key_dim=8,heads=4,kv_heads=2 --batch 7 --profile narrow --verify";
    struct answer a = {0};
    struct daemon_here d;
    char other[SUPPORT_PATH_BYTES];
    daemon_here_start(&d, "profiles: [{name: narrow, rules: [{policy: window, window_tokens: 20, sink_tokens: 0}]}]\n");
    support_file(other, "profiles: [{name: narrow, rules: [{policy: window, window_tokens: 30, sink_tokens: 0}]}]\n");
    feed(&a, &d, "%s --config %s", load, d.config_path);
    assert_verified(&a, 60);
    double error = answer_number(a.json, "error_mean");
    feed(&a, &d, "%s --config %s", load, other);
    CU_ASSERT_EQUAL(answer_number(a.json, "verified"), 20); /* tokens whose windows are the same */
    CU_ASSERT_EQUAL(answer_number(a.json, "error_mean"), error);
    unlink(other);
    answer_drop(&a);
    daemon_here_stop(&d);
}

static void without_verify_nothing_is_claimed(void)
{
    static const char *const
        numbers[] = {"tokens", "acknowledged", "resent", "busy", "tokens_per_second", "reconnects", "seconds"},
        *const nulls[] = {"verified", "error_mean", "error_max", "error_tokens"}, *const quantiles[] = {"p50", "p99", "p999"};
    struct answer a = {0};
    struct daemon_here d;
    daemon_here_start(&d, "");
    feed(&a, &d, "--synthetic heavy,tokens=64,key_dim=4,heads=1,kv_heads=1 --batch 5 --warm-up 30");
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        CU_ASSERT(answer_number(a.json, numbers[i]) >= 0);
    for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++)
        CU_ASSERT(json_is_null(json_object_get(a.json, nulls[i])));
    const json_t *latency = json_object_get(a.json, "latency_seconds");
    double last = 0;
    for (size_t i = 0; i < 3; i++) {
        CU_ASSERT(answer_number(latency, quantiles[i]) >= last);
        last = answer_number(latency, quantiles[i]);
    }
    CU_ASSERT(last > 0);
    /* The warm-up is fed and not measured. */
    ASSERT_NEAR(answer_number(a.json, "tokens_per_second") * answer_number(a.json, "seconds"), 34, 1e-6);
    CU_ASSERT_EQUAL(answer_number(a.json, "acknowledged"), 64);
    feed(&a, &d,
         "--synthetic clustered,tokens=64,key_dim=8,heads=2,kv_heads=1 --batch random --warm-up 30 --profile h2o,rows=16 "
         "--verify");
    CU_ASSERT_EQUAL(answer_number(a.json, "acknowledged"), 64);
    CU_ASSERT_EQUAL(answer_number(a.json, "verified"), 34);
    answer_drop(&a);
    daemon_here_stop(&d);
}

static void the_engine_in_this_process_can_be_fed_instead(void)
{
    struct answer a = {0};
    answer_get(&a, command_feed,
               "--local --synthetic drifting,tokens=100,key_dim=8,heads=4,kv_heads=2,attention=tensor --streams 3 --parts 2 "
               "--batch 16 "
               "--profile window,window_tokens=8x8 --verify --json");
    CU_ASSERT_EQUAL_FATAL(a.code, COMMAND_DONE);
    assert_verified(&a, 300);
    answer_get(&a, command_feed, "--local --synthetic heavy,tokens=30,key_dim=8,heads=4,kv_heads=2 --verify");
    CU_ASSERT(strstr(a.output, "30 acknowledged") && strstr(a.output, "30 tokens bit-equal"));
    answer_drop(&a);
}

/* Messages of about 15 KiB; credit for four, and 32 that are sent ahead. */
static void busy_is_counted_and_sent_again(void)
{
    struct answer a = {0};
    struct daemon_here d;
    daemon_here_start(&d, "pools: [{threads: 1}]\nlimits: {message_bytes: 64 KiB, credit_bytes: 64 KiB}\n");
    static const char load[] =
        "--synthetic isotropic,tokens=320,key_dim=24,heads=4,kv_heads=2,attention=tensor --streams 2 --batch 16 "
        "--verify";
    feed(&a, &d, "%s --past-credit", load);
    assert_verified(&a, 640);
    CU_ASSERT(answer_number(a.json, "busy") > 0 && answer_number(a.json, "resent") > 0);
    feed(&a, &d, "%s", load);
    assert_verified(&a, 640);
    CU_ASSERT(answer_number(a.json, "busy") == 0 && answer_number(a.json, "resent") == 0);
    answer_drop(&a);
    daemon_here_stop(&d);
}

static void a_rate_is_kept(void)
{
    struct answer a = {0};
    struct daemon_here d;
    daemon_here_start(&d, "");
    feed(&a, &d, "--synthetic heavy,tokens=40,key_dim=4,heads=1,kv_heads=1,layers=2 --streams 2 --connections 2 --rate 400");
    /* Each connection sends 40 tokens at 200 per second: the last message is due after 39.5 of them. */
    CU_ASSERT(answer_number(a.json, "seconds") >= 39.4 / 200);
    CU_ASSERT_EQUAL(answer_number(a.json, "acknowledged"), 80);
    answer_drop(&a);
    daemon_here_stop(&d);
}

/* ---- traces, and streams that outlive a feed */

enum { HEADS = 2, DIM = 4, TOKENS = 90, HALF = 40 };

static void write_trace(char path[SUPPORT_PATH_BYTES], size_t n)
{
    static float numbers[3][TOKENS * HEADS * DIM];
    static const char *const names[] = {"layer.0.q", "layer.0.k", "layer.0.v"};
    struct tensor tensor[3];
    support_file(path, "");
    for (unsigned i = 0; i < 3; i++) {
        support_fill(numbers[i], TOKENS * HEADS * DIM, 2, i);
        tensor[i] = (struct tensor){.name = names[i],
                                    .type = TENSOR_F32,
                                    .n_dims = 3,
                                    .dim = {n, HEADS, DIM},
                                    .n = n * HEADS * DIM,
                                    .data = numbers[i],
                                    .bytes = n * HEADS * DIM * sizeof(float)};
    }
    CU_ASSERT_EQUAL_FATAL(safetensors_write(path, tensor, 3, NULL, NULL), 0);
}

static void a_feed_goes_on_where_another_left(void)
{
    struct answer a = {0};
    struct daemon_here d;
    char half[SUPPORT_PATH_BYTES], whole[SUPPORT_PATH_BYTES];
    daemon_here_start(&d, "");
    write_trace(half, HALF);
    write_trace(whole, TOKENS);
    feed(&a, &d, "--trace %s --streams 3 --parts 3 --batch 8 --name left --keep --verify", half);
    assert_verified(&a, 3 * HALF);
    feed(&a, &d, "--trace %s --streams 3 --batch 8 --name left --resume --verify", whole);
    assert_verified(&a, 3 * (TOKENS - HALF));
    CU_ASSERT(answer_number(a.json, "error_max") < 1e-4);
    feed(&a, &d, "--trace %s --streams 3 --name left --batch 64", whole); /* they were closed: the names are free */
    CU_ASSERT_EQUAL(answer_number(a.json, "acknowledged"), 3 * TOKENS);
    answer_drop(&a);
    unlink(half);
    unlink(whole);
    daemon_here_stop(&d);
}

static void feeds_side_by_side_have_names_of_their_own(void)
{
    static const char load[] = "--synthetic heavy,tokens=5,key_dim=4,heads=1,kv_heads=1 --streams 2";
    struct answer a = {0};
    struct daemon_here d;
    char call[300];
    daemon_here_start(&d, "");
    feed(&a, &d, "%s --keep", load);
    feed(&a, &d, "%s --keep", load);
    snprintf(call, sizeof call, "--endpoint %s --json", d.endpoint);
    answer_get(&a, command_status, call);
    CU_ASSERT_EQUAL(json_array_size(json_object_get(a.json, "streams")), 4);
    feed(&a, &d, "%s --keep --name same", load);
    snprintf(call, sizeof call, "--endpoint %s %s --name same", d.endpoint, load);
    answer_get(&a, command_feed, call);
    CU_ASSERT_EQUAL(a.code, COMMAND_FAILED);
    CU_ASSERT_PTR_NOT_NULL(strstr(a.errors, "same-0"));
    answer_drop(&a);
    daemon_here_stop(&d);
}

/* ---- connections that are lost */

struct long_feed {
    struct answer answer;
    const struct daemon_here *daemon;
    pthread_t thread;
};

static void *run_long_feed(void *context)
{
    struct long_feed *f = context;
    feed(&f->answer, f->daemon,
         "--synthetic clustered,tokens=700,key_dim=8,heads=2,kv_heads=1,layers=2 --streams 3 --parts 2 --batch random --rate "
         "1500 "
         "--name long --timeout 0.5 --retry 20 --verify");
    return NULL;
}

/* Once some of its tokens have arrived. */
static void wait_for_tokens(struct attnd_client *client)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    double deadline = clock_seconds() + 20;
    for (bool seen = false; !seen && clock_seconds() < deadline; nanosleep(&pause, NULL)) {
        char *text = NULL;
        CU_ASSERT_EQUAL_FATAL(attnd_status(client, 0, &text, NULL), 0);
        json_t *status = json_loads(text, 0, NULL), *streams = json_object_get(status, "streams");
        seen = json_array_size(streams) == 3;
        for (size_t i = 0; seen && i < 3; i++)
            seen = json_number_value(json_object_get(json_array_get(streams, i), "tokens_total")) > 40;
        json_decref(status);
        free(text);
    }
}

static void a_stream_that_another_takes_over_is_taken_back(void)
{
    struct long_feed f = {0};
    struct daemon_here d;
    struct attnd_client *client;
    struct attnd_stream stream;
    struct shape shape = {.n_layers = 2,
                          .heads = 2,
                          .kv_heads = 1,
                          .key_dim = 8,
                          .value_dim = 8,
                          .scale = (float)(1 / sqrt(8)),
                          .expected_tokens = 700};
    daemon_here_start(&d, "");
    f.daemon = &d;
    CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, d.endpoint, NULL, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&f.thread, NULL, run_long_feed, &f), 0);
    wait_for_tokens(client);
    CU_ASSERT_EQUAL(attnd_open(client, "long-1", &shape, NULL, true, &stream, NULL), 0);
    pthread_join(f.thread, NULL);
    assert_verified(&f.answer, 2100);
    CU_ASSERT(answer_number(f.answer.json, "reconnects") >= 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(f.answer.errors, "the connection is lost"));
    attnd_forget(&stream);
    attnd_disconnect(client);
    answer_drop(&f.answer);
    daemon_here_stop(&d);
}

static void what_a_daemon_forgot_is_fed_to_the_next(void)
{
    struct long_feed f = {0};
    struct daemon_here d;
    struct attnd_client *client;
    struct fault fault;
    daemon_here_start(&d, "");
    f.daemon = &d;
    CU_ASSERT_EQUAL_FATAL(attnd_connect(&client, d.endpoint, NULL, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(pthread_create(&f.thread, NULL, run_long_feed, &f), 0);
    wait_for_tokens(client);
    attnd_disconnect(client);
    daemon_stop(d.daemon);
    CU_ASSERT_EQUAL_FATAL(daemon_start(&d.daemon, d.config, NULL, &d.log, &fault), 0);
    pthread_join(f.thread, NULL);
    assert_verified(&f.answer, 2100);
    CU_ASSERT(answer_number(f.answer.json, "reconnects") >= 1 && answer_number(f.answer.json, "resent") > 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(f.answer.errors, "has lost what it held"));
    answer_drop(&f.answer);
    daemon_here_stop(&d);
}

static void wrong_words_are_named(void)
{
#define STREAM "clustered,tokens=9,key_dim=4,heads=2,kv_heads=1"
    static const struct {
        const char *words, *says;
        int code;
    } calls[] = {
        {"", "one of --trace and --synthetic", COMMAND_USAGE},
        {"--trace a --synthetic " STREAM, "one of --trace and --synthetic", COMMAND_USAGE},
        {"--synthetic pink,tokens=9", "'pink'", COMMAND_USAGE},
        {"--synthetic clustered,key_dim=4,heads=2,kv_heads=1", "tokens=N is required", COMMAND_USAGE},
        {"--synthetic clustered,tokens=9,key_dim=4,heads=3,kv_heads=2", "heads must be a multiple", COMMAND_USAGE},
        {"--synthetic " STREAM ",tokens=9", "tokens is given twice", COMMAND_USAGE},
        {"--synthetic " STREAM ",depth=9", "no key 'depth'", COMMAND_USAGE},
        {"--synthetic " STREAM ",layers", "'layers' must be key=value", COMMAND_USAGE},
        {"--synthetic " STREAM ",layers=1.5", "layers must be a whole number", COMMAND_USAGE},
        {"--synthetic " STREAM ",attention=hard", "attention must be softmax or tensor", COMMAND_USAGE},
        {"--synthetic " STREAM ",spread=-1", "spread must be a number", COMMAND_USAGE},
        {"--synthetic " STREAM " --batch 0", "--batch must be random", COMMAND_USAGE},
        {"--synthetic " STREAM " --batch many", "--batch must be random", COMMAND_USAGE},
        {"--synthetic " STREAM " --element f64", "--element must be", COMMAND_USAGE},
        {"--synthetic " STREAM " --connections 2", "--connections need as many --streams", COMMAND_USAGE},
        {"--synthetic " STREAM " --streams 4 --connections 2 --parts 3", "--parts", COMMAND_USAGE},
        {"--synthetic " STREAM " --warm-up 9", "--warm-up must leave some", COMMAND_USAGE},
        {"--synthetic " STREAM " --resume", "--resume needs the --name", COMMAND_USAGE},
        {"--synthetic " STREAM " --name a/b", "--name must be", COMMAND_USAGE},
        {"--synthetic " STREAM " --config x", "--config is for", COMMAND_USAGE},
        {"--synthetic " STREAM " --local --endpoint x", "exclude each other", COMMAND_USAGE},
        {"--synthetic " STREAM " --local --keep", "need a daemon", COMMAND_USAGE},
        {"--synthetic " STREAM " --local --streams 2 --connections 2", "--connections go to a daemon", COMMAND_USAGE},
        {"--synthetic " STREAM " --rate 0", "--rate must be a number", COMMAND_USAGE},
        {"--synthetic " STREAM " --streams 0", "--streams must be", COMMAND_USAGE},
        {"--synthetic " STREAM " --local --profile nothing", "nothing", COMMAND_FAILED},
        {"--trace /tmp/attnd_nowhere", "/tmp/attnd_nowhere", COMMAND_FAILED},
    };
    struct answer a = {0};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        answer_get(&a, command_feed, calls[i].words);
        CU_ASSERT_EQUAL(a.code, calls[i].code);
        if (!strstr(a.errors, calls[i].says))
            printf("\n%s: %s", calls[i].words, a.errors);
        CU_ASSERT_PTR_NOT_NULL(strstr(a.errors, calls[i].says));
        CU_ASSERT_STRING_EQUAL(a.output, "");
    }
    answer_get(&a, command_feed, "--help");
    CU_ASSERT_EQUAL(a.code, COMMAND_DONE);
    CU_ASSERT(strstr(a.output, "--synthetic") && strstr(a.output, "error_tokens"));
    answer_drop(&a);
}

TEST_SUITE("tools/feed", TEST(every_kind_of_stream_is_verified),
           TEST(policies_are_verified_in_random_batches_parts_and_connections),
           TEST(another_profile_in_process_is_not_bit_equal), TEST(without_verify_nothing_is_claimed),
           TEST(the_engine_in_this_process_can_be_fed_instead), TEST(busy_is_counted_and_sent_again), TEST(a_rate_is_kept),
           TEST(a_feed_goes_on_where_another_left), TEST(feeds_side_by_side_have_names_of_their_own),
           TEST(a_stream_that_another_takes_over_is_taken_back), TEST(what_a_daemon_forgot_is_fed_to_the_next),
           TEST(wrong_words_are_named))
