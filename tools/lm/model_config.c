#include "tools/lm/model_config.h"
#include "tools/file.h"

#include "tools/lm/text.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What families of this layout differ in. attention_bias: -1 as the key of that name says, else fixed. */
static const struct family {
    const char *model_type;
    int qkv_bias, o_bias;
    bool qk_norm;
    size_t head_dim; /* where config.json is silent; 0: hidden size / heads */
} families[] = {
    {"llama", -1, -1, false, 0},
    {"qwen2", 1, 0, false, 0},
    {"qwen3", -1, -1, true, 128},
};

static const struct size_key {
    const char *name;
    size_t offset, max;
    bool required;
} size_keys[] = {
    {"vocab_size", offsetof(struct lm_config, vocab), 1 << 24, true},
    {"hidden_size", offsetof(struct lm_config, hidden), 1 << 20, true},
    {"intermediate_size", offsetof(struct lm_config, intermediate), 1 << 22, true},
    {"num_hidden_layers", offsetof(struct lm_config, n_layers), SHAPE_LAYERS_MAX, true},
    {"num_attention_heads", offsetof(struct lm_config, heads), SHAPE_HEADS_MAX, true},
    {"num_key_value_heads", offsetof(struct lm_config, kv_heads), SHAPE_HEADS_MAX, false},
    {"head_dim", offsetof(struct lm_config, head_dim), SHAPE_DIM_MAX, false},
};

/* The file being read, so that every fault names it. */
struct reader {
    const json_t *root;
    const char *file;
    struct fault *fault;
};

static bool absent(const json_t *json)
{
    return !json || json_is_null(json);
}

static int wrong(const struct reader *r, const char *key, const char *must)
{
    return fault_set(r->fault, ERR_INVALID, "%.120s: %s: %s", r->file, key, must);
}

static int read_sizes(const struct reader *r, struct lm_config *out)
{
    for (size_t i = 0; i < sizeof size_keys / sizeof *size_keys; i++) {
        const struct size_key *k = &size_keys[i];
        const json_t *json = json_object_get(r->root, k->name);
        if (absent(json) && !k->required)
            continue;
        if (!json_is_integer(json) || json_integer_value(json) < 1 || (size_t)json_integer_value(json) > k->max)
            return fault_set(r->fault, ERR_INVALID, "%.120s: %s: must be a whole number from 1 to %zu", r->file, k->name,
                             k->max);
        *(size_t *)((char *)out + k->offset) = (size_t)json_integer_value(json);
    }
    if (out->kv_heads == 0)
        out->kv_heads = out->heads;
    if (out->heads % out->kv_heads)
        return wrong(r, "num_key_value_heads", "must divide num_attention_heads");
    if (out->head_dim == 0) {
        if (out->hidden % out->heads)
            return wrong(r, "head_dim", "is absent, and num_attention_heads does not divide hidden_size");
        out->head_dim = out->hidden / out->heads;
    }
    if (out->head_dim % 2 || out->head_dim > SHAPE_DIM_MAX)
        return wrong(r, "head_dim", "must be even (rotary positions turn pairs) and at most 1024");
    return 0;
}

static int read_number(const struct reader *r, const json_t *object, const char *key, double initial, double *out)
{
    const json_t *json = json_object_get(object, key);
    *out = absent(json) ? initial : json_number_value(json);
    if ((!absent(json) && !json_is_number(json)) || !isfinite(*out) || *out <= 0)
        return wrong(r, key, "must be a number above 0");
    return 0;
}

static int read_switch(const struct reader *r, const char *key, bool initial, bool *out)
{
    const json_t *json = json_object_get(r->root, key);
    if (!absent(json) && !json_is_boolean(json))
        return wrong(r, key, "must be true or false");
    *out = absent(json) ? initial : json_is_true(json);
    return 0;
}

/* Text that must be one of a list; which one in *index. */
static int read_choice(const struct reader *r, const json_t *json, const char *key, const char *const *choices,
                       const char *must, size_t *index)
{
    const char *text = json_string_value(json);
    for (*index = 0; text && choices[*index]; ++*index)
        if (strcmp(text, choices[*index]) == 0)
            return 0;
    return fault_set(r->fault, ERR_UNSUPPORTED, "%.120s: %s: '%.40s' is not computed here; %s", r->file, key,
                     text ? text : "(no text)", must);
}

static int read_family(const struct reader *r, struct lm_config *out)
{
    static const char *const names[] = {"llama", "qwen2", "qwen3", NULL}, *const acts[] = {"silu", "swish", NULL};
    const json_t *type = json_object_get(r->root, "model_type"), *act = json_object_get(r->root, "hidden_act");
    size_t family = 0, ignored;
    bool bias = false;
    int err = absent(type) ? 0 : read_choice(r, type, "model_type", names, "llama, qwen2 and qwen3 are", &family);
    if (!err && !absent(act))
        err = read_choice(r, act, "hidden_act", acts, "silu is", &ignored);
    if (!err)
        err = read_switch(r, "attention_bias", false, &bias);
    if (!err)
        err = read_switch(r, "mlp_bias", false, &out->mlp_bias);
    if (!err)
        err = read_switch(r, "tie_word_embeddings", false, &out->tied);
    if (err)
        return err;
    const struct family *f = &families[family];
    out->qkv_bias = f->qkv_bias < 0 ? bias : f->qkv_bias;
    out->o_bias = f->o_bias < 0 ? bias : f->o_bias;
    out->qk_norm = f->qk_norm;
    out->head_dim = f->head_dim;
    return 0;
}

/* rope_theta and rope_scaling; newer files keep both in rope_parameters. */
static int read_rope(const struct reader *r, struct lm_config *out)
{
    static const char *const names[] = {"default", "linear", "llama3", NULL};
    const json_t *parameters = json_object_get(r->root, "rope_parameters"), *scaling = json_object_get(r->root, "rope_scaling");
    const json_t *of_theta = absent(parameters) ? r->root : parameters;
    if (absent(scaling))
        scaling = parameters;
    int err = read_number(r, of_theta, "rope_theta", 10000, &out->rope_theta);
    if (err || absent(scaling))
        return err;
    if (!json_is_object(scaling))
        return wrong(r, "rope_scaling", "must be an object or null");
    const json_t *type = json_object_get(scaling, "rope_type");
    if (absent(type))
        type = json_object_get(scaling, "type");
    size_t rope = LM_ROPE_PLAIN;
    if (!absent(type))
        err = read_choice(r, type, "rope_scaling", names, "default, linear and llama3 are", &rope);
    out->rope = (enum lm_rope)rope;
    if (!err && rope != LM_ROPE_PLAIN)
        err = read_number(r, scaling, "factor", 0, &out->rope_factor); /* required: the default is outside the bounds */
    if (!err && rope == LM_ROPE_LLAMA3)
        err = read_number(r, scaling, "low_freq_factor", 0, &out->rope_low);
    if (!err && rope == LM_ROPE_LLAMA3)
        err = read_number(r, scaling, "high_freq_factor", 0, &out->rope_high);
    if (!err && rope == LM_ROPE_LLAMA3)
        err = read_number(r, scaling, "original_max_position_embeddings", 0, &out->rope_context);
    if (!err && rope == LM_ROPE_LLAMA3 && out->rope_low >= out->rope_high)
        err = wrong(r, "low_freq_factor", "must be below high_freq_factor");
    return err;
}

static int read_layers(const struct reader *r, struct lm_config *out)
{
    const json_t *kinds = json_object_get(r->root, "layer_attention");
    for (size_t i = 0; i < out->n_layers; i++)
        out->kind[i] = ATTENTION_SOFTMAX;
    if (absent(kinds))
        return 0;
    if (!json_is_array(kinds) || json_array_size(kinds) != out->n_layers)
        return wrong(r, "layer_attention", "must name one kind per layer");
    for (size_t i = 0; i < out->n_layers; i++) {
        const char *name = json_string_value(json_array_get(kinds, i));
        int kind = name ? attention_from_name(name) : ERR_INVALID;
        if (kind < 0)
            return wrong(r, "layer_attention", "must hold \"softmax\" or \"tensor\" for each layer");
        out->kind[i] = (unsigned char)kind;
    }
    return 0;
}

/* Settings of relatives of this layout that would silently give other numbers. */
static int refuse_others(const struct reader *r)
{
    const json_t *root = r->root, *types = json_object_get(root, "layer_types"),
                 *part = json_object_get(root, "partial_rotary_factor");
    size_t i;
    json_t *type;
    if (!absent(json_object_get(root, "quantization_config")))
        return fault_set(r->fault, ERR_UNSUPPORTED, "%.120s: quantization_config: quantised weights are not read here",
                         r->file);
    if (json_is_true(json_object_get(root, "use_sliding_window")))
        return fault_set(r->fault, ERR_UNSUPPORTED, "%.120s: use_sliding_window: the model's own windows are not computed here",
                         r->file);
    if (!absent(part) && json_number_value(part) != 1)
        return fault_set(r->fault, ERR_UNSUPPORTED, "%.120s: partial_rotary_factor: only 1 is computed here", r->file);
    json_array_foreach((json_t *)types, i,
                       type) if (!json_is_string(type) ||
                                 strcmp(json_string_value(type), "full_attention") !=
                                     0) return fault_set(r->fault, ERR_UNSUPPORTED,
                                                         "%.120s: layer_types: only full_attention is computed here", r->file);
    return 0;
}

int lm_config_parse(struct lm_config *out, const char *text, size_t bytes, const char *name, struct fault *fault)
{
    json_error_t error;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    memset(out, 0, sizeof *out);
    if (!root)
        return fault_set(fault, ERR_MALFORMED, "%.120s:%d: %.100s", name, error.line, error.text);
    const struct reader r = {root, name, fault};
    int err = json_is_object(root) ? 0 : fault_set(fault, ERR_MALFORMED, "%.120s: not a JSON object", name);
    if (!err)
        err = read_family(&r, out);
    if (!err)
        err = read_sizes(&r, out);
    if (!err)
        err = read_number(&r, root, "rms_norm_eps", 1e-6, &out->rms_eps);
    if (!err)
        err = read_rope(&r, out);
    if (!err)
        err = read_layers(&r, out);
    if (!err)
        err = refuse_others(&r);
    json_decref(root);
    return err;
}

int lm_config_read(struct lm_config *out, const char *path, struct fault *fault)
{
    char *text;
    size_t bytes;
    int err = file_read(path, &text, &bytes, fault);
    if (err)
        return err;
    err = lm_config_parse(out, text, bytes, path, fault);
    free(text);
    return err;
}

void lm_config_shape(const struct lm_config *config, uint64_t expected_tokens, struct shape *out)
{
    memset(out, 0, sizeof *out);
    out->n_layers = config->n_layers;
    memcpy(out->kind, config->kind, config->n_layers);
    out->heads = config->heads;
    out->kv_heads = config->kv_heads;
    out->key_dim = out->value_dim = config->head_dim;
    out->scale = (float)(1 / sqrt((double)config->head_dim));
    out->element = ELEMENT_F32;
    out->expected_tokens = expected_tokens;
}
