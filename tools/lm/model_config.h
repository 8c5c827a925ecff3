/* config.json of a model folder, in the words of Hugging Face's LlamaForCausalLM (also Qwen2 and Qwen3), plus
 * `layer_attention` for ours. What would change the model's numbers and is not computed here is refused by name.
 * Threads: pure functions. */
#ifndef ATTND_TOOLS_LM_MODEL_CONFIG_H
#define ATTND_TOOLS_LM_MODEL_CONFIG_H

#include "base/shape.h"
#include <stdbool.h>

enum lm_rope { LM_ROPE_PLAIN, LM_ROPE_LINEAR, LM_ROPE_LLAMA3 };

/* Letters of the language model, beside those of base/shape.h: D hidden size, M intermediate size, V vocabulary, T tokens. */
struct lm_config {
    size_t vocab, hidden, intermediate;         /* V, D, M */
    size_t n_layers, heads, kv_heads, head_dim; /* head_dim is d and e */
    double rms_eps, rope_theta;
    enum lm_rope rope;
    double rope_factor, rope_low, rope_high, rope_context; /* linear: factor; llama3: all four */
    bool tied;                                             /* the head is the embedding */
    bool qkv_bias, o_bias, mlp_bias;                       /* which products have biases */
    bool qk_norm;                                          /* softmax layers: RMS norms on q and k, per head */
    unsigned char kind[SHAPE_LAYERS_MAX];                  /* enum attention_kind */
};

/* name: the file, for faults. */
int lm_config_parse(struct lm_config *out, const char *text, size_t bytes, const char *name, struct fault *fault);
int lm_config_read(struct lm_config *out, const char *path, struct fault *fault);

/* What the model's streams look like; expected_tokens is the context. */
void lm_config_shape(const struct lm_config *config, uint64_t expected_tokens, struct shape *out);

#endif
