#include "tests/tools/lm/tiny_model.h"

#include "base/coins.h"
#include "tests/test.h"
#include "tests/tools/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    D = TINY_HIDDEN,
    M = TINY_MIDDLE,
    V = TINY_VOCAB,
    H = TINY_HEADS,
    G = TINY_KV_HEADS,
    DIM = TINY_DIM,
    TOKENS_MAX = 16,
    WIDE = H * DIM,
    NARROW = G * DIM
};

/* Values with 7 significant bits, so that bf16 and f16 hold them exactly. */
static double random_value(const char *name, size_t i, double scale)
{
    uint64_t seed = 1;
    for (; *name; name++)
        seed = mix(seed ^ (uint64_t)*name);
    return (floor(coin(seed, 0, i, 0) * 127) - 63) / 64 * scale;
}

static void add_weight(struct tiny_model *m, const char *name, size_t rows, size_t columns, double mean, double scale)
{
    if (m->spec.leave_out && strcmp(name, m->spec.leave_out) == 0)
        return;
    const size_t n = (rows ? rows : 1) * columns, k = m->n_weights++;
    snprintf(m->weight[k].name, sizeof m->weight[k].name, "%s", name);
    m->weight[k].n_dims = rows ? 2 : 1;
    m->weight[k].dim[0] = rows ? rows : columns;
    m->weight[k].dim[1] = columns;
    m->weight[k].value = support_array(n, sizeof(double));
    for (size_t i = 0; i < n; i++)
        m->weight[k].value[i] = mean + random_value(name, i, scale);
}

static void add_linear(struct tiny_model *m, size_t layer, const char *module, size_t n_out, size_t n_in, bool bias)
{
    char name[64];
    snprintf(name, sizeof name, "model.layers.%zu.%s.weight", layer, module);
    add_weight(m, name, n_out, n_in, 0, 0.5);
    snprintf(name, sizeof name, "model.layers.%zu.%s.bias", layer, module);
    if (bias)
        add_weight(m, name, 0, n_out, 0, 1);
}

static void add_gain(struct tiny_model *m, size_t layer, const char *module, size_t n)
{
    char name[64];
    snprintf(name, sizeof name, "model.layers.%zu.%s.weight", layer, module);
    add_weight(m, name, 0, n, 1, 0.5);
}

static void add_weights(struct tiny_model *m)
{
    const struct tiny_spec *s = &m->spec;
    add_weight(m, "model.embed_tokens.weight", V, D, 0, 2);
    add_weight(m, "model.norm.weight", 0, D, 1, 0.5);
    if (!s->tied)
        add_weight(m, "lm_head.weight", V, D, 0, 1);
    for (size_t l = 0; l < TINY_LAYERS; l++) {
        add_gain(m, l, "input_layernorm", D);
        add_gain(m, l, "post_attention_layernorm", D);
        add_linear(m, l, "self_attn.q_proj", WIDE, D, s->qkv_bias);
        add_linear(m, l, "self_attn.k_proj", NARROW, D, s->qkv_bias);
        add_linear(m, l, "self_attn.v_proj", NARROW, D, s->qkv_bias);
        add_linear(m, l, "self_attn.o_proj", D, WIDE, s->o_bias);
        add_linear(m, l, "mlp.gate_proj", M, D, s->mlp_bias);
        add_linear(m, l, "mlp.up_proj", M, D, s->mlp_bias);
        add_linear(m, l, "mlp.down_proj", D, M, s->mlp_bias);
        if (s->qk_norm) {
            add_gain(m, l, "self_attn.q_norm", DIM);
            add_gain(m, l, "self_attn.k_norm", DIM);
        }
    }
    if (s->add)
        add_weight(m, s->add, 0, 1, 0, 1);
}

/* One number in the file's type; exact for what random_value makes. */
static void store(enum tensor_type type, double x, unsigned char *to)
{
    const float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint16_t half = (uint16_t)(bits >> 16);
    if (type == TENSOR_F16) /* normal numbers only: exponent bias 127 to 15 */
        half = (uint16_t)(x == 0 ? 0 : (bits >> 16 & 0x8000) | (((bits >> 13) - (112 << 10)) & 0x7FFF));
    if (type == TENSOR_F32)
        memcpy(to, &f, sizeof f);
    else
        memcpy(to, &half, sizeof half);
}

static void write_shard(struct tiny_model *m, const char *file, size_t shard, size_t shards)
{
    struct tensor tensors[64];
    size_t n = 0, bytes = m->spec.type == TENSOR_F32 ? 4 : 2;
    char path[96];
    for (size_t k = shard; k < m->n_weights; k += shards) {
        struct tensor *t = &tensors[n++];
        *t = (struct tensor){.name = m->weight[k].name, .type = m->spec.type, .n_dims = m->weight[k].n_dims};
        memcpy(t->dim, m->weight[k].dim, sizeof m->weight[k].dim);
        t->n = t->dim[0] * (t->n_dims == 2 ? t->dim[1] : 1);
        t->bytes = t->n * bytes;
        unsigned char *data = support_array(t->bytes, 1);
        for (size_t i = 0; i < t->n; i++)
            store(t->type, m->weight[k].value[i], data + i * bytes);
        t->data = data;
    }
    snprintf(path, sizeof path, "%s/%s", m->folder, file);
    CU_ASSERT_EQUAL(safetensors_write(path, tensors, n, NULL, NULL), 0);
    for (size_t i = 0; i < n; i++)
        free((void *)tensors[i].data);
}

static FILE *create(const struct tiny_model *m, const char *name)
{
    char path[96];
    snprintf(path, sizeof path, "%s/%s", m->folder, name);
    FILE *f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    return f;
}

static void shard_name(char name[48], size_t shard)
{
    snprintf(name, 48, "model-%zu.safetensors", shard);
}

void tiny_write(struct tiny_model *m, const struct tiny_spec *spec)
{
    char name[48];
    memset(m, 0, sizeof *m);
    m->spec = *spec;
    snprintf(m->folder, sizeof m->folder, "/tmp/attnd_tiny_XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(m->folder));
    add_weights(m);
    FILE *f = create(m, "config.json");
    fprintf(f,
            "{\"model_type\": \"%s\", \"vocab_size\": %d, \"hidden_size\": %d, \"intermediate_size\": %d, "
            "\"num_hidden_layers\": %d,\n"
            " \"num_attention_heads\": %d, \"num_key_value_heads\": %d, \"head_dim\": %d, \"rms_norm_eps\": 1e-3, %s\n"
            " \"attention_bias\": %s, \"mlp_bias\": %s, \"tie_word_embeddings\": %s}\n",
            spec->model_type, V, D, M, TINY_LAYERS, H, G, DIM, spec->more ? spec->more : "", spec->o_bias ? "true" : "false",
            spec->mlp_bias ? "true" : "false", spec->tied ? "true" : "false");
    fclose(f);
    if (spec->shards == 0) {
        write_shard(m, "model.safetensors", 0, 1);
        return;
    }
    f = create(m, "model.safetensors.index.json");
    fprintf(f, "{\"metadata\": {}, \"weight_map\": {");
    for (size_t k = 0; k < m->n_weights; k++) {
        shard_name(name, k % spec->shards);
        fprintf(f, "%s\"%s\": \"%s\"", k ? ", " : "", m->weight[k].name, name);
    }
    fprintf(f, "}}\n");
    fclose(f);
    for (size_t i = 0; i < spec->shards; i++) {
        shard_name(name, i);
        write_shard(m, name, i, spec->shards);
    }
}

void tiny_remove(struct tiny_model *m)
{
    static const char *const files[] = {"config.json", "model.safetensors", "model.safetensors.index.json"};
    char path[96], name[48];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", m->folder, files[i]);
        unlink(path);
    }
    for (size_t i = 0; i < m->spec.shards; i++) {
        shard_name(name, i);
        snprintf(path, sizeof path, "%s/%s", m->folder, name);
        unlink(path);
    }
    CU_ASSERT_EQUAL(rmdir(m->folder), 0);
    for (size_t k = 0; k < m->n_weights; k++)
        free(m->weight[k].value);
}

static const double *weight(const struct tiny_model *m, const char *name)
{
    for (size_t k = 0; k < m->n_weights; k++)
        if (strcmp(m->weight[k].name, name) == 0)
            return m->weight[k].value;
    return NULL;
}

static const double *layer_weight(const struct tiny_model *m, size_t layer, const char *module, const char *what)
{
    char name[64];
    snprintf(name, sizeof name, "model.layers.%zu.%s.%s", layer, module, what);
    return weight(m, name);
}

static void linear(const struct tiny_model *m, size_t layer, const char *module, size_t n_out, size_t n_in, const double *x,
                   double *y)
{
    const double *w = layer_weight(m, layer, module, "weight"), *bias = layer_weight(m, layer, module, "bias");
    for (size_t o = 0; o < n_out; o++) {
        y[o] = bias ? bias[o] : 0;
        for (size_t i = 0; i < n_in; i++)
            y[o] += w[o * n_in + i] * x[i];
    }
}

static void norm(const double *gain, size_t n, const double *x, double *y)
{
    double mean = 0;
    for (size_t i = 0; i < n; i++)
        mean += x[i] * x[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] / sqrt(mean + 1e-3) * gain[i];
}

static void turn(const struct tiny_model *m, size_t position, double *x)
{
    for (size_t c = 0; c < DIM / 2; c++) {
        double frequency = pow(10000, -(double)(2 * c) / DIM), a = x[c], b = x[c + DIM / 2];
        if (m->spec.frequency)
            frequency = m->spec.frequency(frequency);
        x[c] = a * cos((double)position * frequency) - b * sin((double)position * frequency);
        x[c + DIM / 2] = b * cos((double)position * frequency) + a * sin((double)position * frequency);
    }
}

/* q or k of one token: product, norm per head where the model has one, position. */
static void project(const struct tiny_model *m, size_t layer, const char *module, const char *norm_name, size_t heads,
                    size_t position, const double *h, double *x)
{
    const double *gain = layer_weight(m, layer, norm_name, "weight");
    linear(m, layer, module, heads * DIM, D, h, x);
    for (size_t i = 0; i < heads; i++) {
        if (gain)
            norm(gain, DIM, x + i * DIM, x + i * DIM);
        turn(m, position, x + i * DIM);
    }
}

static void attention(const double *q, double (*k)[NARROW], double (*v)[NARROW], size_t n, double *out)
{
    for (size_t h = 0; h < H; h++) {
        const size_t at = h / (H / G) * DIM;
        double sum = 0;
        memset(out + h * DIM, 0, DIM * sizeof *out);
        for (size_t j = 0; j < n; j++) {
            double score = 0;
            for (size_t c = 0; c < DIM; c++)
                score += q[h * DIM + c] * k[j][at + c] / sqrt(DIM);
            sum += exp(score);
            for (size_t c = 0; c < DIM; c++)
                out[h * DIM + c] += exp(score) * v[j][at + c];
        }
        for (size_t c = 0; c < DIM; c++)
            out[h * DIM + c] /= sum;
    }
}

void tiny_forward(const struct tiny_model *m, const unsigned *ids, size_t n, double *logits)
{
    static double k[TINY_LAYERS][TOKENS_MAX][NARROW], v[TINY_LAYERS][TOKENS_MAX][NARROW];
    const double *head = weight(m, m->spec.tied ? "model.embed_tokens.weight" : "lm_head.weight");
    for (size_t t = 0; t < n; t++) {
        double x[D], h[D], q[WIDE], out[WIDE], gate[M], up[M];
        memcpy(x, weight(m, "model.embed_tokens.weight") + (size_t)ids[t] * D, sizeof x);
        for (size_t l = 0; l < TINY_LAYERS; l++) {
            norm(layer_weight(m, l, "input_layernorm", "weight"), D, x, h);
            project(m, l, "self_attn.q_proj", "self_attn.q_norm", H, t, h, q);
            project(m, l, "self_attn.k_proj", "self_attn.k_norm", G, t, h, k[l][t]);
            linear(m, l, "self_attn.v_proj", NARROW, D, h, v[l][t]);
            attention(q, k[l], v[l], t + 1, out);
            linear(m, l, "self_attn.o_proj", D, WIDE, out, h);
            for (size_t i = 0; i < D; i++)
                x[i] += h[i];
            norm(layer_weight(m, l, "post_attention_layernorm", "weight"), D, x, h);
            linear(m, l, "mlp.gate_proj", M, D, h, gate);
            linear(m, l, "mlp.up_proj", M, D, h, up);
            for (size_t i = 0; i < M; i++)
                gate[i] *= up[i] / (1 + exp(-gate[i]));
            linear(m, l, "mlp.down_proj", D, M, gate, h);
            for (size_t i = 0; i < D; i++)
                x[i] += h[i];
        }
        norm(weight(m, "model.norm.weight"), D, x, h);
        for (size_t o = 0; o < V; o++) {
            logits[t * V + o] = 0;
            for (size_t i = 0; i < D; i++)
                logits[t * V + o] += head[o * D + i] * h[i];
        }
    }
}
