#include "tools/lm/forward.h"

#include "tools/lm/ops.h"

#include <stdlib.h>
#include <string.h>

/* The MLP runs over blocks of tokens, so that its wide middle never lies in memory for a whole prompt. */
enum { MLP_TOKENS = 256 };

struct lm_forward {
    const struct lm_model *model;
    struct attention_service *service;
    struct lm_team *team;
    size_t position;          /* tokens of the open stream so far */
    size_t room;              /* tokens that the arrays below hold */
    float *memory;            /* all of them */
    float *x, *h;             /* (T, D): residual stream; normed, and what is added back */
    float *q, *out;           /* (T, H d) */
    float *key[2], *value[2]; /* (T, Hkv d) */
    float *gate, *up;         /* (MLP_TOKENS, M) */
    float *cosine, *sine;     /* (T, d/2) */
};

static size_t mlp_tokens(size_t n)
{
    return n < MLP_TOKENS ? n : MLP_TOKENS;
}

/* Makes room for n tokens: one block of memory, its parts one after the other. */
static int make_room(struct lm_forward *f, size_t n, struct fault *fault)
{
    const struct lm_config *c = &f->model->config;
    const size_t half = c->head_dim / 2, wide = c->heads * c->head_dim, narrow = c->kv_heads * c->head_dim;
    const struct {
        float **array;
        size_t n;
    } parts[] = {
        {&f->x, n * c->hidden},
        {&f->h, n * c->hidden},
        {&f->q, n * wide},
        {&f->out, n * wide},
        {&f->key[0], n * narrow},
        {&f->key[1], n * narrow},
        {&f->value[0], n * narrow},
        {&f->value[1], n * narrow},
        {&f->gate, mlp_tokens(n) * c->intermediate},
        {&f->up, mlp_tokens(n) * c->intermediate},
        {&f->cosine, n * half},
        {&f->sine, n * half},
    };
    if (n <= f->room)
        return 0;
    size_t total = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        total += (parts[i].n + 15) / 16 * 16; /* each begins at a cache line */
    free(f->memory);
    f->room = 0;
    f->memory = aligned_alloc(64, total * sizeof *f->memory);
    if (!f->memory)
        return fault_set(fault, ERR_NO_MEMORY, "activations of %zu tokens", n);
    float *at = f->memory;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].array = at;
        at += (parts[i].n + 15) / 16 * 16;
    }
    f->room = n;
    return 0;
}

int lm_forward_create(struct lm_forward **out, const struct lm_model *model, struct attention_service *service,
                      struct fault *fault)
{
    *out = calloc(1, sizeof **out);
    if (!*out) {
        fault_set(fault, ERR_NO_MEMORY, "the forward pass");
        return ERR_NO_MEMORY;
    }
    (*out)->model = model;
    (*out)->service = service;
    lm_ops_start();
    int err = lm_team_create(&(*out)->team, 0, fault);
    if (err) {
        lm_forward_destroy(*out);
        *out = NULL;
    }
    return err;
}

void lm_forward_destroy(struct lm_forward *f)
{
    if (!f)
        return;
    if (f->service->is_open)
        service_close(f->service, NULL, NULL);
    lm_team_destroy(f->team);
    free(f->memory);
    free(f);
}

int lm_forward_begin(struct lm_forward *f, const char *profile, uint64_t expected_tokens, struct fault *fault)
{
    struct shape shape;
    lm_config_shape(&f->model->config, expected_tokens, &shape);
    f->position = 0;
    return service_open(f->service, &shape, profile, fault);
}

double lm_forward_attention_seconds(const struct lm_forward *f)
{
    return f->service->seconds;
}

int lm_forward_end(struct lm_forward *f, struct service_totals *totals, struct fault *fault)
{
    return service_close(f->service, totals, fault);
}

/* h = attention of the layer over n tokens whose normed states are in h. */
static int attend(struct lm_forward *f, uint32_t index, size_t n, struct fault *fault)
{
    const struct lm_config *c = &f->model->config;
    const struct lm_layer *l = &f->model->layer[index];
    const enum attention_kind kind = (enum attention_kind)c->kind[index];
    const size_t d = c->head_dim;
    lm_product(f->team, &l->q, f->h, n, f->q);
    if (l->q_norm)
        lm_rms_norm(f->q, n * c->heads, d, l->q_norm, c->rms_eps, f->q);
    for (size_t i = 0; i < attention_streams(kind); i++) {
        lm_product(f->team, &l->key[i], f->h, n, f->key[i]);
        lm_product(f->team, &l->value[i], f->h, n, f->value[i]);
        if (l->key_norm[i])
            lm_rms_norm(f->key[i], n * c->kv_heads, d, l->key_norm[i], c->rms_eps, f->key[i]);
    }
    if (kind == ATTENTION_SOFTMAX) { /* tensor layers know no positions */
        lm_rotary_turn(f->cosine, f->sine, n, c->heads, d, f->q);
        lm_rotary_turn(f->cosine, f->sine, n, c->kv_heads, d, f->key[0]);
    }
    const float *const key[2] = {f->key[0], f->key[1]}, *const value[2] = {f->value[0], f->value[1]};
    int err = service_step(f->service, index, n, f->q, key, value, f->out, fault);
    if (!err)
        lm_product(f->team, &l->o, f->out, n, f->h);
    return err;
}

/* h = down(silu(gate(h)) * up(h)) */
static void mlp(struct lm_forward *f, const struct lm_layer *l, size_t n)
{
    const size_t D = f->model->config.hidden, M = f->model->config.intermediate;
    for (size_t t = 0; t < n; t += MLP_TOKENS) {
        const size_t m = mlp_tokens(n - t);
        float *h = f->h + t * D;
        lm_product(f->team, &l->gate, h, m, f->gate);
        lm_product(f->team, &l->up, h, m, f->up);
        lm_silu_gate(f->gate, f->up, m * M);
        lm_product(f->team, &l->down, f->gate, m, h);
    }
}

int lm_forward_run(struct lm_forward *f, const uint32_t *ids, size_t n, const float **hidden, struct fault *fault)
{
    const struct lm_model *model = f->model;
    const struct lm_config *c = &model->config;
    const size_t D = c->hidden;
    int err = make_room(f, n, fault);
    for (size_t t = 0; !err && t < n; t++) {
        if (ids[t] >= c->vocab)
            err = fault_set(fault, ERR_INVALID, "token %zu: id %u is not below the vocabulary of %zu", t, ids[t], c->vocab);
        else
            memcpy(f->x + t * D, model->embedding + ids[t] * D, D * sizeof *f->x);
    }
    if (err)
        return err;
    lm_rotary_table(c, f->position, n, f->cosine, f->sine);
    for (size_t i = 0; i < c->n_layers; i++) {
        lm_rms_norm(f->x, n, D, model->layer[i].input_norm, c->rms_eps, f->h);
        err = attend(f, (uint32_t)i, n, fault);
        if (err)
            return err;
        lm_add(f->x, f->h, n * D);
        lm_rms_norm(f->x, n, D, model->layer[i].post_norm, c->rms_eps, f->h);
        mlp(f, &model->layer[i], n);
        lm_add(f->x, f->h, n * D);
    }
    lm_rms_norm(f->x, n, D, model->final_norm, c->rms_eps, f->h);
    f->position += n;
    *hidden = f->h;
    return 0;
}

void lm_forward_logits(const struct lm_forward *f, const float *hidden, size_t n, float *logits)
{
    lm_product(f->team, &f->model->head, hidden, n, logits);
}
