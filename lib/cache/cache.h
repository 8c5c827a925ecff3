/* Caches: the contract of a policy. One file per policy, one row in the table of cache.c; nobody switches on a policy.
 *
 * A cache belongs to one kv head of one layer of one stream. Calls on one cache never overlap (the caller holds the head's
 * turn); different caches are independent. No call may depend on time, threads or addresses: everything a policy decides
 * comes from its tokens, the observed scores, coins and its settings, so that the same tokens give the same bytes. */
#ifndef ATTND_CACHE_CACHE_H
#define ATTND_CACHE_CACHE_H

#include "attention/view.h"
#include "base/key.h"
#include "base/pages.h"
#include "base/shape.h"
#include "kernels/kernels.h"

struct policy;   /* cache/policy.h: the resolved settings */
struct raw_rows; /* cache/rows.h: rows as they came */

struct cache_dims {
    enum attention_kind kind;
    size_t d, e, group;
    float scale;
    uint64_t seed; /* of this head's coins: mix(mix(mix(profile seed) ^ layer) ^ kv_head) */
    uint64_t expected_tokens;
};

/* Consecutive tokens of one head. Stream 0 is (k, v) or (k1, v1), stream 1 is (k2, v2) for tensor layers. */
struct token_run {
    uint64_t first;                 /* equals cache->n_tokens */
    size_t n;                       /* 1..run_max */
    const float *key[2], *value[2]; /* (n, d), (n, e) contiguous */
    const struct raw_rows *raw;     /* (2,) instead of them, only where takes_raw says so; else NULL */
};

/* What queries saw, for policies that learn from scores. */
struct attention_record {
    uint64_t first; /* token of the first query */
    size_t n_tokens;
    const float *q; /* (n_tokens, group, d), scaled */
};

/* What a policy tells of its state: clusters, radius, evictions. Telemetry sums over heads, or averages where a sum says nothing. */
struct cache_gauge {
    const char *name, *unit, *help; /* "clusters", "", "one sentence" */
    bool averaged;                  /* a radius, a fill level; else summed: a count */
};

enum { CACHE_GAUGES_MAX = 8 };

/* Every policy's struct starts with one of these. */
struct cache {
    const struct cache_ops *ops;
    struct page_account account; /* every byte of the rows, weights, indices, slack */
    uint64_t n_tokens;           /* appended so far */
};

struct cache_ops {
    const char *name;       /* "full", "window", ... */
    const char *help;       /* one sentence */
    unsigned kinds;         /* bit (1 << attention_kind) for each kind it serves */
    const char *companion;  /* serves the kinds that this one does not, in a profile named after it; NULL: none needed */
    bool takes_budget;      /* budget_bytes, budget_fraction and sink_tokens apply */
    bool takes_recent;      /* recent_tokens applies */
    bool takes_groups;      /* storages that pack rows in groups will do: rows are only ever appended */
    bool stores_again;      /* keys that were read back are stored again */
    bool needs_queries;     /* q must come with append */
    bool product_rows;      /* tensor: its rows are products of both streams' rows, shown as one view */
    size_t control_bytes;   /* of its struct, which holds no rows and nothing that grows: under 512 */
    const struct key *keys; /* its own settings; offsets into policy->params */
    size_t n_keys;
    const void *rule; /* of a family of policies that share slots: what makes this one of them; NULL */

    /* Refuses settings that cannot work, by name: ERR_INVALID or ERR_UNSUPPORTED with a reason. Optional. */
    int (*check)(const struct policy *policy, const struct cache_dims *dims, struct fault *fault);
    int (*create)(struct cache **out, const struct cache_dims *dims, const struct policy *policy,
                  const struct kernels *kernels);
    void (*destroy)(struct cache *cache); /* NULL is allowed */

    /* An upper bound of account.allocated once n_tokens are in the cache: what admission reserves. */
    size_t (*worst_bytes)(const struct policy *policy, const struct cache_dims *dims, uint64_t n_tokens);

    /* How many tokens may be appended before the view is looked at, when the cache holds n_tokens now: full and window many
     * (each query sees a range of rows), sketches and score-driven policies 1. At least 1. */
    size_t (*run_max)(const struct cache *cache);

    /* Whether rows that come in this type are kept as they are, so that append takes them raw: to the bit what it makes of the same
     * rows widened. Optional: never. */
    bool (*takes_raw)(const struct cache *cache, enum element element);

    /* May fail (ERR_NO_MEMORY) only before it has changed anything. */
    int (*append)(struct cache *cache, const struct token_run *run);

    /* The rows that queries of tokens [first_query, n_tokens) see; first_query lies in the last run (or is n_tokens - 1 for
     * attend alone). O(segments), no copy of rows. q (n, group, d): for policies that keep all rows and read few; else unused.
     * Returns the number of views: 1 or 2. */
    size_t (*view)(struct cache *cache, uint64_t first_query, const float *q, struct view out[2]);

    void (*observe)(struct cache *cache, const struct attention_record *record); /* optional */
    int (*truncate)(struct cache *cache, uint64_t n_tokens); /* optional: forget the last tokens; ERR_UNSUPPORTED by name */
    const struct cache_gauge *gauges;                        /* n_gauges <= CACHE_GAUGES_MAX; may be 0 */
    size_t n_gauges;
    void (*measure)(const struct cache *cache, double *values);          /* (n_gauges,); a few instructions. With gauges only */
    bool (*check_state)(const struct cache *cache, const char **reason); /* invariants, for tests */
};

/* The table: every policy, NULL-terminated. The list of them is in cache/policies.h. */
extern const struct cache_ops *const cache_table[];

const struct cache_ops *cache_find(const char *name); /* or NULL */

/* Bytes of control state per head that are not rows (the struct itself): reported apart. */
enum { CACHE_CONTROL_MAX = 512 };
size_t cache_control_bytes(const struct cache *cache);

#endif
