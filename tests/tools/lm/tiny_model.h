/* Small random checkpoints in the layout of Hugging Face, written to a folder of their own, and their forward pass in float64,
 * written anew from the definition: it shares nothing with tools/lm but the files. */
#ifndef ATTND_TESTS_TOOLS_LM_TINY_MODEL_H
#define ATTND_TESTS_TOOLS_LM_TINY_MODEL_H

#include "io/safetensors.h"

#include <stdbool.h>

enum { TINY_HIDDEN = 12, TINY_MIDDLE = 20, TINY_VOCAB = 31, TINY_HEADS = 4, TINY_KV_HEADS = 2, TINY_DIM = 6, TINY_LAYERS = 2 };

struct tiny_spec {
    const char *model_type;
    bool qkv_bias, o_bias, mlp_bias, qk_norm, tied;
    enum tensor_type type;             /* of the weights: TENSOR_F32, F16 or BF16 */
    size_t shards;                     /* 0: model.safetensors; else so many files and an index */
    const char *more;                  /* put into config.json: "\"key\": value, " */
    double (*frequency)(double plain); /* what scaling makes of a rotary frequency; NULL: nothing */
    const char *leave_out;             /* a tensor that is not written */
    const char *add;                   /* a tensor that no model has */
};

struct tiny_model {
    char folder[32];
    struct tiny_spec spec;
    struct {
        char name[64];
        size_t n_dims, dim[2];
        double *value; /* as stored */
    } weight[64];
    size_t n_weights;
};

void tiny_write(struct tiny_model *m, const struct tiny_spec *spec);
void tiny_remove(struct tiny_model *m);

/* logits (n, TINY_VOCAB) of n tokens. */
void tiny_forward(const struct tiny_model *m, const unsigned *ids, size_t n, double *logits);

#endif
