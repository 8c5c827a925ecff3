#include "tests/test.h"

#include "wire/control.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Of what an encoder returned, NULL included. */
static size_t length(const char *text)
{
    return text ? strlen(text) : 0;
}

static int says(const char *text, const char *what)
{
    return text && strstr(text, what);
}

static void hello_tells_the_client_everything(void)
{
    static struct control_hello hello, read;
    const char *profiles[] = {"full", "window", NULL};
    hello = (struct control_hello){.protocol = 1,
                                   .version = "0.1.0",
                                   .isa = "avx2",
                                   .instance = "i-1",
                                   .n_outputs = 2,
                                   .n_telemetry = 1,
                                   .message_bytes = 1,
                                   .parts = 2,
                                   .tokens_per_message = 3,
                                   .credit_bytes = (uint64_t)1 << 40,
                                   .profiles = profiles};
    strcpy(hello.outputs[0], "ipc:///a");
    strcpy(hello.outputs[1], "tcp://127.0.0.1:1");
    strcpy(hello.telemetry[0], "ipc:///b");
    uint64_t id;
    char *text = control_encode_hello(12, &hello);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    CU_ASSERT_TRUE(says(text, "\"profiles\":[\"full\",\"window\"]"));
    CU_ASSERT_EQUAL(control_decode_hello(text, length(text), &id, &read, NULL), 0);
    free(text);
    CU_ASSERT_EQUAL(id, 12);
    CU_ASSERT_PTR_NULL(read.profiles);
    CU_ASSERT_TRUE(read.protocol == 1 && read.n_outputs == 2 && read.n_telemetry == 1);
    CU_ASSERT_EQUAL(memcmp(hello.version, read.version, sizeof hello.version), 0);
    CU_ASSERT_EQUAL(memcmp(hello.isa, read.isa, sizeof hello.isa), 0);
    CU_ASSERT_EQUAL(memcmp(hello.instance, read.instance, sizeof hello.instance), 0);
    CU_ASSERT_EQUAL(memcmp(hello.outputs, read.outputs, sizeof hello.outputs), 0);
    CU_ASSERT_EQUAL(memcmp(hello.telemetry, read.telemetry, sizeof hello.telemetry), 0);
    CU_ASSERT_TRUE(read.message_bytes == 1 && read.parts == 2 && read.tokens_per_message == 3 &&
                   read.credit_bytes == (uint64_t)1 << 40);
}

static void open_tells_the_next_index_of_each_layer(void)
{
    static struct control_open open, read;
    open = (struct control_open){
        .stream = 7, .seed = UINT64_MAX, .isa = "scalar", .n_layers = SHAPE_LAYERS_MAX, .rules = "layer 0: full\n"};
    for (size_t i = 0; i < SHAPE_LAYERS_MAX; i++)
        open.next_token[i] = i * i;
    uint64_t id;
    char *text = control_encode_open(1, &open);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    CU_ASSERT_TRUE(says(text, "\"rules\":\"layer 0: full\\n\""));
    CU_ASSERT_EQUAL(control_decode_open(text, length(text), &id, &read, NULL), 0);
    free(text);
    CU_ASSERT_TRUE(read.stream == 7 && read.seed == UINT64_MAX && read.n_layers == SHAPE_LAYERS_MAX && read.rules == NULL);
    CU_ASSERT_STRING_EQUAL(read.isa, "scalar");
    CU_ASSERT_EQUAL(memcmp(open.next_token, read.next_token, sizeof open.next_token), 0);
}

static void reload_comes_back_as_it_was(void)
{
    const struct control_reload said = {.pools = 2, .threads = 3, .profiles = 18, .heads_moved = 64, .seconds = 0.25};
    struct control_reload read;
    uint64_t id;
    char *text = control_encode_reload(9, &said);
    CU_ASSERT_EQUAL(control_decode_reload(text, length(text), &id, &read, NULL), 0);
    CU_ASSERT(id == 9 && memcmp(&said, &read, sizeof said) == 0);
    free(text);
}

static void close_and_status_come_back_as_they_were(void)
{
    struct control_close close = {.bytes = 1, .bytes_full_bf16 = (uint64_t)1 << 50, .tokens = 3, .attention_seconds = 0.1},
                         read;
    uint64_t id;
    char *text = control_encode_close(2, &close);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    CU_ASSERT_EQUAL(control_decode_close(text, length(text), &id, &read, NULL), 0);
    free(text);
    CU_ASSERT_TRUE(read.bytes == 1 && read.bytes_full_bf16 == (uint64_t)1 << 50 && read.tokens == 3 &&
                   read.attention_seconds == 0.1);

    text = control_encode_status(UINT64_C(1) << 53, "{\"streams\":[1,2],\"x\":0.5}");
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    char *status = control_decode_status(text, length(text), &id, NULL);
    free(text);
    CU_ASSERT_TRUE(status && strcmp(status, "{\"streams\":[1,2],\"x\":0.5}") == 0);
    CU_ASSERT_EQUAL(id, UINT64_C(1) << 53);
    free(status);
}

static void every_error_reaches_the_client_with_its_words(void)
{
#define ASSERT_TRAVELS(name, wire, sentence, advice)                                                                           \
    {                                                                                                                          \
        struct fault fault, read;                                                                                              \
        struct control_close close;                                                                                            \
        uint64_t id = 0;                                                                                                       \
        fault_set(&fault, ERR_##name, "what, \"where\", why: %d", 5);                                                          \
        char *text = control_encode_fault(8, "close", &fault);                                                                 \
        CU_ASSERT_PTR_NOT_NULL_FATAL(text);                                                                                    \
        CU_ASSERT_TRUE(says(text, err_advice(ERR_##name)));                                                                    \
        CU_ASSERT_EQUAL(control_decode_close(text, length(text), &id, &close, &read), ERR_##name);                             \
        CU_ASSERT_EQUAL(read.err, ERR_##name);                                                                                 \
        CU_ASSERT_EQUAL(id, 8);                                                                                                \
        CU_ASSERT_STRING_EQUAL(read.text, "what, \"where\", why: 5");                                                          \
        free(text);                                                                                                            \
    }
    ERR_LIST(ASSERT_TRAVELS)
#undef ASSERT_TRAVELS
}

static void an_error_may_lack_its_op_and_its_words(void)
{
    struct fault fault = {.err = ERR_CLOSING};
    char *text = control_encode_fault(0, NULL, &fault);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    CU_ASSERT_FALSE(says(text, "\"op\""));
    CU_ASSERT_TRUE(says(text, err_sentence(ERR_CLOSING)));
    free(text);
}

static void a_sentence_cut_within_a_letter_still_travels(void)
{
    struct fault fault;
    fault_set(&fault, ERR_INVALID, "na\xc3");
    char *text = control_encode_fault(1, "open", &fault);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    CU_ASSERT_TRUE(says(text, "\"message\":\"na?\""));
    free(text);
}

static void faults_of_parts_come_back_with_what_is_expected(void)
{
    struct part_fault faults[3] = {{.part = 0}, {.part = 4095}, {.part = PART_WHOLE}}, read[3];
    size_t n;
    fault_set(&faults[0].fault, ERR_WRONG_INDEX, "first");
    faults[0].fault.expected = (unsigned long long)INT64_MAX;
    fault_set(&faults[1].fault, ERR_BUSY, "second"); /* expects 0, which must be said too */
    fault_set(&faults[2].fault, ERR_TOO_LARGE, "third");
    char *text = control_encode_faults(faults, 3);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    CU_ASSERT_TRUE(says(text, "\"expected\":0"));
    CU_ASSERT_EQUAL(control_decode_faults(text, length(text), read, 3, &n), 0);
    CU_ASSERT_EQUAL_FATAL(n, 3);
    for (size_t i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL(read[i].part, faults[i].part);
        CU_ASSERT_EQUAL(read[i].fault.err, faults[i].fault.err);
        CU_ASSERT_EQUAL(read[i].fault.expected, faults[i].fault.expected);
        CU_ASSERT_STRING_EQUAL(read[i].fault.text, faults[i].fault.text);
    }
    CU_ASSERT_EQUAL(control_decode_faults(text, length(text), read, 2, &n), ERR_TOO_LARGE);
    free(text);
    text = control_encode_faults(NULL, 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    CU_ASSERT_TRUE(text && strcmp(text, "[]") == 0);
    free(text);
    static const char *const bad[] = {"",
                                      "{}",
                                      "[1]",
                                      "[{}]",
                                      "[{\"code\":1}]",
                                      "[{\"code\":\"busy\",\"part\":-1}]",
                                      "[{\"code\":\"busy\",\"part\":4294967296}]",
                                      "[{\"code\":\"busy\",\"expected\":\"x\"}]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CU_ASSERT_NOT_EQUAL(control_decode_faults(bad[i], strlen(bad[i]), read, 3, &n), 0);
}

static void codes_of_a_newer_daemon_are_errors_all_the_same(void)
{
    static const char text[] = "{\"id\":3,\"ok\":false,\"error\":{\"code\":\"tired\",\"message\":\"later\"}}";
    struct fault fault;
    struct control_close close;
    uint64_t id;
    CU_ASSERT_EQUAL(control_decode_close(text, sizeof text - 1, &id, &close, &fault), ERR_INVALID);
    CU_ASSERT_STRING_EQUAL(fault.text, "later");
    static const char none[] = "{\"id\":3,\"ok\":false,\"error\":{\"code\":\"ok\"}}";
    CU_ASSERT_EQUAL(control_decode_close(none, sizeof none - 1, &id, &close, &fault), ERR_MALFORMED);
}

static void keys_of_a_newer_daemon_are_passed_over(void)
{
    static const char text[] =
        "{\"op\":\"close\",\"id\":3,\"ok\":true,\"mood\":[1],\"bytes\":1,\"bytes_full_bf16\":2,\"tokens\":3,"
        "\"attention_seconds\":4}";
    struct control_close close;
    uint64_t id;
    CU_ASSERT_EQUAL(control_decode_close(text, sizeof text - 1, &id, &close, NULL), 0);
    CU_ASSERT_TRUE(close.bytes == 1 && close.attention_seconds == 4);
}

static void replies_that_lack_something_are_malformed(void)
{
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"id\":1}",
        "{\"id\":1,\"ok\":false}",
        "{\"id\":1,\"ok\":1}",
        "{\"id\":1,\"ok\":true}",
        "{\"id\":1,\"ok\":false,\"error\":{}}",
        "{\"id\":1,\"ok\":false,\"error\":7}",
        "{\"id\":1,\"ok\":true,\"stream\":1,\"seed\":\"1\",\"next_token\":[\"x\"]}",
        "{\"id\":1,\"ok\":true,\"stream\":1,\"seed\":\"1x\",\"next_token\":[0]}",
        "{\"id\":1,\"ok\":true,\"stream\":1,\"seed\":1,\"next_token\":[0]}",
        "{\"id\":1,\"ok\":true,\"stream\":1,\"seed\":\"1\",\"next_token\":[-1]}",
    };
    static struct control_open open;
    static struct control_hello hello;
    struct control_close close;
    uint64_t id;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t n = strlen(bad[i]);
        CU_ASSERT_EQUAL(control_decode_open(bad[i], n, &id, &open, NULL), ERR_MALFORMED);
        CU_ASSERT_EQUAL(control_decode_hello(bad[i], n, &id, &hello, NULL), ERR_MALFORMED);
        CU_ASSERT_EQUAL(control_decode_close(bad[i], n, &id, &close, NULL), ERR_MALFORMED);
        CU_ASSERT_PTR_NULL(control_decode_status(bad[i], n, &id, NULL));
    }
}

static void any_replys_id_can_be_seen_first(void)
{
    uint64_t id;
    CU_ASSERT_EQUAL(control_peek_id("{\"id\":5}", 8, &id), 0);
    CU_ASSERT_EQUAL(id, 5);
    CU_ASSERT_EQUAL(control_peek_id("{\"id\":-5}", 9, &id), ERR_MALFORMED);
    CU_ASSERT_EQUAL(control_peek_id("{}", 2, &id), ERR_MALFORMED);
    CU_ASSERT_EQUAL(control_peek_id("{", 1, &id), ERR_MALFORMED);
}

static void telemetry_names_its_instance_and_sequence(void)
{
    static const char good[] = "{\"instance\":\"a\",\"x\":{},\"sequence\":4}", bad[] = "{\"instance\":\"a\"}";
    struct control_telemetry said;
    CU_ASSERT_EQUAL(control_decode_telemetry(good, sizeof good - 1, &said), 0);
    CU_ASSERT_STRING_EQUAL(said.instance, "a");
    CU_ASSERT_EQUAL(said.sequence, 4);
    CU_ASSERT_EQUAL(control_decode_telemetry(bad, sizeof bad - 1, &said), ERR_MALFORMED);
}

TEST_SUITE("lib/wire/control_reply", TEST(hello_tells_the_client_everything), TEST(open_tells_the_next_index_of_each_layer),
           TEST(reload_comes_back_as_it_was), TEST(close_and_status_come_back_as_they_were),
           TEST(every_error_reaches_the_client_with_its_words), TEST(an_error_may_lack_its_op_and_its_words),
           TEST(a_sentence_cut_within_a_letter_still_travels), TEST(faults_of_parts_come_back_with_what_is_expected),
           TEST(codes_of_a_newer_daemon_are_errors_all_the_same), TEST(keys_of_a_newer_daemon_are_passed_over),
           TEST(replies_that_lack_something_are_malformed), TEST(any_replys_id_can_be_seen_first),
           TEST(telemetry_names_its_instance_and_sequence))
