#include "tests/tools/naive_service.h"

#include "tests/tools/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct rows { /* one layer's: key[s] (n, Hkv, d), value[s] (n, Hkv, e) */
    size_t n;
    float *key[2], *value[2];
};

struct naive {
    struct attention_service base;
    struct rows *layer; /* (n_layers) of the open stream */
    size_t steps;
};

static void grow(float **rows, size_t n, const float *more, size_t m)
{
    float *larger = support_array(n + m, sizeof *larger);
    if (n)
        memcpy(larger, *rows, n * sizeof *larger);
    memcpy(larger + n, more, m * sizeof *larger);
    free(*rows);
    *rows = larger;
}

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t c = 0; c < n; c++)
        sum += (double)a[c] * b[c];
    return sum;
}

/* out (e) of query head h over the first n rows. */
static void softmax_naive(const struct shape *s, const struct rows *r, size_t n, size_t head, const float *q, float *out)
{
    const size_t d = s->key_dim, e = s->value_dim;
    double *score = support_array(n, sizeof *score), largest = -INFINITY, sum = 0;
    for (size_t j = 0; j < n; j++) {
        score[j] = s->scale * dot(q, r->key[0] + (j * s->kv_heads + head) * d, d);
        largest = fmax(largest, score[j]);
    }
    for (size_t j = 0; j < n; j++)
        sum += score[j] = exp(score[j] - largest);
    for (size_t c = 0; c < e; c++) {
        double x = 0;
        for (size_t j = 0; j < n; j++)
            x += score[j] * r->value[0][(j * s->kv_heads + head) * e + c];
        out[c] = (float)(x / sum);
    }
    free(score);
}

static void tensor_naive(const struct shape *s, const struct rows *r, size_t n, size_t head, const float *q, float *out)
{
    const size_t d = s->key_dim, e = s->value_dim;
    double *score = support_array(n * n, sizeof *score), *numerator = support_array(e, sizeof *numerator), largest = -INFINITY,
           sum = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            const float *k1 = r->key[0] + (i * s->kv_heads + head) * d, *k2 = r->key[1] + (j * s->kv_heads + head) * d;
            double x = 0;
            for (size_t c = 0; c < d; c++)
                x += (double)q[c] * k1[c] * k2[c];
            score[i * n + j] = s->scale * x;
            largest = fmax(largest, s->scale * x);
        }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            const float *v1 = r->value[0] + (i * s->kv_heads + head) * e, *v2 = r->value[1] + (j * s->kv_heads + head) * e;
            const double p = exp(score[i * n + j] - largest);
            sum += p;
            for (size_t c = 0; c < e; c++)
                numerator[c] += p * v1[c] * v2[c];
        }
    for (size_t c = 0; c < e; c++)
        out[c] = (float)(numerator[c] / sum);
    free(score);
    free(numerator);
}

static int open_naive(struct attention_service *service, const struct shape *shape, const char *profile, struct fault *fault)
{
    struct naive *n = (struct naive *)service;
    if (strcmp(profile, "full") != 0)
        return fault_set(fault, ERR_UNKNOWN_PROFILE, "the test double knows only full");
    n->layer = support_array(shape->n_layers, sizeof *n->layer);
    return 0;
}

static int step_naive(struct attention_service *service, uint32_t layer, size_t n_tokens, const float *q,
                      const float *const key[2], const float *const value[2], float *out, struct fault *fault)
{
    struct naive *n = (struct naive *)service;
    const struct shape *s = &service->shape;
    struct rows *r = &n->layer[layer];
    const size_t d = s->key_dim, e = s->value_dim, held = r->n, group = s->heads / s->kv_heads;
    n->steps++;
    for (size_t i = 0; i < attention_streams((enum attention_kind)s->kind[layer]); i++) {
        grow(&r->key[i], held * s->kv_heads * d, key[i], n_tokens * s->kv_heads * d);
        grow(&r->value[i], held * s->kv_heads * e, value[i], n_tokens * s->kv_heads * e);
    }
    r->n += n_tokens;
    for (size_t t = 0; t < n_tokens; t++)
        for (size_t h = 0; h < s->heads; h++) {
            const size_t at = t * s->heads + h;
            if (s->kind[layer] == ATTENTION_TENSOR)
                tensor_naive(s, r, held + t + 1, h / group, q + at * d, out + at * e);
            else
                softmax_naive(s, r, held + t + 1, h / group, q + at * d, out + at * e);
        }
    return 0;
}

static int close_naive(struct attention_service *service, struct service_totals *totals, struct fault *fault)
{
    struct naive *n = (struct naive *)service;
    const struct shape *s = &service->shape;
    *totals = (struct service_totals){0};
    for (size_t l = 0; l < s->n_layers; l++) {
        totals->bytes_full_bf16 += s->kv_heads * shape_full_bf16_bytes(s, (enum attention_kind)s->kind[l], n->layer[l].n);
        for (int i = 0; i < 2; i++) {
            free(n->layer[l].key[i]);
            free(n->layer[l].value[i]);
        }
    }
    totals->bytes = 2 * totals->bytes_full_bf16;
    free(n->layer);
    n->layer = NULL;
    return 0;
}

static void destroy_naive(struct attention_service *service)
{
    free(service);
}

struct attention_service *naive_service(uint64_t tokens_max)
{
    static const struct service_ops ops = {open_naive, step_naive, close_naive, destroy_naive};
    struct naive *n = support_array(1, sizeof *n);
    n->base.ops = &ops;
    service_set_limits(&n->base, tokens_max, UINT64_MAX, UINT64_MAX);
    return &n->base;
}

size_t naive_steps(const struct attention_service *service)
{
    return ((const struct naive *)service)->steps;
}
