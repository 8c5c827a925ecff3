#include "tests/test.h"

#include "tests/tools/capture.h"
#include "tools/command.h"
#include "tools/service.h"

#include <stdio.h>
#include <string.h>

struct target {
    bool json;
    const char *model;
    uint64_t tokens;
    double temperature;
};

static const struct command_option table[] = {
    {"--json", NULL, OPTION_SWITCH, offsetof(struct target, json), 0, 0, false, "as JSON"},
    {"--model", "DIR", OPTION_TEXT, offsetof(struct target, model), 0, 0, true, "the model"},
    {"--tokens", "N", OPTION_COUNT, offsetof(struct target, tokens), 1, 100, false, "how many"},
    {"--temperature", "T", OPTION_NUMBER, offsetof(struct target, temperature), 0, 2, false, "how hot"},
};

static int parse(struct target *target, struct service_options *service, const char *words)
{
    char text[200], *argv[16];
    int argc = 1;
    char name[] = "test";
    const struct option_group groups[] = {{table, 4, target}, {service_option_table, n_service_options, service}};
    *target = (struct target){.tokens = 7};
    *service = (struct service_options){0};
    argv[0] = name;
    snprintf(text, sizeof text, "%s", words);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    int code = command_parse("attn test", "Tests.", groups, 2, argc, argv);
    return code == COMMAND_GO_ON ? service_check_options("attn test", service) : code;
}

static void options_are_read_in_both_forms(void)
{
    char words[][16] = {"test", "--json", "--model=a=b", "--temperature", "0.5"};
    char *argv[] = {words[0], words[1], words[2], words[3], words[4], NULL};
    struct target t = {.tokens = 7};
    const struct option_group group = {table, 4, &t};
    CU_ASSERT_EQUAL(command_parse("attn test", "", &group, 1, 5, argv), COMMAND_GO_ON);
    CU_ASSERT(t.json && t.tokens == 7 && t.temperature == 0.5);
    CU_ASSERT_STRING_EQUAL(t.model, "a=b");
}

static void wrong_usage_names_the_option(void)
{
    static const struct {
        const char *words, *says;
    } wrong[] = {
        {"--model a --tokens 0", "--tokens must be a whole number from 1 to 100, not '0'"},
        {"--model a --tokens 101", "--tokens must be a whole number from 1 to 100, not '101'"},
        {"--model a --tokens -3", "--tokens must be a whole number"},
        {"--model a --tokens 3x", "not '3x'"},
        {"--model a --tokens 99999999999999999999", "--tokens must be"},
        {"--model a --temperature nan", "--temperature must be a number from 0 to 2, not 'nan'"},
        {"--model a --temperature 3", "--temperature must be a number from 0 to 2"},
        {"--model a --tokens", "--tokens needs a value (N)"},
        {"--model a --model b", "--model is given twice"},
        {"--tokens 3", "--model DIR is required"},
        {"--model a --mode b", "there is no option --mode"},
        {"--model a b", "'b' is not an option"},
        {"--model a --json=1", "--json takes no value"},
        {"--model a --local --endpoint tcp://x", "--local and --endpoint exclude each other"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct target target;
        struct service_options service;
        static struct capture capture;
        const char *text = capture.text;
        capture_begin(&capture, stderr);
        int code = parse(&target, &service, wrong[i].words);
        capture_end(&capture);
        if (!strstr(text, wrong[i].says))
            printf("\n%s: %s", wrong[i].words, text);
        CU_ASSERT_EQUAL(code, COMMAND_USAGE);
        CU_ASSERT_PTR_NOT_NULL(strstr(text, wrong[i].says));
        CU_ASSERT_EQUAL(strncmp(text, "attn test: ", 11), 0);
    }
}

static void help_lists_every_option_and_ends_well(void)
{
    struct target target;
    struct service_options service;
    static struct capture capture;
    const char *text = capture.text;
    capture_begin(&capture, stdout);
    int code = parse(&target, &service, "--help");
    capture_end(&capture);
    CU_ASSERT_EQUAL(code, COMMAND_DONE);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "--model DIR"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "(required)"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "--endpoint EP"));
}

static int three(int argc, char **argv)
{
    return argc == 2 && strcmp(argv[0], "three") == 0 && strcmp(argv[1], "x") == 0 ? 3 : 4;
}

static int asked_for_help(int argc, char **argv)
{
    return argc == 2 && strcmp(argv[1], "--help") == 0 ? 5 : 6;
}

static int dispatch(const char *a, const char *b, FILE *stream, struct capture *capture)
{
    static const struct command commands[] = {{"three", "returns 3", three}, {"helped", "wants help", asked_for_help}};
    char words[3][16] = {"attn", "", ""}, *argv[] = {words[0], words[1], words[2], NULL};
    snprintf(words[1], 16, "%s", a);
    snprintf(words[2], 16, "%s", b);
    capture_begin(capture, stream);
    int code = command_dispatch("attn", commands, 2, 1 + (*a != 0) + (*b != 0), argv);
    capture_end(capture);
    return code;
}

static void subcommands_are_found_by_name(void)
{
    static struct capture capture;
    const char *text = capture.text;
    CU_ASSERT_EQUAL(dispatch("three", "x", stdout, &capture), 3);
    CU_ASSERT_EQUAL(dispatch("help", "helped", stdout, &capture), 5);
    CU_ASSERT_EQUAL(dispatch("help", "", stdout, &capture), COMMAND_DONE);
    CU_ASSERT(strstr(text, "three") && strstr(text, "wants help"));
    CU_ASSERT_EQUAL(dispatch("", "", stderr, &capture), COMMAND_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "three"));
    CU_ASSERT_EQUAL(dispatch("four", "", stderr, &capture), COMMAND_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "there is no subcommand 'four'"));
}

static void a_failure_tells_what_and_what_to_do(void)
{
    struct fault fault;
    static struct capture capture;
    const char *text = capture.text;
    fault_set(&fault, ERR_TIMEOUT, "hello to ipc:///x: no answer in 30 s");
    capture_begin(&capture, stderr);
    CU_ASSERT_EQUAL(command_failed("attn lm", &fault), COMMAND_FAILED);
    capture_end(&capture);
    CU_ASSERT_STRING_EQUAL(text,
                           "attn lm: hello to ipc:///x: no answer in 30 s (check that the daemon runs at this endpoint)\n");
}

static void an_answer_is_one_line_of_json_or_a_failure(void)
{
    static struct capture capture;
    const char *text = capture.text;
    capture_begin(&capture, stdout);
    CU_ASSERT_EQUAL(command_print_json("attn test", json_pack("{s:f, s:i}", "a", 0.1, "b", 2)), COMMAND_DONE);
    capture_end(&capture);
    CU_ASSERT_STRING_EQUAL(text, "{\"a\":0.1,\"b\":2}\n");
    capture_begin(&capture, stderr);
    CU_ASSERT_EQUAL(command_print_json("attn test", json_real(0.0 / 0.0)), COMMAND_FAILED);
    capture_end(&capture);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "not finite"));
}

TEST_SUITE("tools/command", TEST(options_are_read_in_both_forms), TEST(wrong_usage_names_the_option),
           TEST(help_lists_every_option_and_ends_well), TEST(subcommands_are_found_by_name),
           TEST(a_failure_tells_what_and_what_to_do), TEST(an_answer_is_one_line_of_json_or_a_failure))
