#include "workers/head.h"

#include "base/clock.h"
#include "cache/rows.h"
#include "workers/stream.h"

#include <stdlib.h>

/* Tokens that are widened at a time: few when rows are only appended (they stay in the first-level cache), many when queries
 * attend, since a run is what shares the rows and what a prompt's blocks are cut from. */
enum {
    RUN_APPEND = 64,
    RUN_ATTEND = 1024,
    TURN = 512, /* tokens after which a turn ends: what the heads of a message read of it side by side stays in the caches */
};

struct run {
    size_t first, n; /* tokens of the part */
    const float *q;  /* (n, g, d), scaled; NULL without queries */
    struct token_run tokens;
    struct raw_rows raw[2]; /* the tokens as they came */
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t run_length(const struct head *head, const struct part *part, size_t left)
{
    size_t n = smaller(left, part->flags & (PART_ATTEND | PART_OBSERVE) ? RUN_ATTEND : RUN_APPEND);
    return part->flags & PART_APPEND ? smaller(n, head->cache->ops->run_max(head->cache)) : n;
}

/* Whether the head's tokens go into its cache as they came; an audit wants them widened. */
static bool is_raw(const struct head *head)
{
    const struct cache_ops *ops = head->cache->ops;
    return ops->takes_raw && ops->takes_raw(head->cache, head->stream->shape.element) && !head->audit.full;
}

/* Widens the head's share of the run's tensors into the worker's memory, or says where they lie. */
static int widen(struct worker *worker, const struct head *head, const struct part *part, struct run *run)
{
    const struct shape *s = &head->stream->shape;
    const struct kernels *kernels = engine_kernels(head->stream->engine);
    size_t bytes = element_bytes(s->element), n = run->n, g = s->heads / s->kv_heads, d = s->key_dim, e = s->value_dim;
    size_t n_streams = part->flags & PART_APPEND ? attention_streams((enum attention_kind)s->kind[part->layer]) : 0;
    size_t n_q = part->q ? n * g * d : 0;
    bool raw = n_streams && is_raw(head);
    float *to = scratch_get(&worker->input, (n_q + (raw ? 0 : n_streams * n * (d + e)) + 1) * sizeof *to);
    if (!to)
        return ERR_NO_MEMORY;
    run->q = n_q ? to : NULL;
    if (n_q) {
        const char *from = (const char *)part->q + (run->first * s->heads + head->kv_head * g) * d * bytes;
        kernels->widen[s->element](from, n, g * d, s->heads * d, s->scale, to);
        to += n_q;
    }
    run->tokens = (struct token_run){.first = part->first_token + run->first, .n = n, .raw = raw ? run->raw : NULL};
    for (size_t i = 0; i < n_streams; i++) {
        size_t at = run->first * s->kv_heads + head->kv_head;
        const char *keys = (const char *)part->key[i] + at * d * bytes, *values = (const char *)part->value[i] + at * e * bytes;
        run->raw[i] = (struct raw_rows){keys, values, s->kv_heads * d * bytes, s->kv_heads * e * bytes};
        if (raw)
            continue;
        run->tokens.key[i] = to;
        kernels->widen[s->element](keys, n, d, s->kv_heads * d, 1, to);
        to += n * d;
        run->tokens.value[i] = to;
        kernels->widen[s->element](values, n, e, s->kv_heads * e, 1, to);
        to += n * e;
    }
    return 0;
}

/* Now, and what has passed since *last. */
static uint64_t lap(uint64_t *last)
{
    uint64_t before = *last;
    *last = clock_ns();
    return *last - before;
}

/* *now: when the head's own attention was done; what an audit takes is not its time. */
static int attend(struct worker *worker, struct head *head, const struct part *part, const struct run *run, uint64_t *now)
{
    const struct shape *s = &head->stream->shape;
    struct cache *cache = head->cache;
    size_t g = s->heads / s->kv_heads, H = s->heads, h = head->kv_head * g;
    bool append = part->flags & PART_APPEND;
    uint64_t last = cache->n_tokens ? cache->n_tokens - 1 : 0;
    struct attend a = {
        .kernels = engine_kernels(head->stream->engine),
        .compute = head->compute,
        .n_views = attention_streams((enum attention_kind)s->kind[part->layer]),
        .group = g,
        .d = s->key_dim,
        .e = s->value_dim,
        .n_tokens = run->n,
        .first_token = append ? run->tokens.first : last,
        .token_step = append,
        .q = run->q,
        .sink_logit = s->n_sink_logits ? s->sink_logit + h : NULL,
        .out = part->out + (run->first * H + h) * s->value_dim,
        .out_stride = H * s->value_dim,
        .lse = part->flags & PART_PARTIAL ? part->lse + run->first * H + h : NULL,
        .lse_stride = H,
    };
    if (cache->n_tokens)
        a.n_views = cache->ops->view(cache, a.first_token, run->q, a.view);
    int err = pool_attend(worker, &a);
    *now = clock_ns();
    if (!err && head->audit.full && cache->n_tokens &&
        audit_compare(worker, &head->audit, &a, &head->stream->profile->totals.error, &head->stream->error))
        audit_destroy(&head->audit); /* no memory: the stream goes on unaudited */
    return err;
}

/* Widen, append, attend, observe: one run. Adds the times; *now goes from its beginning to its end. The clock is read at their borders
 * alone: a read costs as much as a row. */
static int step(struct worker *worker, struct head *head, struct head_task *task, struct run *run, uint64_t *now)
{
    struct cache *cache = head->cache;
    const struct part *part = task->part;
    bool learns = part->flags & (PART_APPEND | PART_OBSERVE); /* attend alone changes nothing */
    int err = widen(worker, head, part, run);
    if (!err && part->flags & PART_APPEND)
        err = cache->ops->append(cache, &run->tokens);
    task->append_ns += lap(now);
    if (err)
        return err;
    if (head->audit.full && part->flags & PART_APPEND && audit_append(&head->audit, &run->tokens))
        audit_destroy(&head->audit); /* no memory: the stream goes on unaudited */
    if (part->flags & PART_ATTEND) {
        uint64_t start = head->audit.full ? clock_ns() : *now;
        err = attend(worker, head, part, run, now);
        task->attend_ns += *now - start;
    }
    if (!err && learns && run->q && cache->ops->observe) {
        uint64_t start = head->audit.full ? clock_ns() : *now;
        cache->ops->observe(cache, &(struct attention_record){.first = run->tokens.first, .n_tokens = run->n, .q = run->q});
        *now = clock_ns();
        task->append_ns += *now - start; /* what a policy learns is work on the cache */
    } else if (head->audit.full) {
        *now = clock_ns();
    }
    return err;
}

/* What several tasks come to: totals that every thread adds to are written once for all of them. */
struct tally {
    struct pool *pool;

    struct engine_profile *profile;                                                   /* of these: */
    uint64_t wait[BATCH_TASKS_MAX], append[BATCH_TASKS_MAX], attend[BATCH_TASKS_MAX]; /* nanoseconds, one for each task */
    size_t n_waits, n_appends, n_attends;
    uint64_t tokens, full_bf16; /* appended, of all heads; the bytes of the full cache */

    struct engine_stream *stream; /* and of these: */
    uint32_t layer;
    uint64_t layer_tokens, layer_full_bf16; /* tokens: of the first head */
    uint64_t longest;                       /* tokens that a cache holds */
    uint64_t append_ns, attend_ns;
    uint64_t attended_tokens, attended_ns; /* of tasks that went well */
};

/* A moving average over some sixteen tellings. Threads may overwrite each other's update: an average can bear that. */
static void tell_pace(const struct tally *tally)
{
    struct engine_stream *stream = tally->stream;
    _Atomic(double) *average = &stream->seconds_per_token[stream->shape.kind[tally->layer]];
    double sample = (double)tally->attended_ns * 1e-9 / (double)tally->attended_tokens * (double)stream->shape.kv_heads;
    double before = atomic_load_explicit(average, memory_order_relaxed);
    atomic_store_explicit(average, before > 0 ? before + (sample - before) / 16 : sample, memory_order_relaxed);
}

static void tell_length(struct engine_stream *stream, uint64_t n)
{
    uint64_t longest = atomic_load(&stream->longest);
    while (n > longest && !atomic_compare_exchange_weak(&stream->longest, &longest, n))
        ;
}

static void tell_layer(struct tally *tally)
{
    struct engine_stream *stream = tally->stream;
    if (!stream)
        return;
    if (tally->layer_full_bf16)
        atomic_fetch_add(&stream->full_bf16, tally->layer_full_bf16);
    if (tally->layer_tokens)
        atomic_fetch_add(&stream->tokens, tally->layer_tokens);
    if (tally->append_ns)
        atomic_fetch_add(&stream->append_ns, tally->append_ns);
    if (tally->attend_ns)
        atomic_fetch_add(&stream->attend_ns, tally->attend_ns);
    tell_length(stream, tally->longest);
    if (tally->attended_tokens)
        tell_pace(tally);
}

static void tell_profile(struct tally *tally)
{
    if (!tally->profile)
        return;
    struct engine_totals *pool = pool_totals(tally->pool), *profile = &tally->profile->totals;
    histogram_add_all((struct histogram *[]){&pool->wait, &profile->wait}, 2, tally->wait, tally->n_waits);
    histogram_add_all((struct histogram *[]){&pool->append, &profile->append}, 2, tally->append, tally->n_appends);
    histogram_add_all((struct histogram *[]){&pool->attend, &profile->attend}, 2, tally->attend, tally->n_attends);
    if (!tally->tokens)
        return;
    atomic_fetch_add(&pool->tokens, tally->tokens);
    atomic_fetch_add(&profile->tokens, tally->tokens);
    atomic_fetch_add(&pool->full_bf16, tally->full_bf16);
    atomic_fetch_add(&profile->full_bf16, tally->full_bf16);
}

static void clear_layer(struct tally *tally)
{
    tally->layer_tokens = tally->layer_full_bf16 = tally->longest = 0;
    tally->append_ns = tally->attend_ns = tally->attended_tokens = tally->attended_ns = 0;
}

static void clear_profile(struct tally *tally)
{
    tally->n_waits = tally->n_appends = tally->n_attends = 0; /* the arrays are written as far as these say */
    tally->tokens = tally->full_bf16 = 0;
}

/* What follows is of this stream's layer. NULL: nothing follows. */
static void tally_turn_to(struct tally *tally, struct engine_stream *stream, uint32_t layer)
{
    if (stream == tally->stream && layer == tally->layer)
        return;
    tell_layer(tally);
    tally->stream = stream;
    tally->layer = layer;
    clear_layer(tally);
    if (stream && stream->profile == tally->profile)
        return;
    tell_profile(tally);
    tally->profile = stream ? stream->profile : NULL;
    clear_profile(tally);
}

/* What the whole task took. */
static void tell_task(const struct head_task *task, struct tally *tally, bool ended_well)
{
    struct part *part = task->part;
    tally->wait[tally->n_waits++] = task->wait_ns;
    if (part->flags & PART_APPEND)
        tally->append[tally->n_appends++] = task->append_ns;
    if (part->flags & PART_ATTEND)
        tally->attend[tally->n_attends++] = task->attend_ns;
    if (ended_well && part->flags & PART_ATTEND) {
        tally->attended_tokens += part->n_tokens;
        tally->attended_ns += task->attend_ns;
    }
    tally->append_ns += task->append_ns;
    tally->attend_ns += task->attend_ns;
    atomic_fetch_add_explicit(&part->append_ns, task->append_ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&part->attend_ns, task->attend_ns, memory_order_relaxed);
}

/* At most so many tokens of a task, from where it stands; true when it is done. */
static bool run_task(struct worker *worker, struct head *head, struct head_task *task, size_t n_tokens, struct tally *tally,
                     uint64_t *now)
{
    struct part *part = task->part;
    struct run run = {.first = task->n_done};
    size_t end = n_tokens < part->n_tokens - run.first ? run.first + n_tokens : part->n_tokens;
    int err = atomic_load(&head->stream->err);
    if (task->n_done == 0)
        task->wait_ns = *now > part->submit_ns ? *now - part->submit_ns : 0;
    while (!err && run.first < end) {
        run.n = run_length(head, part, part->n_tokens - run.first);
        err = step(worker, head, task, &run, now);
        if (!err)
            run.first += run.n;
    }
    task->n_done = run.first;
    if (err) {
        int none = 0;
        atomic_compare_exchange_strong(&head->stream->err, &none, err);
        atomic_store(&part->err, err);
    }
    bool done = err || run.first == part->n_tokens;
    if (done)
        tell_task(task, tally, !err);
    return done;
}

static void account(struct head *head, uint64_t n_appended, struct tally *tally)
{
    const struct page_account *now = &head->cache->account;
    const struct shape *s = &head->stream->shape;
    stream_account(head, atomic_load(&now->allocated), atomic_load(&now->resident), audit_bytes(&head->audit));
    size_t full = shape_full_bf16_bytes(s, (enum attention_kind)s->kind[head->layer], n_appended);
    tally->full_bf16 += full;
    tally->layer_full_bf16 += full;
    tally->tokens += n_appended;
    if (head->kv_head == 0)
        tally->layer_tokens += n_appended; /* once per layer */
    if (head->cache->n_tokens > tally->longest)
        tally->longest = head->cache->n_tokens;
}

static void tell_gauges(struct head *head)
{
    const struct cache_ops *ops = head->cache->ops;
    double values[CACHE_GAUGES_MAX];
    if (!head->gauge)
        return;
    ops->measure(head->cache, values);
    for (size_t i = 0; i < ops->n_gauges; i++)
        atomic_store_explicit(&head->gauge[i], values[i], memory_order_relaxed);
}

static void run_turn(struct worker *worker, struct turn *turn, struct tally *tally, uint64_t *now)
{
    struct head_task *task = turn->first;
    struct head *head = task->head;
    uint64_t n_before = head->cache->n_tokens;
    tally_turn_to(tally, head->stream, head->layer);
    for (size_t i = 0; i < turn->n; i++) {
        turn->ended = run_task(worker, head, task, turn->n == 1 ? TURN : SIZE_MAX, tally, now);
        task = i + 1 < turn->n ? task->next : NULL; /* behind the last, others may be lining up */
    }
    account(head, head->cache->n_tokens - n_before, tally); /* also where attention failed after it */
    tell_gauges(head);
}

void head_run(struct worker *worker, struct turn *turn, size_t n, uint64_t *now)
{
    struct tally tally;
    tally.pool = worker->pool;
    tally.stream = NULL;
    tally.layer = 0;
    tally.profile = NULL;
    clear_layer(&tally);
    clear_profile(&tally);
    for (size_t i = 0; i < n; i++)
        run_turn(worker, &turn[i], &tally, now);
    tally_turn_to(&tally, NULL, 0);
}

void head_retire(struct head *head)
{
    if (head->pool) /* placed: it counts in the totals */
        stream_account(head, 0, 0, 0);
    if (head->cache)
        head->cache->ops->destroy(head->cache);
    head->cache = NULL;
    audit_destroy(&head->audit);
    free(head->gauge);
    head->gauge = NULL;
}
