#include "workers/engine.h"

#include "base/clock.h"
#include "workers/placement.h"
#include "workers/stream.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

struct engine {
    const struct kernels *kernels;
    engine_done *done;
    void *context;
    struct pool *pool[CONFIG_POOLS_MAX];
    struct placement_pool place[CONFIG_POOLS_MAX];
    size_t n_pools;
    struct profile *profile; /* of the configuration, copied */
    size_t n_profiles;
    _Atomic(struct engine_profile *) opened; /* newest first; only grows */

    pthread_mutex_t lock; /* in_flight */
    pthread_cond_t idle;
    size_t in_flight; /* parts */
};

static uint64_t usable_cpus(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (uint64_t)CPU_COUNT(&set) : 1;
}

/* ------------------------------------------------------------------ life */

int engine_create(struct engine **out, const struct config *config, const struct kernels *kernels, engine_done *done,
                  void *context, struct fault *fault)
{
    struct engine *engine = calloc(1, sizeof *engine);
    *out = NULL;
    if (!engine)
        return fault_set(fault, ERR_NO_MEMORY, "the engine");
    pthread_mutex_init(&engine->lock, NULL);
    pthread_cond_init(&engine->idle, NULL);
    engine->kernels = kernels;
    engine->done = done;
    engine->context = context;
    engine->profile = calloc(config->n_profiles + 1, sizeof *engine->profile);
    if (!engine->profile) {
        engine_destroy(engine);
        return fault_set(fault, ERR_NO_MEMORY, "the engine's profiles");
    }
    engine->n_profiles = config->n_profiles;
    memcpy(engine->profile, config->profile, config->n_profiles * sizeof *engine->profile);
    for (size_t i = 0; i < config->n_pools; i++) {
        struct config_pool pool = config->pool[i];
        if (pool.threads == 0)
            pool.threads = usable_cpus();
        int err = pool_create(&engine->pool[i], &pool, config->spin_seconds, head_run, fault);
        if (err) {
            engine_destroy(engine);
            return err;
        }
        engine->place[i] = (struct placement_pool){pool.heads_auto, pool.first_head, pool.last_head, pool.threads, 0};
        engine->n_pools = i + 1;
    }
    *out = engine;
    return 0;
}

void engine_destroy(struct engine *engine)
{
    if (!engine)
        return;
    engine_drain(engine);
    for (size_t i = 0; i < engine->n_pools; i++)
        pool_destroy(engine->pool[i]);
    for (struct engine_profile *p = atomic_load(&engine->opened), *next; p; p = next) {
        next = p->next;
        free(p);
    }
    free(engine->profile);
    pthread_mutex_destroy(&engine->lock);
    pthread_cond_destroy(&engine->idle);
    free(engine);
}

void engine_drain(struct engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    while (engine->in_flight)
        pthread_cond_wait(&engine->idle, &engine->lock);
    pthread_mutex_unlock(&engine->lock);
}

/* ------------------------------------------------------------------ streams */

static struct engine_profile *profile_totals(struct engine *engine, const char *name)
{
    struct engine_profile *p = atomic_load(&engine->opened);
    while (p && strcmp(p->name, name) != 0)
        p = p->next;
    if (p)
        return p;
    p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    memcpy(p->name, name, strnlen(name, sizeof p->name - 1)); /* calloc left the NUL */
    p->next = atomic_load(&engine->opened);
    atomic_store(&engine->opened, p);
    return p;
}

static void place(struct engine *engine, struct engine_stream *stream)
{
    for (size_t i = 0; i < stream->shape.n_layers * stream->shape.kv_heads; i++) {
        struct head *head = &stream->head[i];
        head->pool = engine->pool[placement_choose(engine->place, engine->n_pools, head->kv_head)];
        head->allocated = atomic_load(&head->cache->account.allocated);
        head->resident = atomic_load(&head->cache->account.resident);
        stream_account(head, (ptrdiff_t)head->allocated, (ptrdiff_t)head->resident);
        atomic_fetch_add(&pool_totals(head->pool)->control, sizeof *head + cache_control_bytes(head->cache));
    }
    atomic_fetch_add(&stream->profile->totals.control, atomic_load(&stream->control));
    atomic_fetch_add(&stream->profile->totals.streams, 1);
}

int engine_open(struct engine *engine, const struct shape *shape, const char *profile_text, struct engine_stream **out,
                struct fault *fault)
{
    struct profile_choice choice;
    *out = NULL;
    int err = shape_check(shape, fault);
    if (!err)
        err = profile_choice_parse(&choice, profile_text, fault);
    if (err)
        return err;
    struct profile *profile = calloc(1, sizeof *profile); /* tens of kilobytes: not for the stack */
    struct engine_profile *totals = NULL;
    if (!profile)
        return fault_set(fault, ERR_NO_MEMORY, "a profile");
    err = profile_find(profile, engine->profile, engine->n_profiles, choice.name, fault);
    if (!err) {
        totals = profile_totals(engine, choice.name);
        err =
            totals ? stream_create(out, engine, shape, profile, &choice, fault) : fault_set(fault, ERR_NO_MEMORY, "a profile");
    }
    free(profile);
    if (err)
        return err;
    (*out)->profile = totals;
    place(engine, *out);
    return 0;
}

static void unplace(struct engine *engine, const struct head *head)
{
    for (size_t i = 0; i < engine->n_pools; i++)
        if (engine->pool[i] == head->pool)
            engine->place[i].placed--;
    atomic_fetch_sub(&pool_totals(head->pool)->control, sizeof *head + cache_control_bytes(head->cache));
}

void engine_close(struct engine *engine, struct engine_stream **stream_at)
{
    struct engine_stream *stream = *stream_at;
    *stream_at = NULL;
    if (!stream)
        return;
    const struct shape *s = &stream->shape;
    for (size_t l = 0; l < s->n_layers; l++)
        for (size_t h = 0; h < s->kv_heads; h++) {
            struct head *head = &stream->layer[l].head[h];
            size_t full = shape_full_bf16_bytes(s, (enum attention_kind)s->kind[l], head->cache->n_tokens);
            atomic_fetch_sub(&pool_totals(head->pool)->full_bf16, full);
            atomic_fetch_sub(&stream->profile->totals.full_bf16, full);
            unplace(engine, head);
        }
    atomic_fetch_sub(&stream->profile->totals.control, atomic_load(&stream->control));
    atomic_fetch_sub(&stream->profile->totals.streams, 1);
    stream_destroy(stream);
}

uint64_t engine_next_token(const struct engine_stream *stream, uint32_t layer)
{
    return stream->layer[layer].next_token;
}

size_t engine_worst_growth(const struct engine_stream *stream, uint32_t layer, uint64_t n_tokens)
{
    const struct stream_layer *l = &stream->layer[layer];
    size_t growth = 0;
    for (size_t g = 0; g < l->n_groups; g++) {
        const struct policy_group *p = &l->group[g];
        size_t now = p->policy->ops->worst_bytes(p->policy, &p->dims, l->next_token);
        size_t then = p->policy->ops->worst_bytes(p->policy, &p->dims, l->next_token + n_tokens);
        if (then > now)
            growth += (then - now) * p->n_heads;
    }
    return growth;
}

/* ------------------------------------------------------------------ checks */

static int check_tensor(const struct engine_stream *stream, const char *name, const void *data, size_t n, float limit,
                        float *magnitude, struct fault *fault)
{
    *magnitude = engine_kernels(stream->engine)->magnitude[stream->shape.element](data, n);
    if (isinf(*magnitude))
        return fault_set(fault, ERR_NOT_FINITE, "tensor %s holds NaN or infinity", name);
    if (*magnitude > limit)
        return fault_set(fault, ERR_OVERFLOW, "tensor %s reaches %g, its row storage ends at %g", name, (double)*magnitude,
                         (double)limit);
    return 0;
}

/* What comes out must be finite too. Scores are scale q.k or scale (q o k1).k2: the largest intermediate result must stay
 * finite, whatever order a kernel takes the factors in. Rows held before count like the part's own. */
static int check_scores(const struct part *part, double q, struct fault *fault)
{
    const struct shape *s = &part->stream->shape;
    const struct stream_layer *l = &part->stream->layer[part->layer];
    double bound = fmax(1, fabs((double)s->scale)) * (double)s->key_dim * fmax(1, q);
    for (size_t i = 0; i < attention_streams((enum attention_kind)s->kind[part->layer]); i++)
        bound *= fmax(1, fmax((double)l->key_magnitude[i], (double)part->key_magnitude[i]));
    if (bound > (double)FLT_MAX / 4)
        return fault_set(fault, ERR_OVERFLOW, "scores could reach %g with tensor q up to %g: no float holds that", bound, q);
    return 0;
}

/* Weights are at most 1, so sums of values over 2^20 rows stay finite when 2^20 times the largest does; of pairs of rows,
 * 2^40 times the largest product. */
static int check_values(const struct part *part, struct fault *fault)
{
    const struct shape *s = &part->stream->shape;
    const struct stream_layer *l = &part->stream->layer[part->layer];
    double bound = 1;
    for (size_t i = 0; i < attention_streams((enum attention_kind)s->kind[part->layer]); i++)
        bound *= 0x1p20 * fmax(1, fmax((double)l->value_magnitude[i], (double)part->value_magnitude[i]));
    if (bound > (double)FLT_MAX)
        return fault_set(fault, ERR_OVERFLOW, "sums of values could reach %g: no float holds that", bound);
    return 0;
}

int engine_check_part(struct part *part, struct fault *fault)
{
    static const char *const names[2][5] = {{"k", "v", NULL, NULL, "q"}, {"k1", "v1", "k2", "v2", "q"}};
    struct engine_stream *stream = part->stream;
    const struct shape *s = &stream->shape;
    struct stream_layer *l = &stream->layer[part->layer];
    enum attention_kind kind = (enum attention_kind)s->kind[part->layer];
    float q = 0;
    int err = 0;
    for (size_t i = 0; i < 2; i++)
        part->key_magnitude[i] = part->value_magnitude[i] = 0;
    if (part->flags & PART_APPEND && l->needs_queries && !part->q)
        return fault_set(fault, ERR_NEEDS_QUERIES, "layer %u's policy learns from queries: append needs q", part->layer);
    if (part->q)
        err = check_tensor(stream, "q", part->q, part->n_tokens * s->heads * s->key_dim, FLT_MAX, &q, fault);
    for (size_t i = 0; part->flags & PART_APPEND && i < attention_streams(kind) && !err; i++) {
        size_t n = part->n_tokens * s->kv_heads;
        err = check_tensor(stream, names[kind][2 * i], part->key[i], n * s->key_dim, l->key_limit, &part->key_magnitude[i],
                           fault);
        if (!err)
            err = check_tensor(stream, names[kind][2 * i + 1], part->value[i], n * s->value_dim, l->value_limit,
                               &part->value_magnitude[i], fault);
    }
    if (!err && part->flags & PART_APPEND)
        err = check_values(part, fault);
    if (!err && part->flags & (PART_ATTEND | PART_OBSERVE))
        err = check_scores(part, (double)q, fault);
    return err;
}

/* ------------------------------------------------------------------ parts */

int part_create(struct part **out, struct engine *engine, const struct engine_stream *stream)
{
    struct part *part = calloc(1, sizeof *part);
    *out = NULL;
    if (!part)
        return ERR_NO_MEMORY;
    part->task = calloc(stream->shape.kv_heads, sizeof *part->task);
    if (!part->task) {
        free(part);
        return ERR_NO_MEMORY;
    }
    *out = part;
    return 0;
}

void part_destroy(struct part *part)
{
    if (!part)
        return;
    free(part->task);
    free(part);
}

static void remember(float *largest, float x)
{
    if (x > *largest)
        *largest = x;
}

void engine_submit(struct engine *engine, struct part *part)
{
    struct engine_stream *stream = part->stream;
    struct stream_layer *l = &stream->layer[part->layer];
    size_t n = stream->shape.kv_heads;
    if (part->flags & PART_APPEND) {
        for (size_t i = 0; i < 2; i++) {
            remember(&l->key_magnitude[i], part->key_magnitude[i]);
            remember(&l->value_magnitude[i], part->value_magnitude[i]);
        }
        l->next_token += part->n_tokens;
    }
    atomic_store(&part->err, 0);
    atomic_store(&part->append_ns, 0);
    atomic_store(&part->attend_ns, 0);
    atomic_store(&part->heads_left, (unsigned)n);
    part->submit_ns = clock_ns();
    atomic_fetch_add(&stream->in_flight, 1);
    pthread_mutex_lock(&engine->lock);
    engine->in_flight++;
    pthread_mutex_unlock(&engine->lock);
    for (size_t h = 0; h < n; h++)
        part->task[h] = (struct head_task){.part = part, .head = &l->head[h]};
    for (size_t p = 0; p < engine->n_pools; p++) { /* one hand-over per pool */
        struct head_task *first = NULL, **end = &first;
        for (size_t h = 0; h < n; h++)
            if (l->head[h].pool == engine->pool[p]) {
                *end = &part->task[h];
                end = &part->task[h].next;
            }
        if (first)
            pool_submit(engine->pool[p], first);
    }
}

void part_head_done(struct part *part)
{
    struct engine *engine = part->stream->engine;
    if (atomic_fetch_sub(&part->heads_left, 1) != 1)
        return;
    part->end_ns = clock_ns();
    atomic_fetch_sub(&part->stream->in_flight, 1);
    engine->done(engine->context, part);
    pthread_mutex_lock(&engine->lock);
    if (--engine->in_flight == 0)
        pthread_cond_broadcast(&engine->idle);
    pthread_mutex_unlock(&engine->lock);
}

/* ------------------------------------------------------------------ what is known */

void engine_stream_state(const struct engine_stream *stream, struct engine_stream_state *out)
{
    *out = (struct engine_stream_state){
        .allocated = atomic_load(&stream->allocated),
        .resident = atomic_load(&stream->resident),
        .control = atomic_load(&stream->control),
        .full_bf16 = atomic_load(&stream->full_bf16),
        .tokens = atomic_load(&stream->tokens),
        .append_ns = atomic_load(&stream->append_ns),
        .attend_ns = atomic_load(&stream->attend_ns),
        .err = atomic_load(&stream->err),
    };
}

const struct shape *engine_stream_shape(const struct engine_stream *stream)
{
    return &stream->shape;
}

const char *engine_stream_profile(const struct engine_stream *stream)
{
    return stream->profile->name;
}

uint64_t engine_stream_seed(const struct engine_stream *stream)
{
    return stream->seed;
}

const char *engine_stream_rules(const struct engine_stream *stream)
{
    return stream->rules;
}

size_t engine_n_pools(const struct engine *engine)
{
    return engine->n_pools;
}

const char *engine_pool_name(const struct engine *engine, size_t pool)
{
    return pool_name(engine->pool[pool]);
}

size_t engine_pool_threads(const struct engine *engine, size_t pool)
{
    return pool_threads(engine->pool[pool]);
}

const struct engine_totals *engine_pool_totals(const struct engine *engine, size_t pool)
{
    return pool_totals(engine->pool[pool]);
}

static const struct engine_profile *profile_at(const struct engine *engine, size_t i)
{
    const struct engine_profile *p = atomic_load(&engine->opened);
    size_t n = 0;
    for (const struct engine_profile *at = p; at; at = at->next)
        n++;
    for (size_t skip = n - 1 - i; skip > 0; skip--)
        p = p->next;
    return p;
}

size_t engine_n_profiles(const struct engine *engine)
{
    size_t n = 0;
    for (const struct engine_profile *p = atomic_load(&engine->opened); p; p = p->next)
        n++;
    return n;
}

const char *engine_profile_name(const struct engine *engine, size_t i)
{
    return profile_at(engine, i)->name;
}

const struct engine_totals *engine_profile_totals(const struct engine *engine, size_t i)
{
    return &profile_at(engine, i)->totals;
}

const struct kernels *engine_kernels(const struct engine *engine)
{
    return engine->kernels;
}
