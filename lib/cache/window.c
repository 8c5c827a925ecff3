/* Window: the last W rows and the first S (sinks, as StreamingLLM keeps them: arXiv 2309.17453), in space that does not grow.
 *
 *     masked     all other tokens have weight 0
 *     unmasked   all other tokens have score 0, that is e^0 = 1 (Haris, Onak: arXiv 2502.15955):
 *                    out = (sum_kept e^(s_j) v_j + sum_out v_j) / (sum_kept e^(s_j) + n_out)
 *                so they are one pseudo row: key 0, value B / n_out, log weight log n_out, with B the running sum of their
 *                values as stored, in float64. For tensor attention the same row in both streams is exact: a pair with an
 *                index outside its window has score 0.
 *     tensor     a window for each stream, w1 x w2 (2-simplicial attention, arXiv 2507.02754)
 *
 * A stream's rows lie in one block; its first S rows never move, the rest is a ring of M = capacity - S slots:
 *
 *     block    0 .. S-1 | S .. capacity-1         row of index i: i while i < S, else S + (i - S) mod M
 *
 * Before a ring is full the row is the index itself, so the block can start small and double by copying. M - W slots are slack:
 * M - W + 1 tokens may be appended before the view is looked at, and each query still finds the rows of its own window. */
#include "cache/policies.h"
#include "cache/policy.h"
#include "cache/rows.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum {
    START = 64,            /* rows a block starts with */
    SLACK_MAX = 512,       /* rows of slack; else an eighth of the window */
    WINDOW_DEFAULT = 1024, /* rows, where neither a window nor a budget is given */
    SEGMENTS = 4,          /* of a view: sinks, two of the ring, pseudo row */
};

struct window_params {
    uint64_t window_tokens[2];
    bool unmasked;
};

_Static_assert(sizeof(struct window_params) <= POLICY_PARAMS_BYTES, "the parameters fit");

static const struct key window_keys[] = {
    {.name = "window_tokens",
     .type = KEY_PAIR,
     .offset = offsetof(struct window_params, window_tokens),
     .min = 0,
     .max = 1 << 30,
     .unit = "tokens",
     .initial = "0",
     .help = "the last tokens that are seen; for tensor layers a pair, one for each stream (softmax layers take the first); "
             "0: as many as the budget holds, 1024 without one. With a budget too the smaller holds"},
    {.name = "unmasked",
     .type = KEY_SWITCH,
     .offset = offsetof(struct window_params, unmasked),
     .unit = "",
     .initial = "false",
     .help = "tokens outside the window have score 0 instead of weight 0 (Haris and Onak)"},
};

/* What the settings come to for these dims. */
struct plan {
    struct row_format format;
    size_t n_streams, sinks;
    size_t window[2], capacity[2]; /* rows */
    bool unmasked;
};

struct window {
    struct cache base;
    const struct kernels *kernels;
    struct plan plan;
    struct rows rows[2];
    struct page *side; /* the views' segments; unmasked: sums and pseudo rows */
};

_Static_assert(sizeof(struct window) < CACHE_CONTROL_MAX, "control state is small");

/* The pseudo row's panel, for all heads. */
static const _Alignas(PAGE_ALIGNMENT) float zero_keys[PANEL * SHAPE_DIM_MAX];

/* ---- settings */

static size_t panels_up(size_t rows)
{
    return (rows + PANEL - 1) / PANEL * PANEL;
}

/* The pseudo row is one more row that every query sees, so unmasked runs are of one token and need no slack. */
static size_t capacity_for(size_t sinks, size_t window, bool unmasked)
{
    size_t slack = window / 8 < SLACK_MAX ? window / 8 : SLACK_MAX;
    return panels_up(sinks + window + (unmasked ? 0 : slack));
}

/* The widest window whose block has at most `capacity` rows; 0 when there is none. */
static size_t window_within(size_t sinks, size_t capacity, bool unmasked)
{
    if (capacity <= sinks)
        return 0;
    size_t most = capacity - sinks, window = unmasked ? most : most * 8 / 9;
    if (!unmasked && window < most && most > SLACK_MAX && window < most - SLACK_MAX)
        window = most - SLACK_MAX;
    while (window < most && capacity_for(sinks, window + 1, unmasked) <= capacity)
        window++;
    return window;
}

/* Where the side's regions begin: segments of all streams; then for each stream sums (e doubles), mean (e floats), weight. */
struct side_layout {
    size_t segments, sums, means, per_stream, end;
};

static struct side_layout side_layout(size_t n_streams, size_t e, bool unmasked)
{
    struct side_layout l = {.segments = page_rounded(n_streams * SEGMENTS * sizeof(struct segment))};
    l.sums = page_rounded(e * sizeof(double));
    l.means = page_rounded(e * sizeof(float));
    l.per_stream = unmasked ? l.sums + l.means + page_rounded(sizeof(float)) : 0;
    l.end = l.segments + n_streams * l.per_stream;
    return l;
}

static int plan_make(struct plan *plan, const struct policy *policy, const struct cache_dims *dims, struct fault *fault)
{
    const struct window_params *params = (const void *)policy->params;
    *plan = (struct plan){
        .format = {policy->key_storage, policy->value_storage, dims->d, dims->e, ROWS_PLAIN, 0},
        .n_streams = attention_streams(dims->kind),
        .sinks = (size_t)policy->sink_tokens,
        .unmasked = params->unmasked,
    };
    uint64_t budget = policy_budget(policy, dims);
    size_t side = side_layout(plan->n_streams, dims->e, plan->unmasked).end;
    size_t rest = budget > side ? (size_t)(budget - side) / plan->n_streams : 0; /* half of it for each stream */
    size_t fitting = window_within(plan->sinks, rows_fitting(&plan->format, rest), plan->unmasked);
    if (budget > 0 && fitting == 0) {
        size_t least = side + plan->n_streams * rows_bytes(&plan->format, panels_up(plan->sinks + 1));
        return fault_set(
            fault, ERR_INVALID,
            "a budget of %llu bytes holds no window beside %zu sink tokens; a head of this shape needs at least %zu bytes",
            (unsigned long long)budget, plan->sinks, least);
    }
    for (size_t s = 0; s < plan->n_streams; s++) {
        size_t asked = (size_t)params->window_tokens[s];
        size_t given = asked ? asked : budget ? fitting : WINDOW_DEFAULT;
        plan->window[s] = budget && fitting < given ? fitting : given;
        plan->capacity[s] = capacity_for(plan->sinks, plan->window[s], plan->unmasked);
    }
    return 0;
}

static int window_check(const struct policy *policy, const struct cache_dims *dims, struct fault *fault)
{
    struct plan plan;
    return plan_make(&plan, policy, dims, fault);
}

/* ---- rows */

/* Rows of a stream's block once n tokens have come. */
static size_t capacity_at(const struct plan *plan, size_t s, uint64_t n)
{
    size_t most = plan->capacity[s];
    return rows_doubled(n < most ? (size_t)n : most, most < START ? most : START, most);
}

static size_t row_of(const struct window *c, size_t s, uint64_t index)
{
    size_t sinks = c->plan.sinks, ring = c->plan.capacity[s] - sinks;
    return index < sinks ? (size_t)index : sinks + (size_t)((index - sinks) % ring);
}

/* Rows from here that lie in a row, at most n. */
static size_t straight(const struct window *c, size_t s, size_t row, uint64_t n)
{
    size_t end = c->plan.capacity[s];
    return n < end - row ? (size_t)n : end - row;
}

/* Tokens outside, once n have come. */
static uint64_t n_outside(const struct window *c, size_t s, uint64_t n)
{
    uint64_t kept = c->plan.sinks + c->plan.window[s];
    return n > kept ? n - kept : 0;
}

static struct segment *side_segments(struct window *c)
{
    struct segment *segments = page_write(&c->side, page_bytes(c->side));
    assert(segments); /* a side has one owner once append went well */
    return segments;
}

struct pseudo {
    double *sums;
    float *mean, *log_weight;
};

static struct pseudo pseudo_of(struct window *c, size_t s)
{
    struct side_layout l = side_layout(c->plan.n_streams, c->plan.format.e, c->plan.unmasked);
    char *at = (char *)side_segments(c) + l.segments + s * l.per_stream;
    return (struct pseudo){(void *)at, (void *)(at + l.sums), (void *)(at + l.sums + l.means)};
}

/* The row that leaves the window as token n_tokens comes joins the pseudo row, as it was stored. */
static void let_go(struct window *c, size_t s)
{
    uint64_t outside = n_outside(c, s, c->base.n_tokens + 1);
    if (outside == 0)
        return;
    size_t e = c->plan.format.e;
    struct pseudo p = pseudo_of(c, s);
    float value[SHAPE_DIM_MAX];
    rows_read_values(&c->rows[s], &c->plan.format, c->kernels, row_of(c, s, c->base.n_tokens - c->plan.window[s]), 1, value);
    for (size_t i = 0; i < e; i++) {
        p.sums[i] += value[i];
        p.mean[i] = (float)(p.sums[i] / (double)outside);
    }
    *p.log_weight = (float)log((double)outside);
}

/* ---- the contract */

static void window_destroy(struct cache *cache)
{
    struct window *c = (struct window *)cache;
    if (!c)
        return;
    for (size_t s = 0; s < 2; s++)
        rows_release(&c->rows[s]);
    page_release(&c->side);
    free(c);
}

static int window_create(struct cache **out, const struct cache_dims *dims, const struct policy *policy,
                         const struct kernels *kernels)
{
    struct window *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c)
        return ERR_NO_MEMORY;
    c->base.ops = &policy_window;
    c->kernels = kernels;
    int err = plan_make(&c->plan, policy, dims, NULL);
    if (!err)
        err = page_create(&c->side, &c->base.account, side_layout(c->plan.n_streams, dims->e, c->plan.unmasked).end);
    if (err) {
        window_destroy(&c->base);
        return err;
    }
    *out = &c->base;
    return 0;
}

static size_t window_worst_bytes(const struct policy *policy, const struct cache_dims *dims, uint64_t n_tokens)
{
    struct plan plan;
    if (plan_make(&plan, policy, dims, NULL))
        return 0;
    size_t bytes = side_layout(plan.n_streams, dims->e, plan.unmasked).end;
    for (size_t s = 0; s < plan.n_streams && n_tokens > 0; s++)
        bytes += rows_bytes(&plan.format, capacity_at(&plan, s, n_tokens));
    return bytes;
}

static size_t window_run_max(const struct cache *cache)
{
    const struct window *c = (const struct window *)cache;
    if (c->plan.unmasked)
        return 1;
    size_t run = SIZE_MAX;
    for (size_t s = 0; s < c->plan.n_streams; s++) {
        size_t slack = c->plan.capacity[s] - c->plan.sinks - c->plan.window[s];
        run = slack + 1 < run ? slack + 1 : run;
    }
    return run;
}

/* Room for the tokens up to n, in blocks that are this cache's own. */
static int make_room(struct window *c, uint64_t n)
{
    if (!page_write(&c->side, 0))
        return ERR_NO_MEMORY;
    for (size_t s = 0; s < c->plan.n_streams; s++) {
        struct rows *rows = &c->rows[s];
        size_t capacity = capacity_at(&c->plan, s, n);
        int err = 0;
        if (rows->capacity == 0)
            err = rows_create(rows, &c->plan.format, &c->base.account, capacity);
        else if (rows->capacity < capacity)
            err = rows_grow(rows, &c->plan.format, &c->base.account, (size_t)c->base.n_tokens, capacity);
        else
            err = rows_own(rows);
        if (err)
            return err;
    }
    return 0;
}

/* What leaves an unmasked window is summed from its row, so these take rows like any other. */
static bool window_takes_raw(const struct cache *cache, enum element element)
{
    return rows_keep(&((const struct window *)cache)->plan.format, element);
}

static int window_append(struct cache *cache, const struct token_run *run)
{
    struct window *c = (struct window *)cache;
    const struct row_format *f = &c->plan.format;
    int err = make_room(c, c->base.n_tokens + run->n);
    if (err)
        return err;
    for (size_t s = 0; s < c->plan.n_streams; s++) {
        if (c->plan.unmasked)
            let_go(c, s);
        for (size_t i = 0; i < run->n;) {
            size_t row = row_of(c, s, c->base.n_tokens + i), n = straight(c, s, row, run->n - i);
            if (run->raw) {
                struct raw_rows raw = raw_rows_after(&run->raw[s], i);
                rows_copy_in(&c->rows[s], f, c->kernels, row, n, &raw);
            } else {
                rows_write(&c->rows[s], f, c->kernels, row, n, run->key[s] + i * f->d, run->value[s] + i * f->e);
            }
            i += n;
        }
    }
    c->base.n_tokens += run->n;
    return 0;
}

/* The view of one stream. A run's queries each have a window of their own, which the span of the ring's segments says; sinks
 * are shown from their own rows only, so that no row appears twice. */
static size_t show(struct window *c, size_t s, uint64_t first_query, struct segment *seg)
{
    const struct row_format *f = &c->plan.format;
    uint64_t n = c->base.n_tokens, window = c->plan.window[s], sinks = c->plan.sinks;
    size_t count = 0;
    if (n == 0)
        return 0;
    if (n <= window) { /* everything is inside */
        seg[count++] = rows_segment(&c->rows[s], f, 0, (size_t)n, 0, SPAN_ALL);
        return count;
    }
    if (sinks > 0)
        seg[count++] = rows_segment(&c->rows[s], f, 0, (size_t)(sinks < n ? sinks : n), 0, SPAN_ALL);
    uint64_t from = first_query + 1 > window ? first_query + 1 - window : 0;
    for (uint64_t i = from > sinks ? from : sinks; i < n;) {
        size_t row = row_of(c, s, i), rows = straight(c, s, row, n - i);
        seg[count++] = rows_segment(&c->rows[s], f, row, rows, i, window);
        i += rows;
    }
    if (c->plan.unmasked && n_outside(c, s, n) > 0) {
        struct pseudo p = pseudo_of(c, s);
        const struct storage *f32 = &storage_table[STORAGE_F32];
        seg[count++] = (struct segment){.n = 1,
                                        .key_storage = f32,
                                        .value_storage = f32,
                                        .keys = zero_keys,
                                        .values = p.mean,
                                        .log_den = p.log_weight,
                                        .log_num = p.log_weight};
    }
    assert(count <= SEGMENTS);
    return count;
}

static size_t window_view(struct cache *cache, uint64_t first_query, const float *q, struct view out[2])
{
    struct window *c = (struct window *)cache;
    for (size_t s = 0; s < c->plan.n_streams; s++) {
        struct segment *seg = side_segments(c) + s * SEGMENTS;
        out[s] = (struct view){seg, show(c, s, first_query, seg)};
    }
    return c->plan.n_streams;
}

static bool window_check_state(const struct cache *cache, const char **reason)
{
    const struct window *c = (const struct window *)cache;
    size_t allocated = page_bytes(c->side);
    for (size_t s = 0; s < c->plan.n_streams; s++) {
        *reason = "the ring is smaller than the window";
        if (c->plan.window[s] == 0 || c->plan.capacity[s] < c->plan.sinks + c->plan.window[s])
            return false;
        *reason = "the block has no room for the rows that should be in it";
        size_t capacity = c->base.n_tokens ? capacity_at(&c->plan, s, c->base.n_tokens) : 0;
        if (c->rows[s].capacity < capacity || c->rows[s].capacity > c->plan.capacity[s])
            return false;
        allocated += c->rows[s].page ? page_bytes(c->rows[s].page) : 0;
    }
    *reason = "the account differs from the pages";
    return allocated == c->base.account.allocated;
}

const struct cache_ops policy_window = {
    .name = "window",
    .help = "keeps the last tokens and the first few",
    .kinds = 1u << ATTENTION_SOFTMAX | 1u << ATTENTION_TENSOR,
    .takes_budget = true,
    .control_bytes = sizeof(struct window),
    .keys = window_keys,
    .n_keys = sizeof window_keys / sizeof *window_keys,
    .check = window_check,
    .create = window_create,
    .destroy = window_destroy,
    .worst_bytes = window_worst_bytes,
    .run_max = window_run_max,
    .takes_raw = window_takes_raw,
    .append = window_append,
    .view = window_view,
    .check_state = window_check_state,
};
