#include "tests/test.h"

#include "tests/tools/capture.h"
#include "tests/tools/daemon_here.h"
#include "tests/tools/lm/tiny_model.h"
#include "tests/tools/support.h"
#include "tools/command.h"
#include "tools/eval/trace.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

/* Runs `attn` with these words and returns its exit code; what it printed on `stream` is in capture. */
static int run(int (*command)(int, char **), struct capture *capture, FILE *stream, const char *const *words)
{
    char text[32][96], *argv[33];
    int argc = 0;
    for (; words[argc]; argc++) {
        snprintf(text[argc], sizeof text[argc], "%s", words[argc]);
        argv[argc] = text[argc];
    }
    argv[argc] = NULL;
    capture_begin(capture, stream);
    int code = command(argc, argv);
    capture_end(capture);
    return code;
}

#define RUN(command, capture, stream, ...) run(command, capture, stream, (const char *const[]){__VA_ARGS__, NULL})

static json_t *parsed(const struct capture *capture)
{
    json_t *object = json_loads(capture->text, 0, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(object);
    return object;
}

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    CU_ASSERT(json_is_number(value));
    return json_number_value(value);
}

static void generated_text_is_the_same_here_and_through_the_daemon(void)
{
    static const char *const models[] = {"tools/lm/softmax", "tools/lm/tensor"};
    static const char *const heat[] = {"0", "0.8"};
    static struct capture here, there;
    struct daemon_here d;
    daemon_here_start(&d, "");
    for (size_t m = 0; m < 2; m++)
        for (size_t h = 0; h < 2; h++) {
            CU_ASSERT_EQUAL(RUN(command_lm, &here, stdout, "lm", "generate", "--model", models[m], "--prompt", "The function ",
                                "--tokens", "30", "--temperature", heat[h], "--seed", "3", "--local", "--json"),
                            COMMAND_DONE);
            CU_ASSERT_EQUAL(RUN(command_lm, &there, stdout, "lm", "generate", "--model", models[m], "--prompt", "The function ",
                                "--tokens", "30", "--temperature", heat[h], "--seed", "3", "--endpoint", d.endpoint, "--json"),
                            COMMAND_DONE);
            json_t *a = parsed(&here), *b = parsed(&there);
            CU_ASSERT_EQUAL(json_array_size(json_object_get(a, "ids")), 30);
            CU_ASSERT(json_equal(json_object_get(a, "ids"), json_object_get(b, "ids")));
            CU_ASSERT(json_equal(json_object_get(a, "text"), json_object_get(b, "text")));
            CU_ASSERT(json_is_string(json_object_get(a, "text")));
            CU_ASSERT(number(a, "bytes") == number(b, "bytes") && number(a, "bytes_full_bf16") == number(b, "bytes_full_bf16"));
            CU_ASSERT(number(a, "tokens_per_second") > 0);
            json_decref(a);
            json_decref(b);
        }
    daemon_here_stop(&d);
}

static void text_comes_as_bytes_without_json(void)
{
    static struct capture text, json, summary;
    CU_ASSERT_EQUAL(RUN(command_lm, &json, stdout, "lm", "generate", "--model", "tools/lm/softmax", "--prompt", "The ",
                        "--tokens", "20", "--local", "--json"),
                    COMMAND_DONE);
    capture_begin(&summary, stderr);
    CU_ASSERT_EQUAL(RUN(command_lm, &text, stdout, "lm", "generate", "--model", "tools/lm/softmax", "--prompt", "The ",
                        "--tokens", "20", "--local"),
                    COMMAND_DONE);
    capture_end(&summary);
    CU_ASSERT_PTR_NOT_NULL(strstr(summary.text, "tokens/s"));
    json_t *object = parsed(&json);
    CU_ASSERT_EQUAL(strncmp(text.text, json_string_value(json_object_get(object, "text")), 20), 0);
    CU_ASSERT(strlen(text.text) == 21 && text.text[20] == '\n');
    json_decref(object);
}

static void perplexity_is_the_same_here_and_through_the_daemon(void)
{
    static const char *const profiles[] = {"full", "window,window_tokens=8x4"};
    static const char *const keys[] = {"bits_per_byte", "nll_per_token", "kl_mean", "kl_p50", "kl_p999", "same_top", "bytes"};
    static struct capture here, there;
    struct daemon_here d;
    daemon_here_start(&d, "");
    for (size_t p = 0; p < 2; p++) {
        CU_ASSERT_EQUAL(RUN(command_lm, &here, stdout, "lm", "perplexity", "--model", "tools/lm/tensor", "--text",
                            "tools/lm/tensor/config.json", "--context", "64", "--windows", "3", "--local", "--json",
                            "--profile", profiles[p]),
                        COMMAND_DONE);
        CU_ASSERT_EQUAL(RUN(command_lm, &there, stdout, "lm", "perplexity", "--model", "tools/lm/tensor", "--text",
                            "tools/lm/tensor/config.json", "--context", "64", "--windows", "3", "--endpoint", d.endpoint,
                            "--json", "--profile", profiles[p]),
                        COMMAND_DONE);
        json_t *a = parsed(&here), *b = parsed(&there);
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
            CU_ASSERT(number(a, keys[k]) == number(b, keys[k]));
        ASSERT_NEAR(number(a, "bits_per_byte") * log(2), number(a, "nll_per_token"), 1e-9);
        CU_ASSERT_EQUAL(number(a, "bytes_full_bf16"),
                        5 * 2 * 64 * 64 * 2); /* 3 + 2 row streams, kv heads, tokens, d + e, bytes */
        CU_ASSERT(number(a, "attention_seconds") <= number(a, "seconds"));
        CU_ASSERT((number(a, "kl_mean") > 0) == (p == 1) && (number(a, "same_top") < 1) == (p == 1));
        json_decref(a);
        json_decref(b);
    }
    daemon_here_stop(&d);
}

static void a_profile_changes_bytes_and_score(void)
{
    static struct capture full, window;
    CU_ASSERT_EQUAL(RUN(command_lm, &full, stdout, "lm", "perplexity", "--model", "tools/lm/softmax", "--text",
                        "tools/lm/softmax/config.json", "--context", "256", "--windows", "1", "--local", "--json"),
                    COMMAND_DONE);
    CU_ASSERT_EQUAL(RUN(command_lm, &window, stdout, "lm", "perplexity", "--model", "tools/lm/softmax", "--text",
                        "tools/lm/softmax/config.json", "--context", "256", "--windows", "1", "--local", "--json", "--profile",
                        "window,budget_fraction=0.125"),
                    COMMAND_DONE);
    json_t *a = parsed(&full), *b = parsed(&window);
    CU_ASSERT(number(b, "bytes") <= 0.125 * number(b, "bytes_full_bf16"));
    CU_ASSERT(number(a, "bits_per_byte") != number(b, "bits_per_byte"));
    CU_ASSERT(number(a, "kl_mean") == 0 && number(a, "kl_p50") == 0 && number(a, "kl_p999") == 0);
    CU_ASSERT_EQUAL(number(a, "same_top"), 1);
    CU_ASSERT(number(b, "kl_mean") > 0 && number(b, "kl_p999") > number(b, "kl_p50"));
    CU_ASSERT(number(b, "same_top") > 0 && number(b, "same_top") < 1);
    json_decref(a);
    json_decref(b);
}

static void what_was_not_compared_is_null(void)
{
    static const char *const keys[] = {"kl_mean", "kl_p50", "kl_p999", "same_top"};
    static struct capture capture;
    CU_ASSERT_EQUAL(RUN(command_lm, &capture, stdout, "lm", "perplexity", "--model", "tools/lm/softmax", "--text",
                        "tools/lm/softmax/config.json", "--context", "64", "--windows", "1", "--local", "--json", "--profile",
                        "window", "--no-compare"),
                    COMMAND_DONE);
    json_t *object = parsed(&capture);
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        CU_ASSERT(json_is_null(json_object_get(object, keys[k])));
    CU_ASSERT(number(object, "nll_per_token") > 0);
    json_decref(object);
}

static void a_trace_of_the_first_window_is_recorded(void)
{
    static const char *const kinds[] = {"softmax", "tensor"};
    static const size_t layers[] = {3, 1};
    static struct capture capture;
    char path[SUPPORT_PATH_BYTES];
    support_file(path, "");
    for (size_t i = 0; i < 2; i++) {
        struct trace trace;
        CU_ASSERT_EQUAL(RUN(command_lm, &capture, stdout, "lm", "perplexity", "--model", "tools/lm/tensor", "--text",
                            "tools/lm/tensor/config.json", "--context", "64", "--windows", "2", "--local", "--record", path,
                            "--record-kind", kinds[i]),
                        COMMAND_DONE);
        CU_ASSERT_PTR_NOT_NULL(strstr(capture.text, "KL from full       0 nats"));
        CU_ASSERT_EQUAL_FATAL(trace_load(&trace, path, NULL), 0);
        CU_ASSERT(trace.n_tokens == 64 && trace.shape.n_layers == layers[i]);
        CU_ASSERT_EQUAL(trace_kinds(&trace), 1U << i);
        CU_ASSERT(trace.shape.heads == 4 && trace.shape.kv_heads == 2 && trace.shape.key_dim == 32);
        trace_free(&trace);
    }
    unlink(path);
    CU_ASSERT_EQUAL(RUN(command_lm, &capture, stderr, "lm", "perplexity", "--model", "tools/lm/softmax", "--text",
                        "tools/lm/softmax/config.json", "--context", "64", "--windows", "1", "--local", "--record", path,
                        "--record-kind", "tensor"),
                    COMMAND_FAILED);
    CU_ASSERT_PTR_NOT_NULL(strstr(capture.text, "no layers of tensor attention"));
    CU_ASSERT_EQUAL(access(path, F_OK), -1);
}

static void wrong_words_about_records_are_told(void)
{
    static const struct {
        const char *option[4], *says;
    } calls[] = {
        {{"--record-kind", "softmax", NULL, NULL}, "say how to --record"},
        {{"--record", "/tmp/attnd_never", "--record-kind", "both"}, "must be softmax or tensor, not both"},
        {{"--record", "/tmp/attnd_never", "--record-element", "f16"}, "must be f32 or bf16, not f16"},
    };
    static struct capture capture;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        CU_ASSERT_EQUAL(RUN(command_lm, &capture, stderr, "lm", "perplexity", "--model", "tools/lm/softmax", "--text",
                            "tools/lm/softmax/config.json", "--context", "64", "--windows", "1", "--local", calls[i].option[0],
                            calls[i].option[1], calls[i].option[2], calls[i].option[3]),
                        COMMAND_USAGE);
        CU_ASSERT_PTR_NOT_NULL(strstr(capture.text, calls[i].says));
    }
    CU_ASSERT_EQUAL(RUN(command_lm, &capture, stderr, "lm", "perplexity", "--model", "tools/lm/softmax", "--text",
                        "tools/lm/softmax/config.json", "--context", "64", "--windows", "1", "--local", "--record",
                        "/tmp/attnd_nowhere/trace"),
                    COMMAND_FAILED);
    CU_ASSERT_PTR_NOT_NULL(strstr(capture.text, "/tmp/attnd_nowhere/trace: No such file"));
}

static void other_vocabularies_take_and_give_ids(void)
{
    static struct capture capture;
    char path[96];
    struct tiny_model tiny;
    const struct tiny_spec spec = {.model_type = "qwen3", .qk_norm = true, .type = TENSOR_F32};
    tiny_write(&tiny, &spec);
    snprintf(path, sizeof path, "%s/ids.txt", tiny.folder);
    FILE *f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    for (int i = 0; i < 20; i++)
        fprintf(f, "%d\n", i * 7 % TINY_VOCAB);
    fclose(f);
    CU_ASSERT_EQUAL(RUN(command_lm, &capture, stdout, "lm", "generate", "--model", tiny.folder, "--prompt-ids", path,
                        "--tokens", "5", "--local", "--json"),
                    COMMAND_DONE);
    json_t *object = parsed(&capture);
    char expected[64] = "";
    for (size_t i = 0; i < 5; i++)
        snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "%s%lld", i ? " " : "",
                 (long long)json_integer_value(json_array_get(json_object_get(object, "ids"), i)));
    CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(object, "text")), expected);
    json_decref(object);
    CU_ASSERT_EQUAL(RUN(command_lm, &capture, stdout, "lm", "perplexity", "--model", tiny.folder, "--tokens-file", path,
                        "--context", "10", "--windows", "2", "--local", "--json"),
                    COMMAND_DONE);
    object = parsed(&capture);
    CU_ASSERT(json_is_null(json_object_get(object, "bits_per_byte")) && number(object, "nll_per_token") > 0);
    json_decref(object);
    CU_ASSERT_EQUAL(RUN(command_lm, &capture, stderr, "lm", "generate", "--model", tiny.folder, "--prompt", "text", "--tokens",
                        "5", "--local"),
                    COMMAND_FAILED);
    CU_ASSERT_PTR_NOT_NULL(strstr(capture.text, "the model has 31 tokens"));
    unlink(path);
    tiny_remove(&tiny);
}

static void wrong_calls_have_their_own_exit_codes(void)
{
    static struct capture capture;
    CU_ASSERT_EQUAL(RUN(command_lm, &capture, stderr, "lm", "generate", "--model", "x", "--tokens", "5", "--local"),
                    COMMAND_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(capture.text, "one of --prompt and --prompt-ids is required"));
    CU_ASSERT_EQUAL(RUN(command_lm, &capture, stderr, "lm", "generate", "--model", "/tmp/attnd_nothing", "--prompt", "a",
                        "--tokens", "5", "--local"),
                    COMMAND_FAILED);
    CU_ASSERT_PTR_NOT_NULL(strstr(capture.text, "attn lm generate: /tmp/attnd_nothing/config.json"));
    CU_ASSERT_EQUAL(RUN(command_lm, &capture, stderr, "lm", "generate", "--model", "tools/lm/softmax", "--prompt", "",
                        "--tokens", "5", "--local"),
                    COMMAND_FAILED);
    CU_ASSERT_EQUAL(RUN(command_lm, &capture, stderr, "lm", "perplexity", "--model", "tools/lm/softmax", "--text",
                        "tools/lm/softmax/config.json", "--context", "1000000", "--windows", "5", "--local"),
                    COMMAND_FAILED);
    CU_ASSERT_PTR_NOT_NULL(strstr(capture.text, "too short for a context of 1000000"));
}

static void status_shows_the_daemon_as_table_and_json(void)
{
    static struct capture capture;
    struct daemon_here d;
    daemon_here_start(&d, "pools: [{name: left, threads: 1}]\n");
    CU_ASSERT_EQUAL(RUN(command_status, &capture, stdout, "status", "--endpoint", d.endpoint, "--json"), COMMAND_DONE);
    json_t *object = parsed(&capture);
    CU_ASSERT(json_is_object(json_object_get(object, "daemon")) && json_is_array(json_object_get(object, "pools")));
    json_decref(object);
    CU_ASSERT_EQUAL(RUN(command_status, &capture, stdout, "status", "--endpoint", d.endpoint), COMMAND_DONE);
    CU_ASSERT(strstr(capture.text, "uptime_seconds") && strstr(capture.text, "pools (1)") && strstr(capture.text, "left"));
    CU_ASSERT_EQUAL(RUN(command_status, &capture, stderr, "status", "--endpoint", d.endpoint, "--stream", "12345"),
                    COMMAND_FAILED);
    daemon_here_stop(&d);
}

static void reload_changes_the_daemon_or_says_why_not(void)
{
    static struct capture capture;
    struct daemon_here d;
    char path[SUPPORT_PATH_BYTES];
    daemon_here_start(&d, "pools: [{name: left, threads: 1}]\n");
    support_file(path, "pools: [{name: up, threads: 1}, {name: down, threads: 2}]\n");
    CU_ASSERT_EQUAL(RUN(command_reload, &capture, stdout, "reload", "--endpoint", d.endpoint, "--config", path, "--json"),
                    COMMAND_DONE);
    json_t *object = parsed(&capture);
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(object, "pools")), 2);
    CU_ASSERT_EQUAL(json_integer_value(json_object_get(object, "threads")), 3);
    json_decref(object);
    CU_ASSERT_EQUAL(RUN(command_status, &capture, stdout, "status", "--endpoint", d.endpoint), COMMAND_DONE);
    CU_ASSERT(strstr(capture.text, "pools (2)") && strstr(capture.text, "down"));
    CU_ASSERT_EQUAL(RUN(command_reload, &capture, stdout, "reload", "--endpoint", d.endpoint), COMMAND_DONE); /* its own file */
    CU_ASSERT(strstr(capture.text, "1 pools of 1 threads") != NULL);
    unlink(path);
    support_file(path, "isa: scalar\npools: [{name: two}]\n");
    CU_ASSERT_EQUAL(RUN(command_reload, &capture, stderr, "reload", "--endpoint", d.endpoint, "--config", path),
                    COMMAND_FAILED);
    CU_ASSERT(strstr(capture.text, "isa cannot change") != NULL);
    unlink(path);
    CU_ASSERT_EQUAL(RUN(command_reload, &capture, stderr, "reload", "--endpoint", d.endpoint, "--config", path),
                    COMMAND_FAILED);
    CU_ASSERT(strstr(capture.text, path) != NULL);
    daemon_here_stop(&d);
}

TEST_SUITE("tools/commands", TEST(generated_text_is_the_same_here_and_through_the_daemon),
           TEST(text_comes_as_bytes_without_json), TEST(perplexity_is_the_same_here_and_through_the_daemon),
           TEST(a_profile_changes_bytes_and_score), TEST(what_was_not_compared_is_null),
           TEST(a_trace_of_the_first_window_is_recorded), TEST(wrong_words_about_records_are_told),
           TEST(other_vocabularies_take_and_give_ids), TEST(wrong_calls_have_their_own_exit_codes),
           TEST(status_shows_the_daemon_as_table_and_json), TEST(reload_changes_the_daemon_or_says_why_not))
