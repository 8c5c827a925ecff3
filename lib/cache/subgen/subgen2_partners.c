#include "cache/subgen/subgen2_partners.h"

#include "base/coins.h"

#include <string.h>

static size_t least(uint64_t a, uint64_t b)
{
    return (size_t)(a < b ? a : b);
}

struct partners_plan partners_plan(const struct sketch_plan *sketch, uint64_t sinks, bool keeps_history)
{
    const struct storage *f32 = &storage_table[STORAGE_F32];
    size_t d = sketch->net.d, e = sketch->e;
    return (struct partners_plan){
        .sketch = *sketch,
        .sinks_format = {sketch->net.storage, sketch->value_storage, d, e, ROWS_PLAIN, 0},
        .history_format = {f32, f32, 0, 2 * (d + e), ROWS_PLAIN, 0},
        .sinks = (uint32_t)sinks,
        .keeps_history = keeps_history,
    };
}

static size_t sinks_capacity(const struct partners_plan *plan)
{
    size_t sinks = plan->sinks;
    return (sinks + PANEL - 1) / PANEL * PANEL;
}

size_t partners_bytes(const struct partners_plan *plan, uint64_t n_tokens, uint64_t expected_tokens)
{
    if (plan->keeps_history)
        return row_list_bytes(&plan->history_format, expected_tokens, n_tokens);
    size_t sinks = plan->sinks > 0 && n_tokens > 0 ? rows_bytes(&plan->sinks_format, sinks_capacity(plan)) : 0;
    return 2 * (sinks + sketch_bytes(&plan->sketch, n_tokens > plan->sinks ? n_tokens - plan->sinks : 0));
}

void partners_init(struct partners *p, const struct partners_plan *plan, const double delta[2], struct page_account *account,
                   uint64_t expected_tokens)
{
    *p = (struct partners){.plan = plan};
    sketch_init(&p->sketch[0], &plan->sketch, delta[0], LANE_NORMALISER_1);
    sketch_init(&p->sketch[1], &plan->sketch, delta[1], LANE_NORMALISER_2);
    row_list_init(&p->history, &plan->history_format, account, expected_tokens, SPAN_ALL);
}

void partners_release(struct partners *p)
{
    for (size_t s = 0; s < 2; s++) {
        sketch_release(&p->sketch[s]);
        rows_release(&p->sinks[s]);
    }
    row_list_release(&p->history);
}

/* ---- products */

/* Partners that are tokens themselves; samples follow. */
static size_t n_exact(const struct partners *p)
{
    return p->plan->keeps_history ? (size_t)p->n_tokens : least(p->n_tokens, p->plan->sinks);
}

static size_t n_partners(const struct partners *p, size_t stream)
{
    return n_exact(p) + sketch_n_samples(&p->sketch[stream]);
}

size_t partners_n_products(const struct partners *p)
{
    return n_partners(p, 0) + n_partners(p, 1) + 1;
}

static size_t read_history(const struct partners *p, size_t stream, size_t first, size_t most, struct products *out)
{
    size_t d = p->plan->sketch.net.d, e = p->plan->sketch.e, row, there;
    const struct rows *rows = row_list_at(&p->history, first, &row, &there);
    const float *factors =
        rows_segment(rows, &p->plan->history_format, 0, 0, 0, 0).values; /* f32: row after row as they came */
    size_t n = least(most, there);
    for (size_t i = 0; i < n; i++) {
        const float *at = factors + (row + i) * p->plan->history_format.e;
        memcpy(out->keys + i * d, at + stream * d, d * sizeof *at);
        memcpy(out->values + i * e, at + 2 * d + stream * e, e * sizeof *at);
    }
    return n;
}

/* Partners of a stream from `first` on, `most` of them or as many as lie in one place. */
static void read_partners(const struct partners *p, const struct kernels *kernels, size_t stream, size_t first, size_t most,
                          struct products *out)
{
    size_t exact = n_exact(p);
    if (first >= exact) {
        sketch_read(&p->sketch[stream], kernels, first - exact, most, out->keys, out->values);
        for (size_t i = 0; i < most; i++)
            out->weights[i] = sketch_weight(&p->sketch[stream], first - exact + i);
        out->n = most;
        return;
    }
    most = least(most, exact - first);
    if (p->plan->keeps_history) {
        out->n = read_history(p, stream, first, most, out);
    } else {
        rows_read_keys(&p->sinks[stream], &p->plan->sinks_format, kernels, first, most, out->keys);
        rows_read_values(&p->sinks[stream], &p->plan->sinks_format, kernels, first, most, out->values);
        out->n = most;
    }
    for (size_t i = 0; i < out->n; i++)
        out->weights[i] = 1;
}

/* The token's factors of one stream with its partners of the other. */
static void pair_with(const struct partners *p, const struct kernels *kernels, const float *key, const float *value,
                      size_t stream, struct products *out, products_visit visit, void *context)
{
    size_t d = p->plan->sketch.net.d, e = p->plan->sketch.e, n = n_partners(p, stream);
    size_t at_once = least(PRODUCTS_FLOATS / (d > e ? d : e), PRODUCTS_ROWS_MAX);
    for (size_t j = 0; j < n; j += out->n) {
        read_partners(p, kernels, stream, j, least(at_once, n - j), out);
        for (size_t i = 0; i < out->n; i++) {
            kernels->multiply(out->keys + i * d, key, d, out->keys + i * d);
            kernels->multiply(out->values + i * e, value, e, out->values + i * e);
        }
        visit(context, out);
    }
}

void partners_each_product(const struct partners *p, const struct kernels *kernels, const struct token_run *run,
                           products_visit visit, void *context)
{
    struct products out;
    pair_with(p, kernels, run->key[0], run->value[0], 1, &out, visit, context);
    kernels->multiply(run->key[0], run->key[1], p->plan->sketch.net.d, out.keys);
    kernels->multiply(run->value[0], run->value[1], p->plan->sketch.e, out.values);
    out.n = 1;
    out.weights[0] = 1;
    visit(context, &out);
    pair_with(p, kernels, run->key[1], run->value[1], 0, &out, visit, context);
}

/* ---- tokens */

int partners_reserve(struct partners *p, struct page_account *account)
{
    const struct partners_plan *plan = p->plan;
    int err = 0;
    if (plan->keeps_history)
        return row_list_reserve(&p->history, 1);
    for (size_t s = 0; s < 2 && !err; s++) {
        if (p->n_tokens >= plan->sinks)
            err = sketch_reserve(&p->sketch[s], account, 1);
        else if (p->sinks[s].capacity == 0)
            err = rows_create(&p->sinks[s], &plan->sinks_format, account, sinks_capacity(plan));
        else
            err = rows_own(&p->sinks[s]);
    }
    return err;
}

void partners_append(struct partners *p, const struct kernels *kernels, const struct token_run *run)
{
    const struct partners_plan *plan = p->plan;
    size_t d = plan->sketch.net.d, e = plan->sketch.e;
    float factors[4 * SHAPE_DIM_MAX];
    for (size_t s = 0; s < 2; s++) {
        if (plan->keeps_history) {
            memcpy(factors + s * d, run->key[s], d * sizeof *factors);
            memcpy(factors + 2 * d + s * e, run->value[s], e * sizeof *factors);
        } else if (p->n_tokens < plan->sinks) {
            rows_write(&p->sinks[s], &plan->sinks_format, kernels, (size_t)p->n_tokens, 1, run->key[s], run->value[s]);
        } else {
            sketch_append(&p->sketch[s], kernels, run->key[s], run->value[s], p->n_tokens, 1);
        }
    }
    if (plan->keeps_history)
        row_list_append(&p->history, kernels, 1, NULL, factors);
    p->n_tokens++;
}

size_t partners_allocated(const struct partners *p)
{
    size_t bytes = row_list_allocated(&p->history);
    for (size_t s = 0; s < 2; s++)
        bytes += sketch_allocated(&p->sketch[s]) + (p->sinks[s].page ? page_bytes(p->sinks[s].page) : 0);
    return bytes;
}

bool partners_check(const struct partners *p, const struct kernels *kernels, const char **reason)
{
    bool keeps = p->plan->keeps_history;
    uint64_t sketched = keeps ? 0 : p->n_tokens - n_exact(p);
    if (!row_list_check(&p->history, reason))
        return false;
    for (size_t s = 0; s < 2; s++) {
        if (!sketch_check(&p->sketch[s], kernels, reason))
            return false;
        *reason = "a sketch of factors has seen other tokens than those after the sinks";
        if (p->sketch[s].net.weight != (double)sketched)
            return false;
    }
    *reason = "history and tokens differ in number";
    return p->history.n_rows == (keeps ? p->n_tokens : 0);
}
