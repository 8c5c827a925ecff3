#include "tests/test.h"

#include "tests/tools/capture.h"
#include "tests/tools/daemon_here.h"
#include "tests/tools/lm/tiny_model.h"
#include "tools/command.h"

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
    static struct capture here, there;
    struct daemon_here d;
    daemon_here_start(&d, "");
    CU_ASSERT_EQUAL(RUN(command_lm, &here, stdout, "lm", "perplexity", "--model", "tools/lm/tensor", "--text",
                        "tools/lm/tensor/config.json", "--context", "64", "--windows", "3", "--local", "--json"),
                    COMMAND_DONE);
    CU_ASSERT_EQUAL(RUN(command_lm, &there, stdout, "lm", "perplexity", "--model", "tools/lm/tensor", "--text",
                        "tools/lm/tensor/config.json", "--context", "64", "--windows", "3", "--endpoint", d.endpoint, "--json"),
                    COMMAND_DONE);
    json_t *a = parsed(&here), *b = parsed(&there);
    CU_ASSERT(number(a, "bits_per_byte") == number(b, "bits_per_byte"));
    ASSERT_NEAR(number(a, "bits_per_byte") * log(2), number(a, "nll_per_token"), 1e-9);
    CU_ASSERT_EQUAL(number(a, "bytes_full_bf16"), 5 * 2 * 64 * 64 * 2); /* 3 + 2 row streams, kv heads, tokens, d + e, bytes */
    CU_ASSERT(number(a, "attention_seconds") <= number(a, "seconds"));
    json_decref(a);
    json_decref(b);
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
                        "window,budget_fraction=0.25"),
                    COMMAND_DONE);
    json_t *a = parsed(&full), *b = parsed(&window);
    CU_ASSERT(number(b, "bytes") <= 0.25 * number(b, "bytes_full_bf16"));
    CU_ASSERT(number(a, "bits_per_byte") != number(b, "bits_per_byte"));
    json_decref(a);
    json_decref(b);
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

TEST_SUITE("tools/commands", TEST(generated_text_is_the_same_here_and_through_the_daemon),
           TEST(text_comes_as_bytes_without_json), TEST(perplexity_is_the_same_here_and_through_the_daemon),
           TEST(a_profile_changes_bytes_and_score), TEST(other_vocabularies_take_and_give_ids),
           TEST(wrong_calls_have_their_own_exit_codes), TEST(status_shows_the_daemon_as_table_and_json))
