/* Selection: the cache of a policy that keeps some rows and drops the others, but for what differs: how rows are ranked, and
 * what is learned from queries. Sinks, recent rows and the interval are those of cache/held.h.
 *
 * A policy of this kind is a file with a selection_rule and a row of cache_ops with SELECTION_SLOTS, the rule, its keys and gauges,
 * and selection_observe where the rule learns.
 *
 *     append     when the rows are full: choose, drop;  then the new rows
 *     attend     one segment, all rows; a run of tokens is causal, since the last rows are those of the last tokens
 *     observe    learn, token by token, from the rows that the token saw
 *
 * Dropping waits for the next append, so attending again after observe still finds what the last token saw. */
#ifndef ATTND_CACHE_SELECTION_H
#define ATTND_CACHE_SELECTION_H

#include "cache/held.h"
#include "cache/ranked/lowest.h"

struct selection;

struct selection_rule {
    double recent_share;
    enum row_weights weights;
    size_t least_interval; /* of the default one; 0: any */

    /* Bytes beside each row and bytes of the page beside all rows, both zeroed at first. Optional: 0. */
    size_t (*side_bytes)(const struct policy *policy, const struct cache_dims *dims);
    size_t (*extra_bytes)(const struct policy *policy, const struct cache_dims *dims);
    /* More to refuse, and what the rule's own settings come to. Optional. */
    int (*settle)(size_t *option, const struct held_plan *plan, const struct policy *policy, const struct cache_dims *dims,
                  struct fault *fault);

    /* The rows are full: which candidates go. gone (plan.interval,) in ascending order. May change sides and weights. */
    void (*choose)(struct selection *c, uint32_t *gone);
    /* One token's queries q (group, d), scaled; the token saw rows [0, n_seen), n_seen > 0. Optional. */
    void (*learn)(struct selection *c, const float *q, size_t n_seen);
};

struct selection {
    struct cache base;
    const struct kernels *kernels;
    const struct selection_rule *rule;
    struct held_plan plan;
    struct held held;
    struct page *extra;   /* NULL where the rule has none */
    size_t group, option; /* option: the rule's own */
    uint64_t seed, n_dropped;
    struct segment segment; /* the view's */
};

/* The plan with so many bytes beside each row. */
int selection_plan(struct held_plan *plan, const struct selection_rule *rule, const struct policy *policy,
                   const struct cache_dims *dims, size_t side_bytes, struct fault *fault);

/* Slots of cache_ops, whose rule is a selection_rule. */
int selection_check(const struct policy *policy, const struct cache_dims *dims, struct fault *fault);
int selection_create(struct cache **out, const struct cache_dims *dims, const struct policy *policy,
                     const struct kernels *kernels);
size_t selection_worst_bytes(const struct policy *policy, const struct cache_dims *dims, uint64_t n_tokens);
void selection_destroy(struct cache *cache);
size_t selection_run_max(const struct cache *cache);
int selection_append(struct cache *cache, const struct token_run *run);
size_t selection_view(struct cache *cache, uint64_t first_query, const float *q, struct view out[2]);
void selection_observe(struct cache *cache, const struct attention_record *record);
bool selection_check_state(const struct cache *cache, const char **reason);

/* clang-format off */
#define SELECTION_SLOTS                                                                                                        \
    .kinds = 1u << ATTENTION_SOFTMAX, .companion = "window", .takes_budget = true, .takes_recent = true,                       \
    .control_bytes = sizeof(struct selection), .check = selection_check, .create = selection_create,                          \
    .destroy = selection_destroy, .worst_bytes = selection_worst_bytes, .run_max = selection_run_max,                          \
    .append = selection_append, .view = selection_view, .check_state = selection_check_state
/* clang-format on */

/* Gauges, in this order; a policy's own come after them. */
enum { SELECTION_GAUGES = 2 };
#define SELECTION_GAUGE_ROWS                                                                                                   \
    {                                                                                                                          \
        "rows", "", "Rows held", false                                                                                         \
    }
#define SELECTION_GAUGE_EVICTIONS                                                                                              \
    {                                                                                                                          \
        "evictions", "", "Rows dropped so far", false                                                                          \
    }
extern const struct cache_gauge selection_gauges[SELECTION_GAUGES];
void selection_measure(const struct cache *cache, double *values);

/* ---- for rules; the candidates are rows [plan.sinks, plan.sinks + held_candidates(&plan)) */

/* Adds what one token's queries give to rows [0, n_seen), the sum over the group of normalised probabilities, to float number
 * `place` of their sides. */
void selection_add_scores(struct selection *c, const float *q, size_t n_seen, size_t place);

/* Float number `place` of row 0's side, for writing; the next row's is side_bytes further. */
float *selection_sides(struct selection *c, size_t place);

/* The candidates whose float number `place` of the side is lowest. */
void selection_lowest(struct selection *c, size_t place, uint32_t *gone);

/* side_bytes of rules that keep one float per row. */
size_t selection_one_score(const struct policy *policy, const struct cache_dims *dims);

#endif
