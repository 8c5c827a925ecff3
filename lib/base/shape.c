#include "base/shape.h"

#include <math.h>
#include <string.h>

static const char *const attention_names[N_ATTENTION] = {[ATTENTION_SOFTMAX] = "softmax", [ATTENTION_TENSOR] = "tensor"};

static const struct {
    const char *name;
    size_t bytes;
} elements[N_ELEMENT] = {[ELEMENT_F32] = {"f32", 4}, [ELEMENT_F16] = {"f16", 2}, [ELEMENT_BF16] = {"bf16", 2}};

const char *attention_name(enum attention_kind kind)
{
    return attention_names[kind];
}

int attention_from_name(const char *name)
{
    for (int i = 0; i < N_ATTENTION; i++)
        if (strcmp(attention_names[i], name) == 0)
            return i;
    return ERR_INVALID;
}

const char *element_name(enum element element)
{
    return elements[element].name;
}

int element_from_name(const char *name)
{
    for (int i = 0; i < N_ELEMENT; i++)
        if (strcmp(elements[i].name, name) == 0)
            return i;
    return ERR_INVALID;
}

size_t element_bytes(enum element element)
{
    return elements[element].bytes;
}

size_t attention_streams(enum attention_kind kind)
{
    return kind == ATTENTION_TENSOR ? 2 : 1;
}

uint64_t shape_full_bf16_bytes(const struct shape *shape, enum attention_kind kind, uint64_t n_tokens)
{
    uint64_t per_token = (shape->key_dim + shape->value_dim) * 2 * attention_streams(kind);
    if (per_token && n_tokens > UINT64_MAX / per_token)
        return UINT64_MAX;
    return n_tokens * per_token;
}

static int check_range(const char *name, uint64_t value, uint64_t max, struct fault *fault)
{
    if (value >= 1 && value <= max)
        return 0;
    return fault_set(fault, value > max ? ERR_TOO_LARGE : ERR_INVALID, "%s must be from 1 to %llu, not %llu", name,
                     (unsigned long long)max, (unsigned long long)value);
}

int shape_check(const struct shape *shape, struct fault *fault)
{
    const struct {
        const char *name;
        uint64_t value, max;
    } sizes[] = {
        {"layers", shape->n_layers, SHAPE_LAYERS_MAX},  {"heads", shape->heads, SHAPE_HEADS_MAX},
        {"kv_heads", shape->kv_heads, SHAPE_HEADS_MAX}, {"key_dim", shape->key_dim, SHAPE_DIM_MAX},
        {"value_dim", shape->value_dim, SHAPE_DIM_MAX},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int err = check_range(sizes[i].name, sizes[i].value, sizes[i].max, fault);
        if (err)
            return err;
    }
    for (size_t i = 0; i < shape->n_layers; i++)
        if (shape->kind[i] >= N_ATTENTION)
            return fault_set(fault, ERR_INVALID, "layer %zu: attention must be softmax or tensor, not number %d", i,
                             shape->kind[i]);
    if (shape->heads % shape->kv_heads)
        return fault_set(fault, ERR_INVALID, "heads must be a multiple of kv_heads, %zu is none of %zu", shape->heads,
                         shape->kv_heads);
    if (!isfinite(shape->scale) || shape->scale <= 0)
        return fault_set(fault, ERR_INVALID, "scale must be finite and above 0, not %g", (double)shape->scale);
    if ((unsigned)shape->element >= N_ELEMENT)
        return fault_set(fault, ERR_INVALID, "element must be f32, f16 or bf16, not number %d", (int)shape->element);
    if (shape->expected_tokens > SHAPE_TOKENS_MAX)
        return fault_set(fault, ERR_TOO_LARGE, "expected_tokens must be at most %llu, not %llu",
                         (unsigned long long)SHAPE_TOKENS_MAX, (unsigned long long)shape->expected_tokens);
    if (shape->n_sink_logits != 0 && shape->n_sink_logits != shape->heads)
        return fault_set(fault, ERR_INVALID, "sink_logits must be none or one per query head (%zu), not %zu", shape->heads,
                         shape->n_sink_logits);
    for (size_t i = 0; i < shape->n_sink_logits; i++)
        if (!isfinite(shape->sink_logit[i]))
            return fault_set(fault, ERR_INVALID, "sink_logits[%zu] must be finite, not %g", i, (double)shape->sink_logit[i]);
    return 0;
}
