#include "tests/test.h"

#include "tests/tools/lm/tiny_model.h"
#include "tests/tools/naive_service.h"
#include "tools/lm/forward.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { N = 12, N_LOGITS = N * TINY_VOCAB };
static const unsigned ids[N] = {3, 1, 30, 7, 7, 0, 15, 22, 4, 9, 11, 2};

/* Largest difference of the model's logits from the float64 forward pass, relative to the largest logit. */
static double difference(const struct tiny_spec *spec)
{
    static double expected[N_LOGITS];
    static float logits[N_LOGITS];
    struct tiny_model tiny;
    struct fault fault = {0};
    struct lm_model *model;
    struct lm_forward *f;
    const float *hidden;
    tiny_write(&tiny, spec);
    tiny_forward(&tiny, ids, N, expected);
    int err = lm_model_load(&model, tiny.folder, &fault);
    if (err)
        printf("\n%s", fault.text);
    CU_ASSERT_EQUAL_FATAL(err, 0);
    struct attention_service *service = naive_service(UINT64_MAX);
    CU_ASSERT_EQUAL_FATAL(lm_forward_create(&f, model, service, &fault), 0);
    CU_ASSERT_EQUAL_FATAL(lm_forward_begin(f, "full", N, &fault), 0);
    CU_ASSERT_EQUAL_FATAL(lm_forward_run(f, ids, N, &hidden, &fault), 0);
    lm_forward_logits(f, hidden, N, logits);
    double worst = 0, largest = 0;
    for (size_t i = 0; i < N_LOGITS; i++) {
        worst = fmax(worst, fabs(logits[i] - expected[i]));
        largest = fmax(largest, fabs(expected[i]));
    }
    lm_forward_destroy(f);
    service_destroy(service);
    lm_model_destroy(model);
    tiny_remove(&tiny);
    return worst / largest;
}

static void llama_with_every_bias_and_its_own_head_matches_float64(void)
{
    const struct tiny_spec spec = {
        .model_type = "llama", .qkv_bias = true, .o_bias = true, .mlp_bias = true, .type = TENSOR_F32};
    ASSERT_NEAR(difference(&spec), 0, 1e-5);
}

static void qwen2_with_biases_on_q_k_v_matches_float64(void)
{
    const struct tiny_spec spec = {.model_type = "qwen2", .qkv_bias = true, .tied = true, .type = TENSOR_BF16};
    ASSERT_NEAR(difference(&spec), 0, 1e-5);
}

static void qwen3_with_norms_on_q_and_k_matches_float64(void)
{
    const struct tiny_spec spec = {.model_type = "qwen3", .qk_norm = true, .type = TENSOR_F16};
    ASSERT_NEAR(difference(&spec), 0, 1e-5);
}

static void shards_are_one_model(void)
{
    const struct tiny_spec spec = {.model_type = "qwen3", .qk_norm = true, .type = TENSOR_F32, .shards = 3};
    ASSERT_NEAR(difference(&spec), 0, 1e-5);
}

static double halved(double frequency)
{
    return frequency / 2;
}

/* As the definition of Llama 3.1 has it, by wavelengths: factor 8, low 1, high 4, context 256. */
static double llama3(double frequency)
{
    const double wavelength = 2 * M_PI / frequency;
    if (wavelength < 256 / 4.0)
        return frequency;
    if (wavelength > 256 / 1.0)
        return frequency / 8;
    const double smooth = (256 / wavelength - 1) / (4 - 1);
    return (1 - smooth) * frequency / 8 + smooth * frequency;
}

static void scaled_rotary_positions_match_float64(void)
{
    struct tiny_spec spec = {.model_type = "llama", .tied = true, .type = TENSOR_F32};
    spec.more = "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2},";
    spec.frequency = halved;
    ASSERT_NEAR(difference(&spec), 0, 1e-5);
    spec.more = "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": 4,"
                " \"original_max_position_embeddings\": 256},";
    spec.frequency = llama3;
    ASSERT_NEAR(difference(&spec), 0, 1e-5);
    spec.frequency = NULL; /* the comparison notices a scaling that is not applied */
    CU_ASSERT(difference(&spec) > 1e-3);
}

static void check_refused(const struct tiny_spec *spec, int expected, const char *words)
{
    struct tiny_model tiny;
    struct fault fault = {0};
    struct lm_model *model;
    tiny_write(&tiny, spec);
    int err = lm_model_load(&model, tiny.folder, &fault);
    if (err != expected || !strstr(fault.text, words))
        printf("\n%s: %s", err_name(err), fault.text);
    CU_ASSERT_EQUAL(err, expected);
    CU_ASSERT_PTR_NULL(model);
    CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, words));
    tiny_remove(&tiny);
}

static void a_checkpoint_that_does_not_fit_its_config_is_refused_by_name(void)
{
    struct tiny_spec spec = {.model_type = "qwen2", .type = TENSOR_F32};
    check_refused(&spec, ERR_NOT_FOUND, "model.layers.0.self_attn.q_proj.bias");
    spec.qkv_bias = true;
    spec.leave_out = "lm_head.weight";
    check_refused(&spec, ERR_NOT_FOUND, "lm_head.weight");
    spec.leave_out = "model.layers.1.mlp.down_proj.weight";
    check_refused(&spec, ERR_NOT_FOUND, "model.layers.1.mlp.down_proj.weight");
    spec.leave_out = NULL;
    spec.add = "model.layers.0.self_attn.sinks";
    check_refused(&spec, ERR_UNSUPPORTED, "model.layers.0.self_attn.sinks has no place");
    spec.add = NULL;
    spec.shards = 2;
    spec.leave_out = "model.norm.weight";
    check_refused(&spec, ERR_NOT_FOUND, "model.norm.weight");
}

static void a_wrong_shape_is_refused_with_both_shapes(void)
{
    struct tiny_model tiny;
    struct fault fault = {0};
    struct lm_model *model;
    char path[64];
    const struct tiny_spec spec = {.model_type = "qwen3", .qk_norm = true, .type = TENSOR_F32};
    tiny_write(&tiny, &spec);
    snprintf(path, sizeof path, "%s/config.json", tiny.folder);
    FILE *f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs("{\"model_type\": \"qwen3\", \"vocab_size\": 31, \"hidden_size\": 12, \"intermediate_size\": 21, "
          "\"num_hidden_layers\": 2,"
          " \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 6}",
          f);
    fclose(f);
    CU_ASSERT_EQUAL(lm_model_load(&model, tiny.folder, &fault), ERR_WRONG_SHAPE);
    CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, "mlp.gate_proj.weight: its shape is (20, 12), config.json asks for (21, 12)"));
    tiny_remove(&tiny);
}

static void a_folder_without_a_model_is_refused(void)
{
    struct fault fault = {0};
    struct lm_model *model;
    CU_ASSERT_EQUAL(lm_model_load(&model, "/tmp/attnd_no_such_folder", &fault), ERR_NOT_FOUND);
    CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, "/tmp/attnd_no_such_folder/config.json"));
    CU_ASSERT_PTR_NULL(model);
}

static void an_index_does_not_lead_out_of_its_folder(void)
{
    struct tiny_model tiny;
    struct fault fault = {0};
    struct lm_model *model;
    char path[64];
    const struct tiny_spec spec = {.model_type = "llama", .type = TENSOR_F32, .shards = 1};
    tiny_write(&tiny, &spec);
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", tiny.folder);
    FILE *f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs("{\"weight_map\": {\"lm_head.weight\": \"../x.safetensors\"}}", f);
    fclose(f);
    CU_ASSERT_EQUAL(lm_model_load(&model, tiny.folder, &fault), ERR_MALFORMED);
    CU_ASSERT_PTR_NOT_NULL(strstr(fault.text, "not a file name of this folder"));
    tiny_remove(&tiny);
}

TEST_SUITE("tools/lm/checkpoints", TEST(llama_with_every_bias_and_its_own_head_matches_float64),
           TEST(qwen2_with_biases_on_q_k_v_matches_float64), TEST(qwen3_with_norms_on_q_and_k_matches_float64),
           TEST(shards_are_one_model), TEST(scaled_rotary_positions_match_float64),
           TEST(a_checkpoint_that_does_not_fit_its_config_is_refused_by_name), TEST(a_wrong_shape_is_refused_with_both_shapes),
           TEST(a_folder_without_a_model_is_refused), TEST(an_index_does_not_lead_out_of_its_folder))
