#include "tests/test.h"

#include "wire/control.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct control_request request; /* large: a shape has room for all its sink logits */

static int decode(const char *text, struct fault *fault)
{
    return control_decode_request(text, text ? strlen(text) : 0, &request, fault);
}

#define SHAPE                                                                                                                  \
    "\"layers\":[{\"count\":1,\"attention\":\"softmax\"}],\"heads\":2,\"kv_heads\":1,\"key_dim\":4,\"value_dim\":3,"           \
    "\"expected_tokens\":9"
#define OPEN(shape) "{\"op\":\"open\",\"id\":5,\"name\":\"a\",\"shape\":{" shape "}}"

static void hello_close_and_status_are_read(void)
{
    CU_ASSERT_EQUAL(decode("{\"op\":\"hello\",\"id\":1,\"version\":3}", NULL), 0);
    CU_ASSERT_TRUE(request.op == CONTROL_HELLO && request.id == 1 && request.version == 3);
    CU_ASSERT_EQUAL(decode("{\"stream\":9007199254740992,\"id\":0,\"op\":\"close\"}", NULL), 0);
    CU_ASSERT_TRUE(request.op == CONTROL_CLOSE && request.id == 0 && request.stream == (uint64_t)1 << 53);
    CU_ASSERT_EQUAL(decode(" {\"op\":\"status\",\"id\":7} \n", NULL), 0);
    CU_ASSERT_TRUE(request.op == CONTROL_STATUS && request.id == 7 && request.stream == 0);
    CU_ASSERT_EQUAL(decode("{\"op\":\"status\",\"id\":7,\"stream\":4}", NULL), 0);
    CU_ASSERT_EQUAL(request.stream, 4);
}

static void reload_brings_a_text_or_none(void)
{
    CU_ASSERT_EQUAL(decode("{\"op\":\"reload\",\"id\":7}", NULL), 0);
    CU_ASSERT(request.op == CONTROL_RELOAD && request.config == NULL);
    CU_ASSERT_EQUAL(decode("{\"op\":\"reload\",\"id\":7,\"config\":\"a: 1\\n\",\"file\":\"b.yaml\"}", NULL), 0);
    CU_ASSERT_STRING_EQUAL(request.config, "a: 1\n");
    CU_ASSERT_STRING_EQUAL(request.file, "b.yaml");
    char *text = control_encode_request(&request);
    free(request.config);
    CU_ASSERT_EQUAL(decode(text, NULL), 0);
    CU_ASSERT(request.config && strcmp(request.config, "a: 1\n") == 0 && strcmp(request.file, "b.yaml") == 0);
    free(request.config);
    free(text);
    CU_ASSERT_EQUAL(decode("{\"op\":\"reload\",\"id\":7,\"config\":3}", NULL), ERR_MALFORMED);
    CU_ASSERT_EQUAL(decode("{\"op\":\"reload\",\"id\":7,\"path\":\"x\"}", NULL), ERR_MALFORMED);
}

static void confirm_tells_what_arrived_of_each_layer(void)
{
    CU_ASSERT_EQUAL_FATAL(decode("{\"op\":\"confirm\",\"id\":8,\"stream\":4,\"received\":[7,0,9007199254740992]}", NULL), 0);
    CU_ASSERT(request.op == CONTROL_CONFIRM && request.id == 8 && request.stream == 4 && request.n_layers == 3);
    CU_ASSERT(request.received[0] == 7 && request.received[1] == 0 && request.received[2] == (uint64_t)1 << 53);
    char *text = control_encode_request(&request);
    CU_ASSERT_STRING_EQUAL(text, "{\"op\":\"confirm\",\"id\":8,\"stream\":4,\"received\":[7,0,9007199254740992]}");
    free(text);
    static const char *const bad[] = {"[]", "[-1]", "[1.5]", "[\"1\"]", "[9007199254740993]", "7"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char wrong[128];
        snprintf(wrong, sizeof wrong, "{\"op\":\"confirm\",\"id\":8,\"stream\":4,\"received\":%s}", bad[i]);
        CU_ASSERT(decode(wrong, NULL) != 0);
    }
    CU_ASSERT_EQUAL(decode("{\"op\":\"confirm\",\"id\":8,\"stream\":4}", NULL), ERR_MALFORMED);
    CU_ASSERT_EQUAL(decode("{\"op\":\"confirm\",\"id\":8,\"received\":[1]}", NULL), ERR_MALFORMED);
}

static void open_fills_in_what_is_left_out(void)
{
    CU_ASSERT_EQUAL_FATAL(decode(OPEN(SHAPE), NULL), 0);
    CU_ASSERT_STRING_EQUAL(request.name, "a");
    CU_ASSERT_STRING_EQUAL(request.profile, "full");
    CU_ASSERT_FALSE(request.resume);
    CU_ASSERT_EQUAL(request.shape.element, ELEMENT_F32);
    CU_ASSERT_EQUAL(request.shape.scale, 0.5f); /* 1 / sqrt(4) */
    CU_ASSERT_EQUAL(request.shape.n_sink_logits, 0);
    CU_ASSERT_EQUAL(request.shape.expected_tokens, 9);
}

static void layer_groups_follow_one_another(void)
{
    CU_ASSERT_EQUAL_FATAL(
        decode("{\"op\":\"open\",\"id\":1,\"name\":\"x\",\"resume\":true,\"profile\":\"window,budget_fraction=0.5\",\"shape\":{"
               "\"layers\":[{\"count\":3,\"attention\":\"softmax\"},{\"attention\":\"tensor\",\"count\":1},"
               "{\"count\":1020,\"attention\":\"softmax\"}],\"heads\":1024,\"kv_heads\":512,\"key_dim\":1024,\"value_dim\":1,"
               "\"scale\":1,\"element\":\"bf16\",\"expected_tokens\":0}}",
               NULL),
        0);
    CU_ASSERT_TRUE(request.resume);
    CU_ASSERT_STRING_EQUAL(request.profile, "window,budget_fraction=0.5");
    CU_ASSERT_EQUAL(request.shape.n_layers, 1024);
    CU_ASSERT_TRUE(request.shape.kind[2] == ATTENTION_SOFTMAX && request.shape.kind[3] == ATTENTION_TENSOR &&
                   request.shape.kind[4] == ATTENTION_SOFTMAX);
    CU_ASSERT_EQUAL(request.shape.element, ELEMENT_BF16);
    CU_ASSERT_EQUAL(request.shape.scale, 1.0f);
}

static void what_is_encoded_decodes_to_the_same(void)
{
    static struct control_request original;
    original = (struct control_request){
        .op = CONTROL_OPEN, .id = 77, .name = "chat-1.b_C", .profile = "window,window_tokens=8x4", .resume = true};
    struct shape *s = &original.shape;
    *s = (struct shape){.n_layers = 5,
                        .heads = 6,
                        .kv_heads = 3,
                        .key_dim = 7,
                        .value_dim = 9,
                        .scale = 0.1f,
                        .element = ELEMENT_F16,
                        .expected_tokens = 123456,
                        .n_sink_logits = 6};
    s->kind[1] = s->kind[4] = ATTENTION_TENSOR;
    for (size_t i = 0; i < 6; i++)
        s->sink_logit[i] = sinf((float)i) * 1e-3f;
    char *text = control_encode_request(&original);
    CU_ASSERT_PTR_NOT_NULL_FATAL(text);
    CU_ASSERT_TRUE(control_is(text, 1));
    CU_ASSERT_EQUAL_FATAL(decode(text, NULL), 0);
    free(text);
    CU_ASSERT_TRUE(request.op == original.op && request.id == original.id && request.resume);
    CU_ASSERT_STRING_EQUAL(request.name, original.name);
    CU_ASSERT_STRING_EQUAL(request.profile, original.profile);
    CU_ASSERT_TRUE(request.shape.n_layers == 5 && memcmp(request.shape.kind, s->kind, 5) == 0);
    CU_ASSERT_TRUE(request.shape.heads == 6 && request.shape.kv_heads == 3 && request.shape.key_dim == 7 &&
                   request.shape.value_dim == 9);
    CU_ASSERT_TRUE(request.shape.scale == 0.1f && request.shape.element == ELEMENT_F16 &&
                   request.shape.expected_tokens == 123456);
    CU_ASSERT_EQUAL(request.shape.n_sink_logits, 6);
    for (size_t i = 0; i < 6; i++)
        CU_ASSERT_EQUAL(request.shape.sink_logit[i], s->sink_logit[i]); /* to the bit */

    static const struct control_request others[] = {{.op = CONTROL_HELLO, .id = 1, .version = 1},
                                                    {.op = CONTROL_CLOSE, .id = 2, .stream = 5},
                                                    {.op = CONTROL_STATUS, .id = 3, .stream = 0}};
    for (size_t i = 0; i < 3; i++) {
        text = control_encode_request(&others[i]);
        CU_ASSERT_PTR_NOT_NULL_FATAL(text);
        CU_ASSERT_EQUAL(decode(text, NULL), 0);
        free(text);
        CU_ASSERT_TRUE(request.op == others[i].op && request.id == others[i].id && request.stream == others[i].stream &&
                       request.version == others[i].version);
    }
}

static void every_bad_request_is_refused_by_name(void)
{
    static const struct {
        const char *text;
        int err;
        const char *says;
    } bad[] = {
        {"", ERR_MALFORMED, "JSON"},
        {"{", ERR_MALFORMED, "JSON"},
        {"[]", ERR_MALFORMED, "object"},
        {"{} x", ERR_MALFORMED, "JSON"},
        {"{}", ERR_MALFORMED, "op"},
        {"{\"op\":1,\"id\":1}", ERR_MALFORMED, "op"},
        {"{\"op\":\"shut\",\"id\":1}", ERR_MALFORMED, "shut"},
        {"{\"op\":\"hello\",\"version\":1}", ERR_MALFORMED, "\"id\" is missing"},
        {"{\"op\":\"hello\",\"id\":1}", ERR_MALFORMED, "\"version\" is missing"},
        {"{\"op\":\"hello\",\"id\":-1,\"version\":1}", ERR_INVALID, "\"id\""},
        {"{\"op\":\"hello\",\"id\":9007199254740993,\"version\":1}", ERR_INVALID, "\"id\""},
        {"{\"op\":\"hello\",\"id\":99999999999999999999,\"version\":1}", ERR_MALFORMED, "integer"},
        {"{\"op\":\"hello\",\"id\":1.0,\"version\":1}", ERR_MALFORMED, "\"id\""},
        {"{\"op\":\"hello\",\"id\":\"1\",\"version\":1}", ERR_MALFORMED, "\"id\""},
        {"{\"op\":\"hello\",\"id\":1,\"version\":0}", ERR_INVALID, "\"version\""},
        {"{\"op\":\"hello\",\"id\":1,\"version\":65536}", ERR_INVALID, "\"version\""},
        {"{\"op\":\"hello\",\"id\":1,\"id\":1,\"version\":1}", ERR_MALFORMED, "duplicate"},
        {"{\"op\":\"hello\",\"id\":1,\"version\":1,\"color\":2}", ERR_MALFORMED, "unknown key \"color\""},
        {"{\"op\":\"close\",\"id\":1}", ERR_MALFORMED, "\"stream\" is missing"},
        {"{\"op\":\"close\",\"id\":1,\"stream\":0}", ERR_INVALID, "\"stream\""},
        {"{\"op\":\"close\",\"id\":1,\"stream\":null}", ERR_MALFORMED, "\"stream\""},
        {"{\"op\":\"open\",\"id\":1,\"name\":\"a\"}", ERR_MALFORMED, "\"shape\" is missing"},
        {"{\"op\":\"open\",\"id\":1,\"name\":\"a\",\"shape\":[]}", ERR_MALFORMED, "\"shape\""},
        {"{\"op\":\"open\",\"id\":1,\"name\":\"\",\"shape\":{" SHAPE "}}", ERR_INVALID, "\"name\""},
        {"{\"op\":\"open\",\"id\":1,\"name\":\"a b\",\"shape\":{" SHAPE "}}", ERR_INVALID, "\"name\""},
        {"{\"op\":\"open\",\"id\":1,\"name\":\"a/b\",\"shape\":{" SHAPE "}}", ERR_INVALID, "\"name\""},
        {"{\"op\":\"open\",\"id\":1,\"name\":\"\xc3\xa9\",\"shape\":{" SHAPE "}}", ERR_INVALID, "\"name\""},
        {"{\"op\":\"open\",\"id\":1,\"name\":\"a\\u0000b\",\"shape\":{" SHAPE "}}", ERR_MALFORMED, "JSON"},
        {"{\"op\":\"open\",\"id\":1,\"name\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"shape\":"
         "{" SHAPE "}}",
         ERR_INVALID, "\"name\""},
        {"{\"op\":\"open\",\"id\":1,\"name\":\"a\",\"profile\":\"\",\"shape\":{" SHAPE "}}", ERR_INVALID, "\"profile\""},
        {"{\"op\":\"open\",\"id\":1,\"name\":\"a\",\"resume\":1,\"shape\":{" SHAPE "}}", ERR_MALFORMED, "\"resume\""},
        {OPEN(SHAPE ",\"depth\":1"), ERR_MALFORMED, "shape: unknown key \"depth\""},
        {OPEN(SHAPE ",\"scale\":\"x\""), ERR_MALFORMED, "\"scale\""},
        {OPEN(SHAPE ",\"scale\":0"), ERR_INVALID, "scale"},
        {OPEN(SHAPE ",\"scale\":-1"), ERR_INVALID, "scale"},
        {OPEN(SHAPE ",\"scale\":1e39"), ERR_INVALID, "\"scale\""},
        {OPEN(SHAPE ",\"scale\":1e999"), ERR_MALFORMED, "JSON"},
        {OPEN(SHAPE ",\"scale\":NaN"), ERR_MALFORMED, "JSON"},
        {OPEN(SHAPE ",\"scale\":Infinity"), ERR_MALFORMED, "JSON"},
        {OPEN(SHAPE ",\"scale\":1e-50"), ERR_INVALID, "scale"}, /* 0 as a float */
        {OPEN(SHAPE ",\"element\":\"f64\""), ERR_INVALID, "\"element\""},
        {OPEN(SHAPE ",\"element\":1"), ERR_MALFORMED, "\"element\""},
        {OPEN(SHAPE ",\"sink_logits\":[0]"), ERR_INVALID, "sink_logits"},
        {OPEN(SHAPE ",\"sink_logits\":[0,null]"), ERR_MALFORMED, "sink_logits[1]"},
        {OPEN(SHAPE ",\"sink_logits\":[0,-1e39]"), ERR_INVALID, "sink_logits"},
        {OPEN("\"heads\":2"), ERR_MALFORMED, "\"layers\" is missing"},
        {OPEN("\"layers\":[],\"heads\":2,\"kv_heads\":1,\"key_dim\":4,\"value_dim\":3,\"expected_tokens\":9"), ERR_INVALID,
         "\"layers\""},
        {OPEN("\"layers\":[1],\"heads\":2,\"kv_heads\":1,\"key_dim\":4,\"value_dim\":3,\"expected_tokens\":9"), ERR_MALFORMED,
         "layers[0]"},
        {OPEN("\"layers\":[{\"count\":1}],\"heads\":2,\"kv_heads\":1,\"key_dim\":4,\"value_dim\":3,\"expected_tokens\":9"),
         ERR_MALFORMED, "\"attention\" is missing"},
        {OPEN("\"layers\":[{\"count\":0,\"attention\":\"softmax\"}],\"heads\":2,\"kv_heads\":1,\"key_dim\":4,\"value_dim\":3,"
              "\"expected_tokens\":9"),
         ERR_INVALID, "\"count\""},
        {OPEN("\"layers\":[{\"count\":1,\"attention\":\"linear\"}],\"heads\":2,\"kv_heads\":1,\"key_dim\":4,\"value_dim\":3,"
              "\"expected_tokens\":9"),
         ERR_INVALID, "linear"},
        {OPEN("\"layers\":[{\"count\":1000,\"attention\":\"softmax\"},{\"count\":25,\"attention\":\"tensor\"}],\"heads\":2,"
              "\"kv_heads\":1,"
              "\"key_dim\":4,\"value_dim\":3,\"expected_tokens\":9"),
         ERR_TOO_LARGE, "layers"},
        {OPEN("\"layers\":[{\"count\":1,\"attention\":\"softmax\"}],\"heads\":3,\"kv_heads\":2,\"key_dim\":4,\"value_dim\":3,"
              "\"expected_tokens\":9"),
         ERR_INVALID, "multiple"},
        {OPEN("\"layers\":[{\"count\":1,\"attention\":\"softmax\"}],\"heads\":2,\"kv_heads\":0,\"key_dim\":4,\"value_dim\":3,"
              "\"expected_tokens\":9"),
         ERR_INVALID, "\"kv_heads\""},
        {OPEN("\"layers\":[{\"count\":1,\"attention\":\"softmax\"}],\"heads\":2,\"kv_heads\":1,\"key_dim\":1025,\"value_dim\":"
              "3,\"expected_tokens\":9"),
         ERR_INVALID, "\"key_dim\""},
        {OPEN("\"layers\":[{\"count\":1,\"attention\":\"softmax\"}],\"heads\":2,\"kv_heads\":1,\"key_dim\":4,\"value_dim\":3"),
         ERR_MALFORMED, "\"expected_tokens\" is missing"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fault fault = {0};
        int err = decode(bad[i].text, &fault), named = strstr(fault.text, bad[i].says) != NULL;
        if (err != bad[i].err || !named)
            printf("\n%s: %s, %s", bad[i].text, err_name(err), fault.text);
        CU_ASSERT_EQUAL(err, bad[i].err);
        CU_ASSERT_EQUAL(fault.err, bad[i].err);
        CU_ASSERT_TRUE(named);
    }
}

static void a_request_cut_anywhere_is_refused(void)
{
    const char *text = OPEN(SHAPE);
    for (size_t n = 0; n < strlen(text); n++) {
        char *exact = malloc(n + !n);
        CU_ASSERT_PTR_NOT_NULL(exact);
        if (!exact)
            return;
        memcpy(exact, text, n);
        CU_ASSERT_EQUAL(control_decode_request(exact, n, &request, NULL), ERR_MALFORMED);
        free(exact);
    }
}

static void a_refusal_can_repeat_op_and_id(void)
{
    CU_ASSERT_NOT_EQUAL(decode("{\"op\":\"close\",\"id\":31}", NULL), 0);
    CU_ASSERT_TRUE(request.op == CONTROL_CLOSE && request.id == 31);
    CU_ASSERT_STRING_EQUAL(control_op_name(request.op), "close");
    CU_ASSERT_NOT_EQUAL(decode("{\"op\":\"shut\",\"id\":32}", NULL), 0);
    CU_ASSERT_TRUE(request.op == N_CONTROL && request.id == 32);
    CU_ASSERT_PTR_NULL(control_op_name(request.op));
    CU_ASSERT_NOT_EQUAL(decode("{\"op\":\"close\",\"id\":-3}", NULL), 0);
    CU_ASSERT_EQUAL(request.id, 0);
}

static void long_and_deep_texts_are_bounded(void)
{
    size_t n = CONTROL_TEXT_MAX + 1;
    char *text = malloc(n);
    CU_ASSERT_PTR_NOT_NULL(text);
    if (!text)
        return;
    memset(text, ' ', n);
    text[0] = '{';
    text[n - 1] = '}';
    CU_ASSERT_EQUAL(control_decode_request(text, n, &request, NULL), ERR_TOO_LARGE);
    memset(text, '[', n);
    CU_ASSERT_EQUAL(control_decode_request(text, CONTROL_TEXT_MAX, &request, NULL), ERR_MALFORMED);
    free(text);
}

static void only_a_brace_makes_control(void)
{
    CU_ASSERT_TRUE(control_is("{", 1));
    CU_ASSERT_FALSE(control_is("{", 0));
    CU_ASSERT_FALSE(control_is("ATND", 4));
    CU_ASSERT_FALSE(control_is(" {", 2));
}

TEST_SUITE("lib/wire/control_request", TEST(hello_close_and_status_are_read), TEST(reload_brings_a_text_or_none),
           TEST(confirm_tells_what_arrived_of_each_layer), TEST(open_fills_in_what_is_left_out),
           TEST(layer_groups_follow_one_another), TEST(what_is_encoded_decodes_to_the_same),
           TEST(every_bad_request_is_refused_by_name), TEST(a_request_cut_anywhere_is_refused),
           TEST(a_refusal_can_repeat_op_and_id), TEST(long_and_deep_texts_are_bounded), TEST(only_a_brace_makes_control))
