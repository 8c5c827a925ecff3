#include "workers/engine.h"

#include "base/clock.h"
#include "base/slabs.h"
#include "workers/stream.h"
#include "workers/teams.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Multiply-adds of a part that are done sooner than a sleeping thread wakes. */
static const double SMALL_WORK = 600e3;

struct engine {
    const struct kernels *kernels;
    engine_done *done;
    void *context;
    struct teams teams;
    struct engine_stream *streams; /* all that are open, newest first */
    struct slabs *slabs;           /* of all streams' row pages */
    struct profile *profile;       /* of the configuration, copied */
    size_t n_profiles;
    _Atomic(struct engine_profile *) opened; /* newest first; only grows */

    struct worker guest; /* the submitting thread's, for what it helps with */
    struct {
        struct head_task *first, *last;
    } line[CONFIG_POOLS_MAX]; /* lined up for each pool */
    double lined_up_work;     /* of those */

    atomic_size_t in_flight; /* parts */
    pthread_mutex_t lock;    /* taken by who waits for the last one, and who is it */
    pthread_cond_t idle;
};

/* ------------------------------------------------------------------ life */

static int copy_profiles(struct profile **out, const struct config *config)
{
    *out = calloc(config->n_profiles + 1, sizeof **out);
    if (!*out)
        return ERR_NO_MEMORY;
    memcpy(*out, config->profile, config->n_profiles * sizeof **out);
    return 0;
}

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
    int err = slabs_create(&engine->slabs);
    if (!err)
        err = copy_profiles(&engine->profile, config);
    if (err)
        fault_set(fault, err, "the engine's profiles and slabs");
    else
        err = teams_start(&engine->teams, config, fault);
    if (err) {
        engine_destroy(engine);
        return err;
    }
    engine->n_profiles = config->n_profiles;
    *out = engine;
    return 0;
}

void engine_destroy(struct engine *engine)
{
    if (!engine)
        return;
    engine_drain(engine);
    teams_stop(&engine->teams);
    for (struct engine_profile *p = atomic_load(&engine->opened), *next; p; p = next) {
        next = p->next;
        free(p);
    }
    worker_free(&engine->guest);
    slabs_destroy(engine->slabs);
    free(engine->profile);
    pthread_mutex_destroy(&engine->lock);
    pthread_cond_destroy(&engine->idle);
    free(engine);
}

void engine_drain(struct engine *engine)
{
    for (size_t p = 0; p < engine->teams.n && atomic_load(&engine->in_flight); p++)
        pool_hurry(engine->teams.pool[p]);
    pthread_mutex_lock(&engine->lock);
    while (atomic_load(&engine->in_flight))
        pthread_cond_wait(&engine->idle, &engine->lock);
    pthread_mutex_unlock(&engine->lock);
}

int engine_reload(struct engine *engine, const struct config *config, size_t *n_moved, struct fault *fault)
{
    struct teams teams;
    struct profile *profile;
    *n_moved = 0;
    int err = copy_profiles(&profile, config);
    if (err)
        return fault_set(fault, err, "the engine's profiles");
    err = teams_start(&teams, config, fault);
    if (err) {
        free(profile);
        return err;
    }
    engine_drain(engine);
    for (struct engine_stream *stream = engine->streams; stream; stream = stream->next)
        for (size_t i = 0; i < stream->shape.n_layers * stream->shape.kv_heads; i++, ++*n_moved)
            teams_take(&teams, &stream->head[i]);
    teams_inherit(&teams, &engine->teams);
    teams_stop(&engine->teams);
    engine->teams = teams;
    free(engine->profile);
    engine->profile = profile;
    engine->n_profiles = config->n_profiles;
    return 0;
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
        teams_take(&engine->teams, head);
        const struct page_account *now = &head->cache->account;
        stream_account(head, atomic_load(&now->allocated), atomic_load(&now->resident), audit_bytes(&head->audit));
    }
    atomic_fetch_add(&stream->profile->totals.control, atomic_load(&stream->control));
    atomic_fetch_add(&stream->profile->totals.streams, 1);
    stream->next = engine->streams;
    if (stream->next)
        stream->next->before = stream;
    engine->streams = stream;
}

static void unlist(struct engine *engine, struct engine_stream *stream)
{
    if (stream->next)
        stream->next->before = stream->before;
    *(stream->before ? &stream->before->next : &engine->streams) = stream->next;
}

int engine_open(struct engine *engine, const struct shape *shape, const char *profile_text, struct engine_stream **out,
                struct fault *fault)
{
    return engine_open_within(engine, shape, profile_text, SIZE_MAX, out, fault);
}

int engine_open_within(struct engine *engine, const struct shape *shape, const char *profile_text, size_t room,
                       struct engine_stream **out, struct fault *fault)
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
        err = totals ? stream_create(out, engine, shape, profile, &choice, room, fault)
                     : fault_set(fault, ERR_NO_MEMORY, "a profile");
    }
    free(profile);
    if (err)
        return err;
    (*out)->profile = totals;
    place(engine, *out);
    return 0;
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
            atomic_fetch_sub(&stream->profile->totals.full_bf16, full);
            teams_drop(&engine->teams, head);
        }
    unlist(engine, stream);
    atomic_fetch_sub(&stream->profile->totals.control, atomic_load(&stream->control));
    atomic_fetch_sub(&stream->profile->totals.streams, 1);
    stream_destroy(stream);
}

uint64_t engine_next_token(const struct engine_stream *stream, uint32_t layer)
{
    return stream->layer[layer].next_token;
}

size_t engine_layer_bytes(const struct engine_stream *stream, uint32_t layer)
{
    size_t bytes = 0;
    for (size_t h = 0; h < stream->shape.kv_heads; h++)
        bytes += atomic_load(&stream->layer[layer].head[h].cache->account.allocated);
    return bytes;
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
    if (l->n_audited)
        growth += l->n_audited * (audit_worst_bytes(&l->group->dims, l->next_token + n_tokens) -
                                  audit_worst_bytes(&l->group->dims, l->next_token));
    return growth;
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
    part->n_tasks = stream->shape.kv_heads;
    *out = part;
    return 0;
}

bool part_fits(const struct part *part, const struct engine_stream *stream)
{
    return part->n_tasks >= stream->shape.kv_heads;
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

/* Multiply-adds of one head's share of a part, from what its cache takes. */
static double head_work(const struct part *part, const struct stream_layer *l, const struct head *head)
{
    const struct shape *s = &part->stream->shape;
    double width = (double)(s->key_dim + s->value_dim),
           rows = (double)atomic_load(&head->cache->account.allocated) / (2 * width);
    rows += (double)part->n_tokens; /* its own come to them */
    if (s->kind[part->layer] == ATTENTION_TENSOR)
        rows *= rows / 4;
    return rows * width * (double)l->group->dims.group * (double)part->n_tokens;
}

void engine_line_up(struct engine *engine, struct part *part)
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
    atomic_fetch_add(&engine->in_flight, 1);
    double work = 0;
    for (size_t h = 0; h < n; h++) {
        part->task[h] = (struct head_task){.part = part, .head = &l->head[h], .work = head_work(part, l, &l->head[h])};
        work += part->task[h].work;
    }
    for (size_t h = 0; h < n; h++)
        part->task[h].patient = part->patient && work <= SMALL_WORK;
    for (size_t h = 0, p = 0; h < n; h++) {
        struct head_task *task = &part->task[h];
        while (engine->teams.pool[p] != l->head[h].pool)
            p = (p + 1) % engine->teams.n;
        *(engine->line[p].last ? &engine->line[p].last->next : &engine->line[p].first) = task;
        engine->line[p].last = task;
    }
    engine->lined_up_work += work;
    if (engine->lined_up_work > SMALL_WORK)
        engine_hand_over(engine);
}

void engine_hand_over(struct engine *engine)
{
    for (size_t p = 0; p < engine->teams.n; p++) {
        if (engine->line[p].first)
            pool_submit(engine->teams.pool[p], engine->line[p].first);
        engine->line[p].first = engine->line[p].last = NULL;
    }
    engine->lined_up_work = 0;
}

void engine_submit(struct engine *engine, struct part *part)
{
    engine_line_up(engine, part);
    engine_hand_over(engine);
}

bool engine_help(struct engine *engine)
{
    for (size_t p = 0; p < engine->teams.n; p++)
        if (pool_help(engine->teams.pool[p], &engine->guest))
            return true;
    return false;
}

void part_heads_done(struct part *part, unsigned n)
{
    struct engine *engine = part->stream->engine;
    if (atomic_fetch_sub(&part->heads_left, n) != n)
        return;
    part->end_ns = clock_ns();
    atomic_fetch_sub(&part->stream->in_flight, 1);
    engine->done(engine->context, part);
    if (atomic_fetch_sub(&engine->in_flight, 1) != 1)
        return;
    pthread_mutex_lock(&engine->lock); /* which outlives the pools' threads */
    pthread_cond_broadcast(&engine->idle);
    pthread_mutex_unlock(&engine->lock);
}

/* ------------------------------------------------------------------ what is known */

size_t engine_n_pools(const struct engine *engine)
{
    return engine->teams.n;
}

const char *engine_pool_name(const struct engine *engine, size_t pool)
{
    return pool_name(engine->teams.pool[pool]);
}

size_t engine_pool_threads(const struct engine *engine, size_t pool)
{
    return pool_threads(engine->teams.pool[pool]);
}

const struct engine_totals *engine_pool_totals(const struct engine *engine, size_t pool)
{
    return pool_totals(engine->teams.pool[pool]);
}

static const struct engine_profile *profile_at(const struct engine *engine, size_t i)
{
    const struct engine_profile *p = atomic_load(&engine->opened);
    size_t n = 0;
    for (const struct engine_profile *at = p; at; at = at->next)
        n++;
    for (size_t skip = n - 1 - i; skip > 0 && p; skip--)
        p = p->next;
    assert(p); /* i is below engine_n_profiles, which only grows */
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

struct slabs *engine_slabs(const struct engine *engine)
{
    return engine->slabs;
}

const struct kernels *engine_kernels(const struct engine *engine)
{
    return engine->kernels;
}
