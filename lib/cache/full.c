/* Full: every row, in f32 or rounded to the storage; the reference of all other policies. The one that only ever appends, so it
 * takes storages that pack rows in groups.
 *     softmax   one list of rows (k, v)                        n (d + e) numbers
 *     tensor    two lists, (k1, v1) and (k2, v2): four caches  2 n (d + e) numbers     (arXiv 2503.11108) */
#include "cache/grouped.h"
#include "cache/policies.h"
#include "cache/policy.h"

#include <stdlib.h>

enum { RUN_MAX = 4096 };

struct full_params {
    uint64_t residual_tokens;
};

static const struct key full_keys[] = {
    {.name = "residual_tokens",
     .type = KEY_COUNT,
     .offset = offsetof(struct full_params, residual_tokens),
     .min = 0,
     .max = 1 << 20,
     .unit = "tokens",
     .initial = "128",
     .help = "kivi2: the last tokens, which stay in f16, and up to 31 more until 32 are packed together"},
};

struct full {
    struct cache base;
    const struct kernels *kernels;
    struct row_format format;
    struct grouped list[2];
    size_t n_streams;
};

_Static_assert(sizeof(struct full) < CACHE_CONTROL_MAX, "control state is small");

static struct row_format format_of(const struct policy *policy, const struct cache_dims *dims)
{
    return (struct row_format){policy->key_storage, policy->value_storage, dims->d, dims->e, ROWS_PLAIN, 0};
}

static uint64_t residual_of(const struct policy *policy)
{
    const struct full_params *params = (const void *)policy->params;
    return params->residual_tokens;
}

static void full_destroy(struct cache *cache)
{
    struct full *c = (struct full *)cache;
    if (!c)
        return;
    for (size_t s = 0; s < 2; s++)
        grouped_release(&c->list[s]);
    free(c);
}

static int full_create(struct cache **out, const struct cache_dims *dims, const struct policy *policy,
                       const struct kernels *kernels)
{
    struct full *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c)
        return ERR_NO_MEMORY;
    c->base.ops = &policy_full;
    c->kernels = kernels;
    c->format = format_of(policy, dims);
    c->n_streams = attention_streams(dims->kind);
    for (size_t s = 0; s < 2; s++)
        grouped_init(&c->list[s], &c->format, &c->base.account, dims->expected_tokens, SPAN_ALL, residual_of(policy));
    *out = &c->base;
    return 0;
}

static size_t full_worst_bytes(const struct policy *policy, const struct cache_dims *dims, uint64_t n_tokens)
{
    struct row_format format = format_of(policy, dims);
    return attention_streams(dims->kind) * grouped_bytes(&format, dims->expected_tokens, residual_of(policy), n_tokens);
}

static size_t full_run_max(const struct cache *cache)
{
    const struct full *c = (const struct full *)cache;
    size_t most = grouped_run_max(&c->list[0]);
    return most < RUN_MAX ? most : RUN_MAX;
}

static bool full_takes_raw(const struct cache *cache, enum element element)
{
    return rows_keep(&((const struct full *)cache)->format, element);
}

static int full_append(struct cache *cache, const struct token_run *run)
{
    struct full *c = (struct full *)cache;
    for (size_t s = 0; s < c->n_streams; s++) {
        int err = grouped_reserve(&c->list[s], run->n);
        if (err) {
            grouped_trim(&c->list[0]);
            return err;
        }
    }
    for (size_t s = 0; s < c->n_streams; s++)
        if (run->raw)
            grouped_append_raw(&c->list[s], c->kernels, run->n, &run->raw[s]);
        else
            grouped_append(&c->list[s], c->kernels, run->n, run->key[s], run->value[s]);
    c->base.n_tokens += run->n;
    return 0;
}

static size_t full_view(struct cache *cache, uint64_t first_query, const float *q, struct view out[2])
{
    struct full *c = (struct full *)cache;
    for (size_t s = 0; s < c->n_streams; s++)
        out[s] = grouped_view(&c->list[s]);
    return c->n_streams;
}

static bool full_check_state(const struct cache *cache, const char **reason)
{
    const struct full *c = (const struct full *)cache;
    size_t allocated = 0;
    for (size_t s = 0; s < 2; s++) {
        if (!grouped_check(&c->list[s], reason))
            return false;
        *reason = "rows and tokens differ in number";
        if (c->list[s].n_rows != (s < c->n_streams ? c->base.n_tokens : 0))
            return false;
        allocated += grouped_allocated(&c->list[s]);
    }
    *reason = "the account differs from the pages";
    return allocated == c->base.account.allocated;
}

const struct cache_ops policy_full = {
    .name = "full",
    .help = "keeps every row: the reference of all other policies",
    .kinds = 1u << ATTENTION_SOFTMAX | 1u << ATTENTION_TENSOR,
    .takes_groups = true,
    .control_bytes = sizeof(struct full),
    .keys = full_keys,
    .n_keys = sizeof full_keys / sizeof *full_keys,
    .create = full_create,
    .destroy = full_destroy,
    .worst_bytes = full_worst_bytes,
    .run_max = full_run_max,
    .takes_raw = full_takes_raw,
    .append = full_append,
    .view = full_view,
    .check_state = full_check_state,
};
