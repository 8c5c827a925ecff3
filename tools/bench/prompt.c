/* Prompts: one message of many tokens through the engine, as the daemon hands it over. Each run opens a stream, submits the
 * message, waits for it and closes the stream; its time is the engine's own, from submission to the last head's end. */
#include "attention/view.h"
#include "base/clock.h"
#include "kernels/element.h"
#include "tools/bench/subject.h"
#include "tools/bench/team.h"
#include "workers/engine.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct prompt {
    struct subject base;
    struct bench_case c;
    size_t n_threads;
    bool attend;
    struct shape *shape;
    struct engine *engine;
    void *q, *key, *value; /* wire tensors; both streams of a tensor layer get the same */
    float *out;            /* (tokens, H, e) */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done; /* under lock */

    /* append: the copy */
    char *source; /* (n_pages, page_bytes) */
    struct page **page;
    struct page_account account;
    size_t n_pages, page_bytes;
    atomic_int err;
};

static void part_done(void *context, struct part *part)
{
    struct prompt *s = context;
    (void)part;
    pthread_mutex_lock(&s->lock);
    s->done = true;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void report(void *context, const char *message)
{
    (void)context;
    fprintf(stderr, "%s\n", message);
}

static void prompt_destroy(struct subject *subject)
{
    struct prompt *s = (struct prompt *)subject;
    if (!s)
        return;
    engine_destroy(s->engine);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
    free(s->shape);
    free(s->q);
    free(s->key);
    free(s->value);
    free(s->out);
    free(s->source);
    free(s->page);
    free(s);
}

/* ------------------------------------------------------------------ a message */

static void submit(struct prompt *s, struct part *part, struct engine_stream *stream)
{
    part->stream = stream;
    part->n_tokens = (uint32_t)s->c.tokens;
    part->flags = s->attend ? PART_APPEND | PART_ATTEND : PART_APPEND;
    part->q = s->attend ? s->q : NULL;
    for (size_t i = 0; i < 2; i++) {
        part->key[i] = s->key;
        part->value[i] = s->value;
    }
    part->out = s->out;
    s->done = false;
    engine_submit(s->engine, part);
    pthread_mutex_lock(&s->lock);
    while (!s->done)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

static int prompt_run(struct subject *subject, size_t n_times, double *seconds, struct fault *fault)
{
    struct prompt *s = (struct prompt *)subject;
    uint64_t ns = 0;
    char profile[128];
    int err = 0;
    subject_profile(&s->c, profile, sizeof profile);
    for (size_t i = 0; i < n_times && !err; i++) {
        struct engine_stream *stream;
        struct part *part = NULL;
        err = engine_open(s->engine, s->shape, profile, &stream, fault);
        if (err)
            return err;
        if (part_create(&part, s->engine, stream) == 0) {
            submit(s, part, stream);
            ns += part->end_ns - part->submit_ns;
            err = part->err;
        } else {
            err = ERR_NO_MEMORY;
        }
        if (err)
            fault_set(fault, err, "%s: a message of %zu tokens: %s", s->c.kernel, s->c.tokens, err_sentence(err));
        engine_drain(s->engine);
        part_destroy(part);
        engine_close(s->engine, &stream);
    }
    *seconds = (double)ns * 1e-9 / (double)n_times;
    return err;
}

/* ------------------------------------------------------------------ the copy beside an append */

static void copy_pages(void *context, size_t thread, size_t n_threads)
{
    struct prompt *s = context;
    for (size_t i = thread; i < s->n_pages; i += n_threads) {
        int err = page_create(&s->page[i], &s->account, s->page_bytes);
        if (err) {
            atomic_store(&s->err, err);
            return;
        }
        memcpy(page_write(&s->page[i], s->page_bytes), s->source + i * s->page_bytes, s->page_bytes);
    }
}

static int append_copy(struct subject *subject, size_t n_times, double *seconds, struct fault *fault)
{
    struct prompt *s = (struct prompt *)subject;
    *seconds = team_seconds(s->n_threads, copy_pages, s);
    for (size_t i = 0; i < s->n_pages; i++)
        page_release(&s->page[i]);
    return atomic_load(&s->err) ? fault_set(fault, ERR_NO_MEMORY, "pages to copy into") : 0;
}

/* ------------------------------------------------------------------ life */

static const struct subject_ops prompt_ops = {prompt_run, NULL, NULL, prompt_destroy};
static const struct subject_ops append_ops = {prompt_run, append_copy, "memcpy", prompt_destroy};

static enum element element_of(enum storage_id storage)
{
    return storage == STORAGE_F32 ? ELEMENT_F32 : storage == STORAGE_F16 ? ELEMENT_F16 : ELEMENT_BF16;
}

static void *tensor(enum element element, size_t n)
{
    float *x = malloc(n * sizeof *x);
    uint16_t *half = (uint16_t *)x;
    if (!x)
        return NULL;
    subject_fill(x, n);
    for (size_t i = 0; element != ELEMENT_F32 && i < n; i++) {
        uint16_t h = element == ELEMENT_BF16 ? bf16_of_f32(x[i]) : f16_of_f32(x[i]);
        memcpy(&half[i], &h, sizeof h); /* behind x[i], which was read */
    }
    return x;
}

static int start_engine(struct prompt *s, const struct kernels *kernels, struct fault *fault)
{
    struct config *config;
    int err = config_load(&config, NULL, policy_check_rule, report, NULL);
    if (err)
        return fault_set(fault, err, "the built-in configuration");
    config->n_pools = 1;
    config->pool[0] = (struct config_pool){.name = "bench", .threads = s->n_threads, .heads_auto = true};
    err = engine_create(&s->engine, config, kernels, part_done, s, fault);
    config_destroy(config);
    return err;
}

static struct shape *shape_of(const struct bench_case *c, enum element element)
{
    struct shape *shape = calloc(1, sizeof *shape);
    if (!shape)
        return NULL;
    shape->n_layers = 1;
    shape->kind[0] = (unsigned char)c->kind;
    shape->heads = c->heads;
    shape->kv_heads = c->kv_heads;
    shape->key_dim = c->d;
    shape->value_dim = c->e;
    shape->scale = 1 / sqrtf((float)c->d);
    shape->element = element;
    shape->expected_tokens = c->tokens;
    return shape;
}

static int make_tensors(struct prompt *s)
{
    const struct bench_case *c = &s->c;
    s->key = tensor(s->shape->element, c->tokens * c->kv_heads * c->d);
    s->value = tensor(s->shape->element, c->tokens * c->kv_heads * c->e);
    if (s->attend) {
        s->q = tensor(s->shape->element, c->tokens * c->heads * c->d);
        s->out = malloc(c->tokens * c->heads * c->e * sizeof *s->out);
    }
    return s->key && s->value && (!s->attend || (s->q && s->out)) ? 0 : ERR_NO_MEMORY;
}

/* Pages as large as a full cache's: CHUNK rows. */
static int make_pages(struct prompt *s, size_t row_bytes)
{
    s->page_bytes = CHUNK * row_bytes;
    s->n_pages = (s->c.tokens + CHUNK - 1) / CHUNK * s->c.kv_heads;
    s->page = calloc(s->n_pages, sizeof s->page[0]);
    s->source = malloc(s->n_pages * s->page_bytes);
    if (!s->page || !s->source)
        return ERR_NO_MEMORY;
    memset(s->source, 1, s->n_pages * s->page_bytes);
    return 0;
}

/* Pairs that the prompt's queries see: token t sees t + 1 rows, or as many squared. */
static double causal_pairs(const struct bench_case *c)
{
    double n = (double)c->tokens;
    return c->kind == ATTENTION_TENSOR ? n * (n + 1) * (2 * n + 1) / 6 : n * (n + 1) / 2;
}

static int create(struct subject **out, const struct bench_case *c, bool attend, const struct kernels *kernels,
                  size_t n_threads, struct fault *fault)
{
    const struct storage *key = &storage_table[c->key_storage], *value = &storage_table[c->value_storage];
    struct prompt *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return fault_set(fault, ERR_NO_MEMORY, "%s", c->kernel);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    s->c = *c;
    s->n_threads = n_threads;
    s->attend = attend;
    s->base.ops = attend ? &prompt_ops : &append_ops;
    s->base.n_times_max = 1;
    s->base.bytes =
        (double)(c->tokens * c->kv_heads * attention_streams(c->kind) * (key->key_bytes(c->d) + value->value_bytes(c->e)));
    s->base.flops = attend ? 2.0 * (double)((c->d + c->e) * c->heads) * causal_pairs(c) : 0;
    /* What is appended comes in the type that it is stored in; what is to be quantised comes in bf16. */
    s->shape = shape_of(c, attend ? ELEMENT_F32 : element_of(c->key_storage));
    int err = s->shape && make_tensors(s) == 0 ? 0 : ERR_NO_MEMORY;
    if (!err && !attend)
        err = make_pages(s, key->key_bytes(c->d) + value->value_bytes(c->e));
    if (err)
        fault_set(fault, err, "%s: the tensors of %zu tokens", c->kernel, c->tokens);
    else
        err = start_engine(s, kernels, fault);
    if (!err)
        s->account.slabs = engine_slabs(s->engine); /* as fresh as the pages that the engine appends to */
    if (err) {
        prompt_destroy(&s->base);
        return err;
    }
    *out = &s->base;
    return 0;
}

int prompt_create(struct subject **out, const struct bench_case *c, const struct kernels *kernels, size_t n_threads,
                  struct fault *fault)
{
    return create(out, c, true, kernels, n_threads, fault);
}

int append_create(struct subject **out, const struct bench_case *c, const struct kernels *kernels, size_t n_threads,
                  struct fault *fault)
{
    return create(out, c, false, kernels, n_threads, fault);
}
