#include "tools/lm/model.h"

#include "tools/lm/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>

enum { NAME_BYTES = 160 };

/* Loading stops at the first error; later takes then do nothing, so that the list of weights below stays a list. */
struct loader {
    struct checkpoint *checkpoint;
    struct fault *fault;
    size_t layer;
    int err;
};

static void layer_name(const struct loader *l, char name[NAME_BYTES], const char *module, const char *what)
{
    snprintf(name, NAME_BYTES, "model.layers.%zu.%s.%s", l->layer, module, what);
}

static void take(struct loader *l, const char *name, size_t rows, size_t columns, float **out)
{
    if (!l->err)
        l->err = checkpoint_take(l->checkpoint, name, rows, columns, out, l->fault);
}

static void take_gain(struct loader *l, const char *module, size_t n, float **out)
{
    char name[NAME_BYTES];
    layer_name(l, name, module, "weight");
    take(l, name, 0, n, out);
}

static void take_linear(struct loader *l, const char *module, size_t n_out, size_t n_in, bool bias, struct lm_linear *out)
{
    char name[NAME_BYTES];
    out->n_in = n_in;
    out->n_out = n_out;
    layer_name(l, name, module, "weight");
    take(l, name, n_out, n_in, &out->w);
    if (bias) {
        layer_name(l, name, module, "bias");
        take(l, name, 0, n_out, &out->bias);
    }
}

static void load_softmax(struct loader *l, const struct lm_config *c, struct lm_layer *out)
{
    const size_t D = c->hidden, d = c->head_dim;
    take_linear(l, "self_attn.q_proj", c->heads * d, D, c->qkv_bias, &out->q);
    take_linear(l, "self_attn.k_proj", c->kv_heads * d, D, c->qkv_bias, &out->key[0]);
    take_linear(l, "self_attn.v_proj", c->kv_heads * d, D, c->qkv_bias, &out->value[0]);
    if (c->qk_norm) {
        take_gain(l, "self_attn.q_norm", d, &out->q_norm);
        take_gain(l, "self_attn.k_norm", d, &out->key_norm[0]);
    }
}

static void load_tensor(struct loader *l, const struct lm_config *c, struct lm_layer *out)
{
    const size_t D = c->hidden, d = c->head_dim, n = c->kv_heads * d;
    take_linear(l, "self_attn.q_proj", c->heads * d, D, c->qkv_bias, &out->q);
    take_linear(l, "self_attn.k1_proj", n, D, c->qkv_bias, &out->key[0]);
    take_linear(l, "self_attn.k2_proj", n, D, c->qkv_bias, &out->key[1]);
    take_linear(l, "self_attn.v1_proj", n, D, c->qkv_bias, &out->value[0]);
    take_linear(l, "self_attn.v2_proj", n, D, c->qkv_bias, &out->value[1]);
    take_gain(l, "self_attn.q_norm", d, &out->q_norm);
    take_gain(l, "self_attn.k1_norm", d, &out->key_norm[0]);
    take_gain(l, "self_attn.k2_norm", d, &out->key_norm[1]);
}

static void load_layer(struct loader *l, const struct lm_config *c, struct lm_layer *out)
{
    char name[NAME_BYTES];
    const size_t D = c->hidden, M = c->intermediate;
    take_gain(l, "input_layernorm", D, &out->input_norm);
    take_gain(l, "post_attention_layernorm", D, &out->post_norm);
    if (c->kind[l->layer] == ATTENTION_TENSOR)
        load_tensor(l, c, out);
    else
        load_softmax(l, c, out);
    take_linear(l, "self_attn.o_proj", D, c->heads * c->head_dim, c->o_bias, &out->o);
    take_linear(l, "mlp.gate_proj", M, D, c->mlp_bias, &out->gate);
    take_linear(l, "mlp.up_proj", M, D, c->mlp_bias, &out->up);
    take_linear(l, "mlp.down_proj", D, M, c->mlp_bias, &out->down);
    layer_name(l, name, "self_attn.rotary_emb", "inv_freq"); /* old files hold what rope_theta says */
    checkpoint_skip(l->checkpoint, name);
}

static int load_weights(struct lm_model *m, struct checkpoint *checkpoint, struct fault *fault)
{
    const struct lm_config *c = &m->config;
    struct loader l = {.checkpoint = checkpoint, .fault = fault};
    m->layer = calloc(c->n_layers, sizeof *m->layer);
    if (!m->layer)
        return fault_set(fault, ERR_NO_MEMORY, "%zu layers", c->n_layers);
    take(&l, "model.embed_tokens.weight", c->vocab, c->hidden, &m->embedding);
    take(&l, "model.norm.weight", 0, c->hidden, &m->final_norm);
    for (; l.layer < c->n_layers; l.layer++)
        load_layer(&l, c, &m->layer[l.layer]);
    m->head = (struct lm_linear){.n_in = c->hidden, .n_out = c->vocab};
    if (c->tied) {
        m->head.w = m->embedding;
        checkpoint_skip(checkpoint, "lm_head.weight"); /* some files write the shared matrix twice */
    } else {
        take(&l, "lm_head.weight", c->vocab, c->hidden, &m->head.w);
    }
    return l.err ? l.err : checkpoint_finish(checkpoint, fault);
}

int lm_model_load(struct lm_model **out, const char *folder, struct fault *fault)
{
    char path[4096];
    struct checkpoint *checkpoint = NULL;
    *out = NULL;
    struct lm_model *m = calloc(1, sizeof *m);
    if (!m)
        return fault_set(fault, ERR_NO_MEMORY, "%.160s", folder);
    snprintf(path, sizeof path, "%s/config.json", folder);
    int err = lm_config_read(&m->config, path, fault);
    if (!err)
        err = checkpoint_open(&checkpoint, folder, fault);
    if (!err)
        err = load_weights(m, checkpoint, fault);
    checkpoint_close(checkpoint);
    if (err) {
        lm_model_destroy(m);
        return err;
    }
    *out = m;
    return 0;
}

static void free_linear(struct lm_linear *l)
{
    free(l->w);
    free(l->bias);
}

enum { N_LINEAR = 9, N_GAIN = 5 }; /* of a layer */

static void free_layer(struct lm_layer *l)
{
    struct lm_linear *const linear[N_LINEAR] = {&l->q, &l->key[0], &l->key[1], &l->value[0], &l->value[1],
                                                &l->o, &l->gate,   &l->up,     &l->down};
    float *const gain[N_GAIN] = {l->input_norm, l->post_norm, l->q_norm, l->key_norm[0], l->key_norm[1]};
    for (size_t i = 0; i < N_LINEAR; i++)
        free_linear(linear[i]);
    for (size_t i = 0; i < N_GAIN; i++)
        free(gain[i]);
}

void lm_model_destroy(struct lm_model *model)
{
    if (!model)
        return;
    for (size_t i = 0; model->layer && i < model->config.n_layers; i++)
        free_layer(&model->layer[i]);
    if (!model->config.tied)
        free(model->head.w);
    free(model->layer);
    free(model->embedding);
    free(model->final_norm);
    free(model);
}
