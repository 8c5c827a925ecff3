/* Tokens, and the comparison of outputs. The interface is house.h. */
#include "base/coins.h"
#include "kernels/element.h"
#include "tests/e2e/house.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct shape house_shape(size_t n_softmax, size_t n_tensor, size_t heads, size_t kv_heads, size_t key_dim, size_t value_dim)
{
    struct shape shape = {
        .n_layers = n_softmax + n_tensor,
        .heads = heads,
        .kv_heads = kv_heads,
        .key_dim = key_dim,
        .value_dim = value_dim,
        .scale = (float)(1 / sqrt((double)key_dim)),
        .expected_tokens = 1024,
    };
    memset(shape.kind + n_softmax, ATTENTION_TENSOR, n_tensor);
    return shape;
}

static void put(void *to, size_t i, enum element element, float x)
{
    if (element == ELEMENT_F32)
        ((float *)to)[i] = x;
    else
        ((uint16_t *)to)[i] = element == ELEMENT_F16 ? f16_of_f32(x) : bf16_of_f32(x);
}

/* (n, width) numbers of tensor number `tensor`. */
static void *fill(const struct tokens *t, uint64_t seed, uint64_t tensor, size_t width, double reach)
{
    void *to = malloc(t->n * width * element_bytes(t->shape->element) + 1);
    for (size_t i = 0; to && i < t->n; i++)
        for (size_t c = 0; c < width; c++)
            put(to, i * width + c, t->shape->element, (float)(reach * (2 * coin(seed, tensor, t->first + i, c) - 1)));
    return to;
}

void tokens_create(struct tokens *t, const struct shape *shape, uint64_t seed, uint32_t layer, uint64_t first, size_t n)
{
    seed = head_seed(seed, layer, 0);
    *t = (struct tokens){.shape = shape, .first = first, .n = n, .kind = (enum attention_kind)shape->kind[layer]};
    t->q = fill(t, seed, 0, shape->heads * shape->key_dim, 3);
    for (size_t s = 0; s < attention_streams(t->kind); s++) {
        t->key[s] = fill(t, seed, 1 + 2 * s, shape->kv_heads * shape->key_dim, 1);
        t->value[s] = fill(t, seed, 2 + 2 * s, shape->kv_heads * shape->value_dim, 1);
    }
}

void tokens_destroy(struct tokens *t)
{
    free(t->q);
    for (size_t s = 0; s < 2; s++) {
        free(t->key[s]);
        free(t->value[s]);
    }
}

static const void *at_token(const struct tokens *t, const void *base, uint64_t at, size_t width)
{
    return base ? (const char *)base + (at - t->first) * width * element_bytes(t->shape->element) : NULL;
}

const void *tokens_q(const struct tokens *t, uint64_t at)
{
    return at_token(t, t->q, at, t->shape->heads * t->shape->key_dim);
}

const void *tokens_key(const struct tokens *t, int stream, uint64_t at)
{
    return at_token(t, t->key[stream], at, t->shape->kv_heads * t->shape->key_dim);
}

const void *tokens_value(const struct tokens *t, int stream, uint64_t at)
{
    return at_token(t, t->value[stream], at, t->shape->kv_heads * t->shape->value_dim);
}

struct attnd_part tokens_part(const struct tokens *t, struct attnd_stream *stream, uint64_t at, size_t n, unsigned flags,
                              float *out, float *lse)
{
    struct attnd_part part = {.stream = stream, .n_tokens = (uint32_t)n, .flags = (uint16_t)flags, .out = out, .lse = lse};
    if (flags & (WIRE_ATTEND | WIRE_OBSERVE))
        part.q = tokens_q(t, at);
    for (int s = 0; s < 2 && flags & WIRE_APPEND; s++) {
        part.key[s] = tokens_key(t, s, at);
        part.value[s] = tokens_value(t, s, at);
    }
    return part;
}

size_t floats_out(const struct shape *shape, size_t n)
{
    return n * shape->heads * shape->value_dim;
}

size_t floats_lse(const struct shape *shape, size_t n)
{
    return n * shape->heads;
}

double floats_differ(const float *a, const float *b, size_t n)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return error == 0 ? 0 : sqrt(error / norm);
}

uint64_t pick(uint64_t seed, uint64_t index, uint64_t n)
{
    return mix(mix(seed) ^ index) % n;
}
