#include "tools/eval/trace.h"

#include "io/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reading {
    const char *path;
    const struct safetensors *file;
    struct trace *trace;
    struct fault *fault;
};

static const struct tensor *find(const struct reading *r, size_t layer, const char *part)
{
    char name[64];
    snprintf(name, sizeof name, "layer.%zu.%s", layer, part);
    return safetensors_find(r->file, name);
}

static int wrong(const struct reading *r, size_t layer, const char *part, const char *what)
{
    return fault_set(r->fault, ERR_INVALID, "%.120s: layer.%zu.%s %s", r->path, layer, part, what);
}

/* One tensor as f32, (n, heads, width); sizes that are still 0 are taken from it, the others must be its own. */
static int read_tensor(const struct reading *r, size_t layer, const char *part, size_t *heads, size_t *width, float **out)
{
    const struct tensor *t = find(r, layer, part);
    size_t *n = &r->trace->n_tokens;
    char says[96];
    if (!t)
        return wrong(r, layer, part, "is missing");
    if (t->type != TENSOR_F32 && t->type != TENSOR_F16 && t->type != TENSOR_BF16)
        return wrong(r, layer, part, "must be F32, F16 or BF16");
    if (t->n_dims != 3 || t->n == 0)
        return wrong(r, layer, part, "must have three dimensions: tokens, heads, numbers of a head");
    *n = *n ? *n : t->dim[0];
    *heads = *heads ? *heads : t->dim[1];
    *width = *width ? *width : t->dim[2];
    if (t->dim[0] != *n || t->dim[1] != *heads || t->dim[2] != *width) {
        snprintf(says, sizeof says, "is %zu x %zu x %zu, and beside the others it should be %zu x %zu x %zu", t->dim[0],
                 t->dim[1], t->dim[2], *n, *heads, *width);
        return wrong(r, layer, part, says);
    }
    int err = tensor_to_f32(t, out, r->fault);
    for (size_t i = 0; !err && i < t->n; i++)
        if (!isfinite((*out)[i]))
            err = wrong(r, layer, part, "holds NaN or infinity");
    return err;
}

static int read_layer(const struct reading *r, size_t layer)
{
    static const char *const names[N_ATTENTION][4] = {{"k", "v"}, {"k1", "v1", "k2", "v2"}};
    struct shape *s = &r->trace->shape;
    struct trace_layer *to = &r->trace->layer[layer];
    enum attention_kind kind = find(r, layer, "k") ? ATTENTION_SOFTMAX : ATTENTION_TENSOR;
    if (kind == ATTENTION_TENSOR && !find(r, layer, "k1"))
        return wrong(r, layer, "k", "(or k1, v1, k2, v2) is missing");
    if (kind == ATTENTION_SOFTMAX && find(r, layer, "k1"))
        return wrong(r, layer, "k", "and k1 are both there: is it softmax or tensor attention?");
    s->kind[layer] = (unsigned char)kind;
    int err = read_tensor(r, layer, "q", &s->heads, &s->key_dim, &to->q);
    for (size_t i = 0; !err && i < attention_streams(kind); i++) {
        err = read_tensor(r, layer, names[kind][2 * i], &s->kv_heads, &s->key_dim, &to->key[i]);
        if (!err)
            err = read_tensor(r, layer, names[kind][2 * i + 1], &s->kv_heads, &s->value_dim, &to->value[i]);
    }
    return err;
}

/* A whole number of the metadata, which must be what the tensors say. */
static int compare(const struct reading *r, const char *key, size_t value)
{
    const char *text = safetensors_metadata(r->file, key);
    char *end;
    if (!text)
        return 0;
    unsigned long long x = strtoull(text, &end, 10);
    if (end == text || *end || x != value)
        return fault_set(r->fault, ERR_INVALID, "%.120s: metadata %s is '%.40s', the tensors say %zu", r->path, key, text,
                         value);
    return 0;
}

static int read_metadata(const struct reading *r)
{
    struct shape *s = &r->trace->shape;
    const struct {
        const char *key;
        size_t value;
    } sizes[] = {{"layers", s->n_layers},
                 {"heads", s->heads},
                 {"kv_heads", s->kv_heads},
                 {"head_dim", s->key_dim},
                 {"tokens", r->trace->n_tokens}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int err = compare(r, sizes[i].key, sizes[i].value);
        if (err)
            return err;
    }
    unsigned kinds = trace_kinds(r->trace);
    const char *attention = safetensors_metadata(r->file, "attention");
    int kind = attention ? attention_from_name(attention) : 0;
    if (attention && kind >= 0 && kinds != 1u << kind)
        return fault_set(r->fault, ERR_INVALID, "%.120s: metadata attention is '%.40s', and not every layer is", r->path,
                         attention);

    s->scale = (float)(1 / sqrt((double)s->key_dim));
    const char *scale = safetensors_metadata(r->file, "scale");
    char *end;
    double x = scale ? strtod(scale, &end) : 0;
    if (scale && (end == scale || *end || !isfinite(x)))
        return fault_set(r->fault, ERR_INVALID, "%.120s: metadata scale must be a number, not '%.40s'", r->path, scale);
    if (scale)
        s->scale = (float)x;
    return 0;
}

static int read_all(const struct reading *r)
{
    struct trace *t = r->trace;
    while (t->shape.n_layers < SHAPE_LAYERS_MAX && find(r, t->shape.n_layers, "q"))
        t->shape.n_layers++;
    if (t->shape.n_layers == 0)
        return fault_set(r->fault, ERR_INVALID,
                         "%.120s: there is no tensor layer.0.q; a trace has layer.L.q beside .k, .v or .k1, .v1, .k2, .v2",
                         r->path);
    t->layer = calloc(t->shape.n_layers, sizeof *t->layer);
    if (!t->layer)
        return fault_set(r->fault, ERR_NO_MEMORY, "%.120s", r->path);
    for (size_t l = 0; l < t->shape.n_layers; l++) {
        int err = read_layer(r, l);
        if (err)
            return err;
    }
    t->shape.element = ELEMENT_F32;
    t->shape.expected_tokens = t->n_tokens;
    int err = read_metadata(r);
    return err ? err : shape_check(&t->shape, r->fault);
}

int trace_load(struct trace *trace, const char *path, struct fault *fault)
{
    struct safetensors *file;
    *trace = (struct trace){0};
    int err = safetensors_open(&file, path, fault);
    if (err)
        return err;
    err = read_all(&(struct reading){path, file, trace, fault});
    safetensors_close(file);
    return err;
}

void trace_free(struct trace *trace)
{
    for (size_t l = 0; trace->layer && l < trace->shape.n_layers; l++) {
        free(trace->layer[l].q);
        for (size_t i = 0; i < 2; i++) {
            free(trace->layer[l].key[i]);
            free(trace->layer[l].value[i]);
        }
    }
    free(trace->layer);
    *trace = (struct trace){0};
}

unsigned trace_kinds(const struct trace *trace)
{
    unsigned kinds = 0;
    for (size_t l = 0; l < trace->shape.n_layers; l++)
        kinds |= 1u << trace->shape.kind[l];
    return kinds;
}
