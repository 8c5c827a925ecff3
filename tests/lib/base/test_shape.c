#include "base/shape.h"
#include "tests/test.h"

#include <math.h>
#include <string.h>

static struct shape good(void)
{
    struct shape s = {.n_layers = 2,
                      .kind = {ATTENTION_SOFTMAX, ATTENTION_TENSOR},
                      .heads = 8,
                      .kv_heads = 2,
                      .key_dim = 64,
                      .value_dim = 48,
                      .scale = 0.125f,
                      .element = ELEMENT_BF16,
                      .expected_tokens = 4096};
    return s;
}

static void names_lead_back_to_kinds_and_elements(void)
{
    for (int i = 0; i < N_ATTENTION; i++)
        CU_ASSERT_EQUAL(attention_from_name(attention_name((enum attention_kind)i)), i);
    for (int i = 0; i < N_ELEMENT; i++)
        CU_ASSERT_EQUAL(element_from_name(element_name((enum element)i)), i);
    CU_ASSERT_EQUAL(attention_from_name("linear"), ERR_INVALID);
    CU_ASSERT_EQUAL(element_from_name("f64"), ERR_INVALID);
    CU_ASSERT_EQUAL(element_bytes(ELEMENT_F32), 4);
    CU_ASSERT_EQUAL(element_bytes(ELEMENT_F16), 2);
    CU_ASSERT_EQUAL(element_bytes(ELEMENT_BF16), 2);
}

static void tensor_layers_have_two_streams_and_twice_the_bytes(void)
{
    struct shape s = good();
    CU_ASSERT_EQUAL(attention_streams(ATTENTION_SOFTMAX), 1);
    CU_ASSERT_EQUAL(attention_streams(ATTENTION_TENSOR), 2);
    CU_ASSERT_EQUAL(shape_full_bf16_bytes(&s, ATTENTION_SOFTMAX, 10), 10 * (64 + 48) * 2);
    CU_ASSERT_EQUAL(shape_full_bf16_bytes(&s, ATTENTION_TENSOR, 10), 10 * (64 + 48) * 4);
    CU_ASSERT_EQUAL(shape_full_bf16_bytes(&s, ATTENTION_TENSOR, 0), 0);
    CU_ASSERT_EQUAL(shape_full_bf16_bytes(&s, ATTENTION_TENSOR, UINT64_MAX), UINT64_MAX);
}

static void a_good_shape_passes_up_to_its_largest_sizes(void)
{
    struct shape s = good();
    CU_ASSERT_EQUAL(shape_check(&s, NULL), 0);
    s.n_layers = SHAPE_LAYERS_MAX;
    s.heads = s.kv_heads = SHAPE_HEADS_MAX;
    s.key_dim = s.value_dim = SHAPE_DIM_MAX;
    s.expected_tokens = SHAPE_TOKENS_MAX;
    s.n_sink_logits = s.heads;
    CU_ASSERT_EQUAL(shape_check(&s, NULL), 0);
}

static void expect(const struct shape *s, int err, const char *word)
{
    struct fault f = {0};
    CU_ASSERT_EQUAL(shape_check(s, &f), err);
    CU_ASSERT_PTR_NOT_NULL(strstr(f.text, word));
}

static void each_impossible_shape_is_refused_by_the_name_of_its_field(void)
{
    struct shape s;
#define CASE(change, err, word) (s = good(), change, expect(&s, err, word))
    CASE(s.n_layers = 0, ERR_INVALID, "layers");
    CASE(s.n_layers = SHAPE_LAYERS_MAX + 1, ERR_TOO_LARGE, "layers must be from 1 to 1024, not 1025");
    CASE(s.kind[1] = N_ATTENTION, ERR_INVALID, "layer 1");
    CASE(s.heads = 0, ERR_INVALID, "heads");
    CASE(s.heads = 9, ERR_INVALID, "multiple");
    CASE(s.kv_heads = 16, ERR_INVALID, "multiple");
    CASE(s.kv_heads = 0, ERR_INVALID, "kv_heads");
    CASE(s.key_dim = 0, ERR_INVALID, "key_dim");
    CASE(s.key_dim = 1025, ERR_TOO_LARGE, "key_dim");
    CASE(s.value_dim = 1025, ERR_TOO_LARGE, "value_dim");
    CASE(s.scale = 0, ERR_INVALID, "scale");
    CASE(s.scale = NAN, ERR_INVALID, "scale");
    CASE(s.scale = INFINITY, ERR_INVALID, "scale");
    CASE(s.element = N_ELEMENT, ERR_INVALID, "element");
    CASE(s.expected_tokens = SHAPE_TOKENS_MAX + 1, ERR_TOO_LARGE, "expected_tokens");
    CASE(s.n_sink_logits = 2, ERR_INVALID, "sink_logits");
    CASE((s.n_sink_logits = 8, s.sink_logit[7] = NAN), ERR_INVALID, "sink_logits[7]");
#undef CASE
}

TEST_SUITE("lib/base/shape", TEST(names_lead_back_to_kinds_and_elements),
           TEST(tensor_layers_have_two_streams_and_twice_the_bytes), TEST(a_good_shape_passes_up_to_its_largest_sizes),
           TEST(each_impossible_shape_is_refused_by_the_name_of_its_field))
