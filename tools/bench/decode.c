/* Decode: one token's queries against full caches. A job is one head in one of n passes; the threads take the units of all jobs
 * from one counter, and whoever ends a job's last unit merges its partials. */
#include "attention/attend.h"
#include "base/slabs.h"
#include "tools/bench/subject.h"
#include "tools/bench/team.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    N_TIMES_MAX = 64,
    ALIGNMENT = 64,
    RUN_ROWS = 256, /* appended at once */
    RUN_UNITS = 8,  /* taken at once: a thread reads on where it was */
};

struct job {
    struct attend attend;
    void *shared;
    atomic_size_t units_left;
};

struct decode {
    struct subject base;
    struct bench_case c;
    const struct kernels *kernels;
    size_t n_threads;
    struct slabs *slabs;    /* the caches' pages come from there, as an engine's do */
    struct cache **cache;   /* (kv_heads) */
    float *rows;            /* (RUN_ROWS, max(d, e)): the tokens of every run and every head */
    float *q;               /* (g, d) */
    struct job *job;        /* (n_jobs): pass after pass, head after head */
    void **scratch;         /* (n_threads) */
    float *out;             /* (n_jobs, g, e) */
    size_t n_jobs, n_units; /* units: of one job */
    atomic_size_t next_unit;
    atomic_int err;
};

static void *aligned(size_t bytes)
{
    return aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT);
}

static size_t group_of(const struct bench_case *c)
{
    return c->heads / c->kv_heads;
}

static void drop_jobs(struct decode *s)
{
    for (size_t i = 0; s->job && i < s->n_jobs; i++)
        free(s->job[i].shared);
    for (size_t t = 0; s->scratch && t < s->n_threads; t++) {
        free(s->scratch[t]);
        s->scratch[t] = NULL;
    }
    free(s->job);
    free(s->out);
    s->job = NULL;
    s->out = NULL;
    s->n_jobs = 0;
}

static void decode_destroy(struct subject *subject)
{
    struct decode *s = (struct decode *)subject;
    if (!s)
        return;
    drop_jobs(s);
    for (size_t h = 0; s->cache && h < s->c.kv_heads; h++)
        if (s->cache[h])
            s->cache[h]->ops->destroy(s->cache[h]);
    slabs_destroy(s->slabs);
    free(s->scratch);
    free(s->cache);
    free(s->rows);
    free(s->q);
    free(s);
}

/* ------------------------------------------------------------------ caches */

static int create_caches(struct decode *s, struct fault *fault)
{
    const struct bench_case *c = &s->c;
    struct profile_choice choice;
    struct policy policy;
    struct cache_dims dims = {c->kind, c->d, c->e, group_of(c), 1, 0, 0};
    char text[128];
    subject_profile(c, text, sizeof text);
    struct profile *profile = malloc(sizeof *profile);
    if (!profile)
        return fault_set(fault, ERR_NO_MEMORY, "a profile");
    int err = profile_choice_parse(&choice, text, fault);
    if (!err)
        err = profile_find(profile, NULL, 0, choice.name, fault);
    if (!err)
        err = policy_resolve(&policy, profile, &choice, &dims, 0, 0, fault);
    free(profile);
    if (!err && slabs_create(&s->slabs))
        err = fault_set(fault, ERR_NO_MEMORY, "slabs");
    for (size_t h = 0; !err && h < c->kv_heads; h++)
        if (policy.ops->create(&s->cache[h], &dims, &policy, s->kernels))
            err = fault_set(fault, ERR_NO_MEMORY, "a cache");
        else
            s->cache[h]->account.slabs = s->slabs;
    return err;
}

/* Every thread fills its heads, so that pages lie near who wrote them first. */
static void fill(void *context, size_t thread, size_t n_threads)
{
    struct decode *s = context;
    for (size_t h = thread; h < s->c.kv_heads; h += n_threads) {
        struct cache *cache = s->cache[h];
        while (cache->n_tokens < s->c.tokens && !atomic_load(&s->err)) {
            size_t n = s->c.tokens - cache->n_tokens, most = cache->ops->run_max(cache);
            n = n < RUN_ROWS ? n : RUN_ROWS;
            n = n < most ? n : most;
            struct token_run run = {cache->n_tokens, n, {s->rows, s->rows}, {s->rows, s->rows}, NULL};
            int err = cache->ops->append(cache, &run);
            if (err)
                atomic_store(&s->err, err);
        }
    }
}

/* ------------------------------------------------------------------ jobs */

static void plan(struct decode *s, struct attend *a, size_t head)
{
    struct cache *cache = s->cache[head];
    *a = (struct attend){
        .kernels = s->kernels,
        .compute = s->c.compute,
        .group = group_of(&s->c),
        .d = s->c.d,
        .e = s->c.e,
        .n_tokens = 1,
        .first_token = cache->n_tokens - 1,
        .q = s->q,
    };
    a->n_views = cache->ops->view(cache, a->first_token, s->q, a->view);
    a->out_stride = a->group * a->e;
}

static int make_jobs(struct decode *s, size_t n_times)
{
    size_t out_floats = group_of(&s->c) * s->c.e;
    drop_jobs(s);
    s->job = calloc(n_times * s->c.kv_heads, sizeof *s->job);
    s->out = malloc(n_times * s->c.kv_heads * out_floats * sizeof *s->out);
    if (!s->job || !s->out)
        return ERR_NO_MEMORY;
    s->n_jobs = n_times * s->c.kv_heads;
    for (size_t i = 0; i < s->n_jobs; i++) {
        struct job *job = &s->job[i];
        plan(s, &job->attend, i % s->c.kv_heads);
        job->attend.out = s->out + i * out_floats;
        s->n_units = attend_units(&job->attend);
        job->shared = aligned(attend_shared_bytes(&job->attend));
        if (!job->shared)
            return ERR_NO_MEMORY;
    }
    for (size_t t = 0; t < s->n_threads; t++) {
        s->scratch[t] = aligned(attend_scratch_bytes(&s->job[0].attend));
        if (!s->scratch[t])
            return ERR_NO_MEMORY;
    }
    return 0;
}

static void take_units(void *context, size_t thread, size_t n_threads)
{
    struct decode *s = context;
    size_t n = s->n_jobs * s->n_units;
    for (size_t first; (first = atomic_fetch_add(&s->next_unit, RUN_UNITS)) < n;)
        for (size_t unit = first; unit < n && unit < first + RUN_UNITS; unit++) {
            struct job *job = &s->job[unit / s->n_units];
            attend_unit(&job->attend, unit % s->n_units, job->shared, s->scratch[thread]);
            if (atomic_fetch_sub(&job->units_left, 1) == 1)
                attend_finish(&job->attend, job->shared);
        }
}

static int run_in(struct decode *s, enum compute compute, size_t n_times, double *seconds, struct fault *fault)
{
    if (s->n_jobs != n_times * s->c.kv_heads && make_jobs(s, n_times))
        return fault_set(fault, ERR_NO_MEMORY, "%s: the partials of %zu passes", s->c.kernel, n_times);
    for (size_t i = 0; i < s->n_jobs; i++) {
        s->job[i].attend.compute = compute;
        atomic_store(&s->job[i].units_left, s->n_units);
    }
    atomic_store(&s->next_unit, 0);
    *seconds = team_seconds(s->n_threads, take_units, s) / (double)n_times;
    return 0;
}

static int decode_run(struct subject *subject, size_t n_times, double *seconds, struct fault *fault)
{
    struct decode *s = (struct decode *)subject;
    return run_in(s, s->c.compute, n_times, seconds, fault);
}

static int decode_beside(struct subject *subject, size_t n_times, double *seconds, struct fault *fault)
{
    return run_in((struct decode *)subject, COMPUTE_F32, n_times, seconds, fault);
}

static const struct subject_ops decode_ops = {decode_run, NULL, NULL, decode_destroy},
                                other_ops = {decode_run, decode_beside, "f32", decode_destroy};

/* How far one pass of all heads is from the same in f32. */
static int find_error(struct decode *s, struct fault *fault)
{
    double seconds, error = 0, norm = 0;
    size_t n = s->n_jobs * group_of(&s->c) * s->c.e;
    float *exact = malloc(n * sizeof *exact);
    if (!exact)
        return fault_set(fault, ERR_NO_MEMORY, "%s: its outputs in f32", s->c.kernel);
    int err = run_in(s, COMPUTE_F32, 1, &seconds, fault);
    memcpy(exact, s->out, n * sizeof *exact);
    err = err ? err : run_in(s, s->c.compute, 1, &seconds, fault);
    for (size_t i = 0; i < n; i++) {
        double off = (double)s->out[i] - (double)exact[i];
        error += off * off;
        norm += (double)exact[i] * (double)exact[i];
    }
    s->base.error = sqrt(error / norm);
    free(exact);
    return err;
}

int decode_create(struct subject **out, const struct bench_case *c, const struct kernels *kernels, size_t n_threads,
                  struct fault *fault)
{
    size_t g = group_of(c), width = c->d > c->e ? c->d : c->e;
    struct decode *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return fault_set(fault, ERR_NO_MEMORY, "%s", c->kernel);
    s->base.ops = c->compute == COMPUTE_F32 ? &decode_ops : &other_ops;
    s->base.n_times_max = N_TIMES_MAX;
    s->c = *c;
    s->kernels = kernels;
    s->n_threads = n_threads;
    s->cache = calloc(c->kv_heads, sizeof s->cache[0]);
    s->scratch = calloc(n_threads, sizeof *s->scratch);
    s->rows = malloc(RUN_ROWS * width * sizeof *s->rows);
    s->q = malloc(g * c->d * sizeof *s->q);
    int err = 0;
    if (!s->cache || !s->scratch || !s->rows || !s->q) {
        err = fault_set(fault, ERR_NO_MEMORY, "%s", c->kernel);
    } else {
        subject_fill(s->rows, RUN_ROWS * width);
        subject_fill(s->q, g * c->d);
        for (size_t i = 0; i < g * c->d; i++)
            s->q[i] /= sqrtf((float)c->d);
        err = create_caches(s, fault);
    }
    if (!err) {
        team_seconds(n_threads, fill, s);
        err = atomic_load(&s->err) || make_jobs(s, 1) ? fault_set(fault, ERR_NO_MEMORY, "%s: its rows", c->kernel) : 0;
    }
    if (!err && c->compute != COMPUTE_F32)
        err = find_error(s, fault);
    if (err) {
        decode_destroy(&s->base);
        return err;
    }
    s->base.bytes = attend_row_bytes(&s->job[0].attend) * (double)c->kv_heads;
    s->base.flops = attend_flops(&s->job[0].attend) * (double)c->kv_heads;
    *out = &s->base;
    return 0;
}
