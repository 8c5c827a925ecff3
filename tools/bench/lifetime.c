#include "tools/bench/lifetime.h"

#include "attention/attend.h"
#include "cache/policy.h"
#include "tools/bench/summary.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { EARLY_FIRST = 3, EARLY = 5, EARLY_END = 8, LATE_FIRST = 90, ALIGNMENT = 64 };

struct run {
    const struct lifetime_plan *plan;
    struct cache *cache;
    enum attention_kind kind;
    double append[LIFETIME_WINDOWS], attend[LIFETIME_WINDOWS]; /* seconds, summed, then means */
    uint64_t appended[LIFETIME_WINDOWS], asked[LIFETIME_WINDOWS];
    void *shared, *scratch; /* of attention */
    size_t shared_bytes, scratch_bytes;
};

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

uint64_t process_resident(void)
{
    unsigned long long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%llu %llu", &pages, &resident) != 2)
        resident = 0;
    if (file)
        fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int open_cache(struct run *r, struct fault *fault)
{
    struct profile_choice choice;
    struct policy policy;
    struct cache_dims dims = {r->kind, PLANTED_DIM, PLANTED_DIM, 1, 1, 0, 0};
    char text[128];
    snprintf(text, sizeof text, "%s,budget_bytes=%llu", r->plan->ops->name, (unsigned long long)r->plan->budget_bytes);
    struct profile *profile = malloc(sizeof *profile);
    if (!profile)
        return fault_set(fault, ERR_NO_MEMORY, "a profile");
    int err = profile_choice_parse(&choice, text, fault);
    if (!err)
        err = profile_find(profile, NULL, 0, choice.name, fault);
    if (!err)
        err = policy_resolve(&policy, profile, &choice, &dims, 0, 0, fault);
    free(profile);
    if (!err && policy.ops->create(&r->cache, &dims, &policy, r->plan->kernels))
        err = fault_set(fault, ERR_NO_MEMORY, "a cache");
    return err;
}

static bool room_for(void **block, size_t *have, size_t bytes)
{
    if (bytes <= *have)
        return true;
    free(*block);
    *have = (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
    *block = aligned_alloc(ALIGNMENT, *have);
    return *block != NULL;
}

/* False: no memory. */
static bool ask(struct run *r, const float *q, float *out)
{
    struct attend a = {
        .kernels = r->plan->kernels,
        .group = 1,
        .d = PLANTED_DIM,
        .e = PLANTED_DIM,
        .n_tokens = 1,
        .first_token = r->cache->n_tokens - 1,
        .q = q,
        .out = out,
        .out_stride = PLANTED_DIM,
    };
    a.n_views = r->cache->ops->view(r->cache, a.first_token, q, a.view);
    size_t n_units = attend_units(&a);
    if (!room_for(&r->shared, &r->shared_bytes, attend_shared_bytes(&a)) ||
        !room_for(&r->scratch, &r->scratch_bytes, attend_scratch_bytes(&a)))
        return false;
    for (size_t unit = 0; unit < n_units; unit++)
        attend_unit(&a, unit, r->shared, r->scratch);
    attend_finish(&a, r->shared);
    return true;
}

static int one_token(struct run *r, uint64_t index, size_t window)
{
    struct planted_token t;
    float q[PLANTED_DIM], out[PLANTED_DIM];
    bool asks = index % LIFETIME_ASK_EVERY == 0;
    planted_token(r->plan->stream, index, attention_streams(r->kind), &t);
    if (asks || r->cache->ops->observe)
        planted_query(r->plan->stream, index, q);
    struct token_run run = {.first = index, .n = 1, .key = {t.key[0], t.key[1]}, .value = {t.value[0], t.value[1]}};
    double begin = cpu_seconds();
    int err = r->cache->ops->append(r->cache, &run);
    double appended = cpu_seconds() - begin;
    if (!err && asks) {
        begin = cpu_seconds();
        err = ask(r, q, out) ? 0 : ERR_NO_MEMORY;
        r->attend[window] += cpu_seconds() - begin;
        r->asked[window]++;
    }
    if (!err && r->cache->ops->observe) {
        begin = cpu_seconds();
        r->cache->ops->observe(r->cache, &(struct attention_record){.first = index, .n_tokens = 1, .q = q});
        appended += cpu_seconds() - begin;
    }
    r->append[window] += appended;
    r->appended[window]++;
    return err;
}

static struct lifetime_pace pace_of(struct run *r, size_t first, size_t end, uint64_t resident)
{
    for (size_t w = first; w < end; w++) {
        r->append[w] /= (double)r->appended[w];
        r->attend[w] /= (double)(r->asked[w] ? r->asked[w] : 1);
    }
    return (struct lifetime_pace){median(r->append + first, end - first), median(r->attend + first, end - first), resident};
}

/* The mean relative error of the last queries, which all stand at the end. */
static int measure_error(struct run *r, double *mean)
{
    float q[PLANTED_DIM], out[PLANTED_DIM];
    *mean = 0;
    for (size_t i = 0; i < LIFETIME_ASKED; i++) {
        double off = 0, norm = 0;
        planted_query(r->plan->stream, r->plan->n_tokens - LIFETIME_ASKED + i, q);
        if (!ask(r, q, out))
            return ERR_NO_MEMORY;
        for (size_t c = 0; c < PLANTED_DIM; c++) {
            double full = r->plan->reference[i * PLANTED_DIM + c];
            off += (out[c] - full) * (out[c] - full);
            norm += full * full;
        }
        *mean += sqrt(off / norm) / LIFETIME_ASKED;
    }
    return 0;
}

static int run_tokens(struct run *r, planted_progress *progress, struct lifetime *out, struct fault *fault)
{
    uint64_t n = r->plan->n_tokens, early = 0;
    for (size_t w = 0; w < LIFETIME_WINDOWS; w++) {
        if (!progress((size_t)(w * n / LIFETIME_WINDOWS), (size_t)n))
            return fault_set(fault, ERR_FAILED, "interrupted");
        for (uint64_t i = w * n / LIFETIME_WINDOWS; i < (w + 1) * n / LIFETIME_WINDOWS; i++) {
            int err = one_token(r, i, w);
            if (err)
                return fault_set(fault, err, "token %llu: %s", (unsigned long long)i, err_sentence(err));
        }
        if (w + 1 == EARLY)
            early = process_resident();
    }
    out->early = pace_of(r, EARLY_FIRST, EARLY_END, early);
    out->late = pace_of(r, LATE_FIRST, LIFETIME_WINDOWS, process_resident());
    return 0;
}

int lifetime_run(const struct lifetime_plan *plan, planted_progress *progress, struct lifetime *out, struct fault *fault)
{
    bool softmax = plan->ops->kinds & 1u << ATTENTION_SOFTMAX;
    struct run *r = calloc(1, sizeof *r);
    *out = (struct lifetime){.error_mean = NAN};
    if (!r)
        return fault_set(fault, ERR_NO_MEMORY, "%s", plan->ops->name);
    r->plan = plan;
    r->kind = softmax ? ATTENTION_SOFTMAX : ATTENTION_TENSOR;
    int err = open_cache(r, fault);
    if (!err)
        err = run_tokens(r, progress, out, fault);
    if (!err && softmax && plan->reference && measure_error(r, &out->error_mean))
        err = fault_set(fault, ERR_NO_MEMORY, "%s", plan->ops->name);
    if (!err) {
        out->allocated = atomic_load(&r->cache->account.allocated);
        if (plan->ops->n_gauges)
            plan->ops->measure(r->cache, out->gauge);
    }
    if (r->cache)
        plan->ops->destroy(r->cache);
    free(r->shared);
    free(r->scratch);
    free(r);
    return err;
}
