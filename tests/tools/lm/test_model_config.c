#include "tests/test.h"

#include "tools/lm/model_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SIZES                                                                                                                  \
    "\"vocab_size\": 256, \"hidden_size\": 64, \"intermediate_size\": 96, \"num_hidden_layers\": 2, \"num_attention_heads\": " \
    "4"

static int parse(struct lm_config *c, const char *text, struct fault *fault)
{
    return lm_config_parse(c, text, strlen(text), "config.json", fault);
}

static void our_models_are_read(void)
{
    struct lm_config c;
    struct fault fault = {0};
    struct shape shape;
    CU_ASSERT_EQUAL_FATAL(lm_config_read(&c, "tools/lm/tensor/config.json", &fault), 0);
    CU_ASSERT(c.vocab == 256 && c.hidden == 256 && c.intermediate == 640 && c.n_layers == 4);
    CU_ASSERT(c.heads == 4 && c.kv_heads == 2 && c.head_dim == 32);
    CU_ASSERT(c.tied && !c.qkv_bias && !c.o_bias && !c.mlp_bias && !c.qk_norm && c.rope == LM_ROPE_PLAIN);
    ASSERT_NEAR(c.rms_eps, 1e-5, 0);
    CU_ASSERT(c.kind[0] == ATTENTION_SOFTMAX && c.kind[2] == ATTENTION_TENSOR && c.kind[3] == ATTENTION_SOFTMAX);
    lm_config_shape(&c, 512, &shape);
    CU_ASSERT(shape.n_layers == 4 && shape.kind[2] == ATTENTION_TENSOR && shape.heads == 4 && shape.kv_heads == 2);
    CU_ASSERT(shape.key_dim == 32 && shape.value_dim == 32 && shape.expected_tokens == 512 && shape.element == ELEMENT_F32);
    ASSERT_NEAR(shape.scale, 1 / sqrt(32), 1e-8);
    CU_ASSERT_EQUAL(shape_check(&shape, &fault), 0);
}

static void what_is_absent_has_the_defaults_of_the_layout(void)
{
    struct lm_config c;
    struct fault fault = {0};
    CU_ASSERT_EQUAL_FATAL(parse(&c, "{" SIZES ", \"rope_scaling\": null, \"head_dim\": null}", &fault), 0);
    CU_ASSERT(c.kv_heads == 4 && c.head_dim == 16 && !c.tied);
    ASSERT_NEAR(c.rope_theta, 10000, 0);
    ASSERT_NEAR(c.rms_eps, 1e-6, 0);
    CU_ASSERT_EQUAL_FATAL(parse(&c, "{\"model_type\": \"qwen3\", " SIZES "}", &fault), 0);
    CU_ASSERT(c.head_dim == 128 && c.qk_norm && !c.qkv_bias);
    CU_ASSERT_EQUAL_FATAL(parse(&c, "{\"model_type\": \"qwen2\", " SIZES ", \"attention_bias\": false}", &fault), 0);
    CU_ASSERT(c.qkv_bias && !c.o_bias && !c.qk_norm);
    CU_ASSERT_EQUAL_FATAL(parse(&c, "{" SIZES ", \"attention_bias\": true}", &fault), 0);
    CU_ASSERT(c.qkv_bias && c.o_bias);
}

static void both_places_of_rotary_settings_are_read(void)
{
    struct lm_config c;
    struct fault fault = {0};
    CU_ASSERT_EQUAL_FATAL(
        parse(&c, "{" SIZES ", \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 5e5}}", &fault), 0);
    CU_ASSERT(c.rope == LM_ROPE_PLAIN && c.rope_theta == 5e5);
    CU_ASSERT_EQUAL_FATAL(
        parse(&c,
              "{" SIZES ", \"rope_theta\": 5e5, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0,"
              " \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}}",
              &fault),
        0);
    CU_ASSERT(c.rope == LM_ROPE_LLAMA3 && c.rope_theta == 5e5 && c.rope_factor == 8 && c.rope_low == 1 && c.rope_high == 4 &&
              c.rope_context == 8192);
}

static const struct {
    const char *text;
    int err;
    const char *words;
} bad[] = {
    {"{\"vocab_size\": 256", ERR_MALFORMED, "config.json:1"},
    {"[]", ERR_MALFORMED, "not a JSON object"},
    {"{\"vocab_size\": 1, \"vocab_size\": 2}", ERR_MALFORMED, "duplicate"},
    {"{\"vocab_size\": 256}", ERR_INVALID, "hidden_size: must be a whole number"},
    {"{" SIZES ", \"num_key_value_heads\": 3}", ERR_INVALID, "num_key_value_heads: must divide"},
    {"{" SIZES ", \"num_key_value_heads\": 0}", ERR_INVALID, "num_key_value_heads: must be a whole number from 1"},
    {"{" SIZES ", \"head_dim\": 15}", ERR_INVALID, "head_dim: must be even"},
    {"{" SIZES ", \"head_dim\": 2000}", ERR_INVALID, "head_dim: must be a whole number from 1 to 1024"},
    {"{" SIZES ", \"head_dim\": 16.0}", ERR_INVALID, "head_dim: must be a whole number"},
    {"{" SIZES ", \"rms_norm_eps\": 0}", ERR_INVALID, "rms_norm_eps: must be a number above 0"},
    {"{" SIZES ", \"rms_norm_eps\": \"small\"}", ERR_INVALID, "rms_norm_eps: must be a number above 0"},
    {"{" SIZES ", \"tie_word_embeddings\": 1}", ERR_INVALID, "tie_word_embeddings: must be true or false"},
    {"{" SIZES ", \"model_type\": \"gpt2\"}", ERR_UNSUPPORTED, "model_type: 'gpt2'"},
    {"{" SIZES ", \"hidden_act\": \"gelu\"}", ERR_UNSUPPORTED, "hidden_act: 'gelu'"},
    {"{" SIZES ", \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4}}", ERR_UNSUPPORTED, "rope_scaling: 'yarn'"},
    {"{" SIZES ", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 4}}", ERR_UNSUPPORTED, "rope_scaling: 'dynamic'"},
    {"{" SIZES ", \"rope_scaling\": {\"type\": \"linear\"}}", ERR_INVALID, "factor: must be a number above 0"},
    {"{" SIZES ", \"rope_scaling\": 4}", ERR_INVALID, "rope_scaling: must be an object"},
    {"{" SIZES ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, \"high_freq_factor\": 4,"
     " \"original_max_position_embeddings\": 8192}}",
     ERR_INVALID, "low_freq_factor: must be below"},
    {"{" SIZES ", \"layer_attention\": [\"softmax\"]}", ERR_INVALID, "layer_attention: must name one kind per layer"},
    {"{" SIZES ", \"layer_attention\": [\"softmax\", \"linear\"]}", ERR_INVALID, "layer_attention: must hold"},
    {"{" SIZES ", \"layer_types\": [\"full_attention\", \"sliding_attention\"]}", ERR_UNSUPPORTED, "layer_types"},
    {"{" SIZES ", \"use_sliding_window\": true}", ERR_UNSUPPORTED, "use_sliding_window"},
    {"{" SIZES ", \"partial_rotary_factor\": 0.5}", ERR_UNSUPPORTED, "partial_rotary_factor"},
    {"{" SIZES ", \"quantization_config\": {\"bits\": 4}}", ERR_UNSUPPORTED, "quantization_config"},
};

static void what_cannot_be_computed_is_refused_by_name(void)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct lm_config c;
        struct fault fault = {0};
        int err = parse(&c, bad[i].text, &fault);
        if (err != bad[i].err || !strstr(fault.text, bad[i].words))
            printf("\n%s: %s, %s", bad[i].text, err_name(err), fault.text);
        CU_ASSERT_EQUAL(err, bad[i].err);
        CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, bad[i].words));
        CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, "config.json"));
    }
}

TEST_SUITE("tools/lm/model_config", TEST(our_models_are_read), TEST(what_is_absent_has_the_defaults_of_the_layout),
           TEST(both_places_of_rotary_settings_are_read), TEST(what_cannot_be_computed_is_refused_by_name))
