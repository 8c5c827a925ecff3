/* SubGen2Cache: tensor attention as softmax attention over product rows, with one SubGen sketch of those (Chen, Li, Liang, Shi,
 * Song, Tian: arXiv 2503.11108; both algorithms are derived here).
 *
 * Row (i, j) has key k1_i * k2_j and value v1_i * v2_j. Asking is cheap, O(d (m t + s)) with m the clusters of products; forming
 * rows is not:
 *
 *   with history       the factors of all tokens are kept (4 n d numbers, as much as the full cache, so there is no budget), and
 *                      token i adds rows (i, 0..i) and (0..i-1, i): O(n m d) a token.
 *   history-free       token i is paired with rows that stand for the tokens before it: the samples of a SubGen sketch of each
 *                      stream of factors, in the ratio form. A pair with a sample of weight w counts for w rows. The factors'
 *                      samples are unbiased, so what the products' sketch takes for n^2 rows is unbiased too.
 *
 * Sink tokens: the S^2 products of the first S tokens among themselves are kept exact (S <= 64). There is no recent window: a new
 * token has as many products with old tokens as there are partners, and each would have to stay exact.
 * Budget (history-free): what is left after this struct's page and the sinks is shared by the products' sketch, a half, and the
 * two sketches of factors, a quarter each. */
#include "base/coins.h"
#include "cache/policies.h"
#include "cache/subgen/subgen2_partners.h"
#include "cache/subgen/subgen_gauges.h"
#include "cache/subgen/subgen_plan.h"

#include <assert.h>
#include <stdlib.h>

enum { SINKS_MAX = 64, SEGMENTS = 1 + SKETCH_SEGMENTS };

struct plan {
    struct sketch_plan products;
    struct partners_plan partners;
    double delta, factor_delta[2];
};

/* The nearest cluster of a product, before those of its token go in. */
struct found {
    uint32_t cluster;
    float distance;
};

/* All in one page: more than control state may take. */
struct state {
    struct plan plan;
    struct sketch products;
    struct partners partners;
    struct rows exact;  /* the sinks' products */
    struct page *found; /* of the token that is appended; where nothing bounds the clusters */
    uint64_t n_exact;
    uint64_t n_products; /* that went into the sketch: the index of the next one's coins */
    struct segment segment[SEGMENTS];
};

struct subgen2 {
    struct cache base;
    const struct kernels *kernels;
    struct page *state;
};

_Static_assert(sizeof(struct subgen2) < CACHE_CONTROL_MAX, "control state is small");

static struct state *state_of(struct subgen2 *c)
{
    struct state *state = page_write(&c->state, sizeof *state);
    assert(state); /* it has one owner */
    return state;
}

/* ---- settings */

static const struct key subgen2_keys[] = {
    SUBGEN_KEYS("radius of clusters of products; auto: found from the stream, as small as the budget allows"),
    {.name = "factor_delta",
     .type = KEY_TEXT,
     .offset = offsetof(struct subgen_params, factor_delta),
     .unit = "",
     .initial = "auto",
     .help = "without history: radius of clusters of factors, for both streams or one for each like 0.5x0.7"},
    {.name = "history",
     .type = KEY_SWITCH,
     .offset = offsetof(struct subgen_params, history),
     .unit = "",
     .initial = "false",
     .help = "keep the factors of all tokens to form products from; false: form them from samples of the factors"},
};

static size_t exact_capacity(const struct plan *plan)
{
    size_t rows = (size_t)plan->partners.sinks * plan->partners.sinks;
    return (rows + PANEL - 1) / PANEL * PANEL;
}

static size_t exact_bytes(const struct plan *plan)
{
    size_t capacity = exact_capacity(plan);
    return capacity ? rows_bytes(&plan->partners.sinks_format, capacity) : 0;
}

/* All but delta. False: the budget doesn't hold a cluster in each sketch. */
static bool share_out(struct plan *plan, const struct policy *policy, const struct cache_dims *dims)
{
    const struct subgen_params *params = (const void *)policy->params;
    uint64_t budget = policy_budget(policy, dims);
    plan->products = subgen_sketch_plan(policy, dims, plan->delta == 0);
    struct sketch_plan factors = subgen_sketch_plan(policy, dims, plan->factor_delta[0] == 0);
    factors.n_values = 0;
    plan->partners = partners_plan(&factors, policy->sink_tokens, params->history);
    size_t fixed =
        page_rounded(sizeof(struct state)) + exact_bytes(plan) + partners_bytes(&plan->partners, plan->partners.sinks, 0);
    size_t rest = budget > fixed + 4 ? (size_t)(budget - fixed) : 4; /* 0 bytes would be no bound */
    return subgen_bound_sketch(&plan->products, policy, budget > 0 ? rest / 2 : 0) &&
           subgen_bound_sketch(&plan->partners.sketch, policy, budget > 0 ? rest / 4 : 0);
}

static bool fits(const struct policy *policy, const struct cache_dims *dims)
{
    struct plan plan = {.delta = 0};
    return share_out(&plan, policy, dims);
}

static int plan_make(struct plan *plan, const struct policy *policy, const struct cache_dims *dims, struct fault *fault)
{
    const struct subgen_params *params = (const void *)policy->params;
    struct fault why = {0};
    double delta[2];
    uint64_t budget = policy_budget(policy, dims);
    if (subgen_parse_delta(params->delta, 1, delta, &why))
        return fault_set(fault, ERR_INVALID, "delta: %s", why.text);
    plan->delta = delta[0];
    if (subgen_parse_delta(params->factor_delta, 2, plan->factor_delta, &why))
        return fault_set(fault, ERR_INVALID, "factor_delta: %s", why.text);
    if (policy->sink_tokens > SINKS_MAX)
        return fault_set(fault, ERR_INVALID, "sink_tokens: at most %d, since the products of all their pairs are kept",
                         SINKS_MAX);
    if (budget > 0 && params->history)
        return fault_set(fault, ERR_UNSUPPORTED,
                         "history: the factors of all tokens are as large as the full cache, so there can be no budget; leave "
                         "budget_bytes and budget_fraction out, or set history to false");
    if (!share_out(plan, policy, dims))
        return fault_set(
            fault, ERR_INVALID,
            "a budget of %llu bytes holds no cluster of %u samples in a sketch of products and two of factors; a head "
            "of this shape needs at least %llu bytes",
            (unsigned long long)budget, plan->products.n_samples, (unsigned long long)subgen_least_budget(policy, dims, fits));
    return 0;
}

static int subgen2_check(const struct policy *policy, const struct cache_dims *dims, struct fault *fault)
{
    struct plan plan;
    return plan_make(&plan, policy, dims, fault);
}

/* ---- products of a token */

struct walk {
    struct subgen2 *c;
    struct state *state;
    struct found *found; /* NULL: not sought before */
    size_t n, n_new;     /* rows so far; of them without a cluster */
    size_t n_clusters;   /* when they were sought */
};

/* Where nothing bounds the clusters, each product could be a new one, and room for all of them would be many times what is
 * needed. So the nearest cluster of each is sought before anything changes, those without one within delta are counted, and when
 * the rows go in, only clusters that are newer are looked at. No regrouping comes between: that takes a bound, or a delta that is
 * still to be found. */
static bool is_sought_before(const struct state *state)
{
    const struct net *net = &state->products.net;
    return net->plan->most == 0 && net->delta > 0;
}

static void seek(void *context, const struct products *products)
{
    struct walk *w = context;
    const struct net *net = &w->state->products.net;
    float key[SHAPE_DIM_MAX];
    for (size_t i = 0; i < products->n; i++) {
        struct found *found = &w->found[w->n++];
        net_round(net->plan, w->c->kernels, products->keys + i * net->plan->d, key);
        found->cluster = (uint32_t)net_nearest(net, w->c->kernels, key, 0, &found->distance);
        w->n_new += !net_joins(net, found->distance);
    }
}

static void append_found(struct walk *w, const float *key, const float *value, uint64_t token, double weight)
{
    struct sketch *products = &w->state->products;
    struct found found = w->found[w->n++];
    float rounded[SHAPE_DIM_MAX], distance;
    net_round(products->net.plan, w->c->kernels, key, rounded);
    if (products->net.n > w->n_clusters) {
        size_t newer = net_nearest(&products->net, w->c->kernels, rounded, w->n_clusters, &distance);
        if (distance < found.distance)
            found = (struct found){(uint32_t)newer, distance};
    }
    sketch_append_found(products, w->c->kernels, rounded, value, token, weight, found.cluster, found.distance);
}

static void append_products(void *context, const struct products *products)
{
    struct walk *w = context;
    struct state *state = w->state;
    const struct row_format *format = &state->plan.partners.sinks_format;
    if (w->c->base.n_tokens < state->plan.partners.sinks) {
        rows_write(&state->exact, format, w->c->kernels, (size_t)state->n_exact, products->n, products->keys, products->values);
        state->n_exact += products->n;
        return;
    }
    for (size_t i = 0; i < products->n; i++) {
        const float *key = products->keys + i * format->d, *value = products->values + i * format->e;
        uint64_t token = state->n_products++;
        if (w->found)
            append_found(w, key, value, token, products->weights[i]);
        else
            sketch_append(&state->products, w->c->kernels, key, value, token, products->weights[i]);
    }
}

static size_t found_bytes(uint64_t n_products)
{
    uint64_t n = 8;
    while (n < n_products)
        n *= 2;
    return page_rounded((size_t)n * sizeof(struct found));
}

static int reserve_found(struct subgen2 *c, struct state *state, size_t n_products)
{
    size_t bytes = found_bytes(n_products);
    struct page *larger;
    if (state->found && page_bytes(state->found) >= bytes)
        return 0;
    int err = page_create(&larger, &c->base.account, bytes);
    if (!err) {
        page_release(&state->found);
        state->found = larger;
    }
    return err;
}

/* Room for the products; w->found where they were sought. */
static int reserve_products(struct walk *w, const struct token_run *run)
{
    struct state *state = w->state;
    struct page_account *account = &w->c->base.account;
    size_t n = partners_n_products(&state->partners);
    if (w->c->base.n_tokens < state->plan.partners.sinks)
        return state->exact.capacity
                   ? rows_own(&state->exact)
                   : rows_create(&state->exact, &state->plan.partners.sinks_format, account, exact_capacity(&state->plan));
    if (!is_sought_before(state))
        return sketch_reserve(&state->products, account, n);
    int err = reserve_found(w->c, state, n);
    if (err)
        return err;
    w->found = page_write(&state->found, n * sizeof *w->found);
    w->n_clusters = state->products.net.n;
    partners_each_product(&state->partners, w->c->kernels, run, seek, w);
    w->n = 0;
    return sketch_reserve(&state->products, account, w->n_new);
}

static int subgen2_append(struct cache *cache, const struct token_run *run)
{
    struct subgen2 *c = (struct subgen2 *)cache;
    struct walk w = {.c = c, .state = state_of(c)};
    assert(run->n == 1);
    int err = reserve_products(&w, run);
    if (!err)
        err = partners_reserve(&w.state->partners, &c->base.account);
    if (err)
        return err;
    partners_each_product(&w.state->partners, c->kernels, run, append_products, &w);
    partners_append(&w.state->partners, c->kernels, run);
    c->base.n_tokens++;
    return 0;
}

/* ---- the contract */

static void subgen2_destroy(struct cache *cache)
{
    struct subgen2 *c = (struct subgen2 *)cache;
    if (!c)
        return;
    if (c->state) {
        struct state *state = state_of(c);
        sketch_release(&state->products);
        partners_release(&state->partners);
        rows_release(&state->exact);
        page_release(&state->found);
    }
    page_release(&c->state);
    free(c);
}

static int subgen2_create(struct cache **out, const struct cache_dims *dims, const struct policy *policy,
                          const struct kernels *kernels)
{
    struct subgen2 *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c)
        return ERR_NO_MEMORY;
    c->base.ops = policy->ops;
    c->kernels = kernels;
    int err = page_create(&c->state, &c->base.account, sizeof(struct state));
    struct state *state = err ? NULL : state_of(c);
    if (!err)
        err = plan_make(&state->plan, policy, dims, NULL);
    if (err) {
        subgen2_destroy(&c->base);
        return err;
    }
    sketch_init(&state->products, &state->plan.products, state->plan.delta, LANE_NORMALISER_P);
    partners_init(&state->partners, &state->plan.partners, state->plan.factor_delta, &c->base.account, dims->expected_tokens);
    *out = &c->base;
    return 0;
}

/* Products that n tokens come to, at most: (i, i), and two for each earlier token with history, 2 t without. */
static uint64_t products_of(const struct plan *plan, uint64_t n_tokens)
{
    uint64_t t = plan->partners.keeps_history ? 1 : plan->products.n_samples;
    return n_tokens < UINT64_C(1) << 20 ? n_tokens * n_tokens * t + n_tokens : UINT64_C(1) << 60;
}

static size_t subgen2_worst_bytes(const struct policy *policy, const struct cache_dims *dims, uint64_t n_tokens)
{
    struct plan plan;
    if (plan_make(&plan, policy, dims, NULL))
        return 0;
    size_t bytes = page_rounded(sizeof(struct state)) + exact_bytes(&plan) +
                   sketch_bytes(&plan.products, products_of(&plan, n_tokens)) +
                   partners_bytes(&plan.partners, n_tokens, dims->expected_tokens);
    if (plan.products.net.most == 0 && n_tokens > 0)
        bytes += found_bytes(n_tokens < UINT32_MAX ? 2 * n_tokens * plan.products.n_samples : UINT32_MAX);
    return bytes;
}

static size_t subgen2_run_max(const struct cache *cache)
{
    return 1;
}

static size_t subgen2_view(struct cache *cache, uint64_t first_query, const float *q, struct view out[2])
{
    struct state *state = state_of((struct subgen2 *)cache);
    size_t n = 0;
    if (state->n_exact > 0)
        state->segment[n++] = rows_segment(&state->exact, &state->plan.partners.sinks_format, 0, (size_t)state->n_exact, 0, 0);
    n += sketch_show(&state->products, state->segment + n);
    out[0] = (struct view){state->segment, n};
    return 1;
}

static void subgen2_measure(const struct cache *cache, double *values)
{
    const struct state *state = page_data(((const struct subgen2 *)cache)->state);
    subgen_measure(&state->products, 1, values);
}

static bool subgen2_check_state(const struct cache *cache, const char **reason)
{
    const struct subgen2 *c = (const struct subgen2 *)cache;
    const struct state *state = page_data(c->state);
    const struct partners_plan *plan = &state->plan.partners;
    uint64_t n = c->base.n_tokens, sinks = n < plan->sinks ? n : plan->sinks;
    if (!sketch_check(&state->products, c->kernels, reason) || !partners_check(&state->partners, c->kernels, reason))
        return false;
    *reason = "sink tokens and their products differ in number";
    if (state->n_exact != sinks * sinks || state->partners.n_tokens != n)
        return false;
    *reason = "products are missing";
    if (plan->keeps_history && state->products.net.weight != (double)(n * n - sinks * sinks))
        return false;
    size_t allocated = page_bytes(c->state) + sketch_allocated(&state->products) + partners_allocated(&state->partners) +
                       (state->exact.page ? page_bytes(state->exact.page) : 0) + (state->found ? page_bytes(state->found) : 0);
    *reason = "the account differs from the pages";
    return allocated == c->base.account.allocated;
}

const struct cache_ops policy_subgen2 = {
    .name = "subgen2",
    .help = "clusters the products of tensor attention within a radius and samples each cluster",
    .kinds = 1u << ATTENTION_TENSOR,
    .companion = "subgen",
    .takes_budget = true,
    .stores_again = true,
    .product_rows = true,
    .control_bytes = sizeof(struct subgen2),
    .keys = subgen2_keys,
    .n_keys = sizeof subgen2_keys / sizeof *subgen2_keys,
    .check = subgen2_check,
    .create = subgen2_create,
    .destroy = subgen2_destroy,
    .worst_bytes = subgen2_worst_bytes,
    .run_max = subgen2_run_max,
    .append = subgen2_append,
    .view = subgen2_view,
    .gauges = subgen_gauges,
    .n_gauges = SUBGEN_GAUGES,
    .measure = subgen2_measure,
    .check_state = subgen2_check_state,
};
