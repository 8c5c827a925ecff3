#include "tools/eval/reference.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Query rows whose scores are in memory at once: SOFTMAX_TOKENS tokens times the group; tensor: rows of stream 1. */
enum { SOFTMAX_TOKENS = 16, TENSOR_ROWS = 64 };

/* One kv head's rows in float64, and the block of queries that asks them. */
struct rows {
    size_t n, d, e;
    double *key[2], *value[2]; /* (n, d), (n, e) */
};

/* A thread's memory: queries (b, d), scores (b, n), sums over values (b, e), maxima and weights (b,). */
struct block {
    double *q, *s, *acc, *max, *sum;
};

static double *doubles(size_t n)
{
    return malloc((n ? n : 1) * sizeof(double));
}

static void block_free(struct block *b)
{
    free(b->q);
    free(b->s);
    free(b->acc);
    free(b->max);
    free(b->sum);
}

static bool block_create(struct block *b, size_t rows, size_t n, size_t d, size_t e)
{
    *b = (struct block){doubles(rows * d), doubles(rows * n), doubles(rows * e), doubles(rows), doubles(rows)};
    return b->q && b->s && b->acc && b->max && b->sum;
}

static void rows_free(struct rows *r)
{
    for (size_t i = 0; i < 2; i++) {
        free(r->key[i]);
        free(r->value[i]);
    }
}

/* One head's (n, width) out of (n, heads, width). */
static double *widened(const float *from, size_t n, size_t heads, size_t head, size_t width)
{
    double *out = doubles(n * width);
    for (size_t t = 0; out && t < n; t++)
        for (size_t c = 0; c < width; c++)
            out[t * width + c] = (double)from[(t * heads + head) * width + c];
    return out;
}

static bool rows_create(struct rows *r, const struct trace *trace, size_t layer, size_t kv_head)
{
    const struct shape *s = &trace->shape;
    size_t n_streams = s->kind[layer] == ATTENTION_TENSOR ? 2 : 1;
    bool ok = true;
    *r = (struct rows){.n = trace->n_tokens, .d = s->key_dim, .e = s->value_dim};
    for (size_t i = 0; i < n_streams; i++) {
        r->key[i] = widened(trace->layer[layer].key[i], r->n, s->kv_heads, kv_head, r->d);
        r->value[i] = widened(trace->layer[layer].value[i], r->n, s->kv_heads, kv_head, r->e);
        ok = ok && r->key[i] && r->value[i];
    }
    return ok;
}

/* The block's b queries ask n rows of a stream; query i sees the first seen(i) of them: all, or with group > 0 up to its own
 * token, the block's first one being `token`. max, sum, acc: per query, acc relative to max. */
static void ask(struct block *k, size_t b, const double *key, const double *value, size_t n, size_t d, size_t e, size_t group,
                size_t token)
{
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)b, (blasint)n, (blasint)d, 1, k->q, (blasint)d, key,
                (blasint)d, 0, k->s, (blasint)n);
    for (size_t i = 0; i < b; i++) {
        double *s = k->s + i * n;
        size_t seen = group ? token + i / group + 1 : n;
        k->max[i] = s[0];
        k->sum[i] = 0;
        for (size_t j = 1; j < seen; j++)
            k->max[i] = s[j] > k->max[i] ? s[j] : k->max[i];
        for (size_t j = 0; j < seen; j++) {
            s[j] = exp(s[j] - k->max[i]);
            k->sum[i] += s[j];
        }
        memset(s + seen, 0, (n - seen) * sizeof *s);
    }
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)b, (blasint)e, (blasint)n, 1, k->s, (blasint)n, value,
                (blasint)e, 0, k->acc, (blasint)e);
}

/* Queries of tokens [token, token + n_tokens) of one group; out: the token's outputs of the group's first head. */
static void softmax_block(const struct trace *trace, size_t layer, size_t kv_head, const struct rows *r, struct block *k,
                          size_t token, size_t n_tokens, double *out)
{
    const struct shape *s = &trace->shape;
    size_t g = s->heads / s->kv_heads;
    for (size_t i = 0; i < n_tokens * g; i++)
        for (size_t c = 0; c < r->d; c++)
            k->q[i * r->d + c] =
                (double)s->scale * (double)trace->layer[layer].q[((token + i / g) * s->heads + kv_head * g + i % g) * r->d + c];
    ask(k, n_tokens * g, r->key[0], r->value[0], token + n_tokens, r->d, r->e, g, token);
    for (size_t i = 0; i < n_tokens * g; i++)
        for (size_t c = 0; c < r->e; c++)
            out[(i / g * s->heads + i % g) * r->e + c] = k->acc[i * r->e + c] / k->sum[i];
}

/* One query of one token: rows of stream 1 ask stream 2, and their answers are merged under one running maximum. */
static void tensor_query(const struct trace *trace, size_t layer, size_t head, const struct rows *r, struct block *k,
                         size_t token, double *out)
{
    const struct shape *s = &trace->shape;
    const float *q = trace->layer[layer].q + (token * s->heads + head) * r->d;
    size_t n = token + 1;
    double max = -INFINITY, sum = 0;
    memset(out, 0, r->e * sizeof *out);
    for (size_t i0 = 0, b; i0 < n; i0 += b) {
        b = n - i0 < TENSOR_ROWS ? n - i0 : TENSOR_ROWS;
        for (size_t i = 0; i < b; i++)
            for (size_t c = 0; c < r->d; c++)
                k->q[i * r->d + c] = (double)s->scale * (double)q[c] * r->key[0][(i0 + i) * r->d + c];
        ask(k, b, r->key[1], r->value[1], n, r->d, r->e, 0, 0);
        for (size_t i = 0; i < b; i++) {
            double now = k->max[i] > max ? k->max[i] : max, old = exp(max - now), f = exp(k->max[i] - now);
            for (size_t c = 0; c < r->e; c++)
                out[c] = out[c] * old + f * r->value[0][(i0 + i) * r->e + c] * k->acc[i * r->e + c];
            sum = sum * old + f * k->sum[i];
            max = now;
        }
    }
    for (size_t c = 0; c < r->e; c++)
        out[c] /= sum;
}

/* One kv head of one layer, block by block. */
struct task {
    const struct trace *trace;
    struct reference *to;
    reference_progress *progress;
    void *context;
    size_t n_blocks;    /* of one head */
    atomic_size_t done; /* of all heads */
    atomic_int err;
};

static void run_block(struct task *task, size_t layer, size_t kv_head, const struct rows *r, struct block *k, size_t block)
{
    const struct reference *to = task->to;
    const struct shape *s = &task->trace->shape;
    size_t g = s->heads / s->kv_heads, at = block * SOFTMAX_TOKENS;
    size_t n = to->n - at < SOFTMAX_TOKENS ? to->n - at : SOFTMAX_TOKENS;
    double *out = to->out + ((layer * to->n + at) * s->heads + kv_head * g) * r->e;
    if (s->kind[layer] == ATTENTION_SOFTMAX) {
        softmax_block(task->trace, layer, kv_head, r, k, to->first + at, n, out);
        return;
    }
    for (size_t i = 0; i < n * g; i++)
        tensor_query(task->trace, layer, kv_head * g + i % g, r, k, to->first + at + i / g,
                     out + (i / g * s->heads + i % g) * r->e);
}

static void run_head(struct task *task, size_t layer, size_t kv_head)
{
    const struct shape *s = &task->trace->shape;
    struct rows rows;
    size_t queries = SOFTMAX_TOKENS * (s->heads / s->kv_heads);
    if (!rows_create(&rows, task->trace, layer, kv_head))
        atomic_store(&task->err, ERR_NO_MEMORY);
#pragma omp parallel
    {
        struct block block = {0};
        if (!block_create(&block, queries > TENSOR_ROWS ? queries : TENSOR_ROWS, rows.n, rows.d, rows.e))
            atomic_store(&task->err, ERR_NO_MEMORY);
#pragma omp barrier
#pragma omp for schedule(dynamic)
        for (size_t b = 0; b < task->n_blocks; b++) {
            if (atomic_load(&task->err))
                continue;
            run_block(task, layer, kv_head, &rows, &block, b);
            size_t done = atomic_fetch_add(&task->done, 1) + 1, total = task->n_blocks * s->n_layers * s->kv_heads;
            if (omp_get_thread_num() == 0 && task->progress && !task->progress(task->context, done, total))
                atomic_store(&task->err, ERR_FAILED);
        }
        block_free(&block);
    }
    rows_free(&rows);
}

int reference_compute(struct reference *reference, const struct trace *trace, size_t first, reference_progress *progress,
                      void *context, struct fault *fault)
{
    const struct shape *s = &trace->shape;
    size_t n = trace->n_tokens - first, outputs = s->n_layers * n * s->heads;
    *reference = (struct reference){first, n, doubles(outputs * s->value_dim), doubles(outputs)};
    struct task task = {.trace = trace,
                        .to = reference,
                        .progress = progress,
                        .context = context,
                        .n_blocks = (n + SOFTMAX_TOKENS - 1) / SOFTMAX_TOKENS};
    if (!reference->out || !reference->norm)
        atomic_store(&task.err, ERR_NO_MEMORY);
    openblas_set_num_threads(1); /* the team here is enough */
    for (size_t l = 0; l < s->n_layers; l++)
        for (size_t h = 0; h < s->kv_heads && !atomic_load(&task.err); h++)
            run_head(&task, l, h);
    int err = atomic_load(&task.err);
    if (err) {
        reference_free(reference);
        return fault_set(fault, err, "the float64 reference: %s", err_sentence(err));
    }
    for (size_t i = 0; i < outputs; i++)
        reference->norm[i] = cblas_dnrm2((blasint)s->value_dim, reference->out + i * s->value_dim, 1);
    return 0;
}

void reference_free(struct reference *reference)
{
    free(reference->out);
    free(reference->norm);
    *reference = (struct reference){0};
}
