/* A language model's weights in memory, f32. Letters: D hidden, M intermediate, V vocabulary, H, Hkv heads, d head dimension.
 * Threads: read only after loading. */
#ifndef ATTND_TOOLS_LM_MODEL_H
#define ATTND_TOOLS_LM_MODEL_H

#include "tools/lm/model_config.h"

/* y = x w^T + bias, w (n_out, n_in) in C order. */
struct lm_linear {
    size_t n_in, n_out;
    float *w;
    float *bias; /* (n_out) or NULL */
};

struct lm_layer {
    float *input_norm, *post_norm;           /* (D): gains before attention and before the MLP */
    struct lm_linear q, key[2], value[2], o; /* (H d, D), (Hkv d, D) each, (D, H d); [1] only in tensor layers */
    float *q_norm, *key_norm[2];             /* (d) or NULL: gains of RMS norms per head */
    struct lm_linear gate, up, down;         /* (M, D), (M, D), (D, M) */
};

struct lm_model {
    struct lm_config config;
    float *embedding;       /* (V, D) */
    float *final_norm;      /* (D) */
    struct lm_linear head;  /* (V, D); its w is the embedding when tied */
    struct lm_layer *layer; /* (n_layers) */
};

/* folder: config.json with model.safetensors or its shards. */
int lm_model_load(struct lm_model **out, const char *folder, struct fault *fault);
void lm_model_destroy(struct lm_model *model); /* NULL is allowed */

#endif
