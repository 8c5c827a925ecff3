#include "views.h"

#include <math.h>

static double *doubles_of(const float *x, size_t n)
{
    double *y = malloc(n * sizeof *y + 8);
    for (size_t i = 0; i < n; i++)
        y[i] = x[i];
    return y;
}

void test_view_add(struct test_view *view, const struct kernels *kernels, const struct segment_plan *plan, struct numbers *r)
{
    size_t d = view->d, e = view->e, n = plan->n, room = (plan->row + n + PANEL) / PANEL * PANEL;
    struct segment *seg = &view->seg[view->n_seg];
    struct plain_rows *plain = &view->plain[view->n_seg++];
    float *rows = numbers_block(n * (d > e ? d : e) * 4);
    void *keys = numbers_block(room * storage_table[plan->keys].key_bytes(d));
    /* Values and weights end with the last row: a read past it is an error that sanitizers see. */
    void *values = malloc((plan->row + n) * storage_table[plan->values].value_bytes(e) + 4);
    float *den = malloc((plan->row + n) * 4 + 4), *num = malloc((plan->row + n) * 4 + 4);
    *plain = (struct plain_rows){.blocks = {keys, values, den, num}};

    numbers_fill(r, rows, n * d, 1);
    kernels->pack_keys[plan->keys](rows, n, d, keys, plan->row);
    kernels->unpack_keys[plan->keys](keys, plan->row, n, d, rows);
    plain->key = doubles_of(rows, n * d);
    numbers_fill(r, rows, n * e, 1);
    kernels->pack_values[plan->values](rows, n, e, values, plan->row);
    kernels->unpack_values[plan->values](values, plan->row, n, e, rows);
    plain->value = plan->no_values ? NULL : doubles_of(rows, n * e);
    for (size_t j = 0; j < n; j++) {
        float *w[2] = {&den[plan->row + j], &num[plan->row + j]};
        for (size_t i = 0; i < 2; i++)
            *w[i] = numbers_unit(r) + 1 < 2 * plan->left_out ? -INFINITY : numbers_unit(r) * 3;
    }
    memset(den, 0x7f, plan->row * 4); /* rows in front are not this segment's: large numbers, should anything read them */
    memset(num, 0x7f, plan->row * 4);
    free(rows);

    *seg = (struct segment){.row = plan->row,
                            .n = n,
                            .first = plan->first,
                            .span = plan->span,
                            .key_storage = &storage_table[plan->keys],
                            .value_storage = &storage_table[plan->values],
                            .keys = keys,
                            .values = plan->no_values ? NULL : values};
    seg->log_den = plan->weights == WEIGHTS_NONE ? NULL : den;
    seg->log_num = plan->weights == WEIGHTS_EQUAL ? den : plan->weights == WEIGHTS_DIFFER ? num : NULL;
    plain->den = malloc(n * sizeof(double) + 8);
    plain->num = malloc(n * sizeof(double) + 8);
    for (size_t j = 0; j < n; j++) {
        plain->den[j] = seg->log_den ? seg->log_den[plan->row + j] : 0;
        plain->num[j] = seg->log_num ? seg->log_num[plan->row + j] : 0;
    }
}

void test_view_free(struct test_view *view)
{
    for (size_t i = 0; i < view->n_seg; i++) {
        struct plain_rows *p = &view->plain[i];
        for (size_t j = 0; j < 4; j++)
            free(p->blocks[j]);
        free(p->key);
        free(p->value);
        free(p->den);
        free(p->num);
    }
    view->n_seg = 0;
}

struct segment_plan segment_plan_random(struct numbers *r, uint64_t first, size_t n)
{
    struct segment_plan p = {.row = numbers_below(r, 40), .n = n, .first = first};
    uint64_t spans[] = {SPAN_ALL, SPAN_ALL, 0, 1 + numbers_below(r, 60)};
    p.span = spans[numbers_below(r, 4)];
    p.keys = (enum storage_id)numbers_below(r, N_ROW_STORAGE);
    p.values = (enum storage_id)numbers_below(r, N_ROW_STORAGE);
    p.weights = numbers_below(r, 4);
    p.no_values = numbers_below(r, 6) == 0;
    p.left_out = numbers_below(r, 3) == 0 ? 0.3f : 0;
    return p;
}

/* One row of a view that a query sees. */
struct row {
    const double *key, *value;
    double den, num;
};

/* By the definition in view.h, row by row. */
static size_t rows_seen(const struct test_view *view, uint64_t token, struct row *out)
{
    size_t n = 0;
    for (size_t i = 0; i < view->n_seg; i++) {
        const struct segment *seg = &view->seg[i];
        const struct plain_rows *p = &view->plain[i];
        for (size_t j = 0; j < seg->n; j++) {
            uint64_t index = seg->first + j;
            bool seen = seg->span == 0 || (index <= token && (seg->span == SPAN_ALL || token - index < seg->span));
            if (seen)
                out[n++] = (struct row){p->key + j * view->d, p->value ? p->value + j * view->e : NULL, p->den[j], p->num[j]};
        }
    }
    return n;
}

static size_t all_rows(const struct test_view *view)
{
    size_t n = 0;
    for (size_t i = 0; i < view->n_seg; i++)
        n += view->seg[i].n;
    return n;
}

void reference_query(const struct attend *a, const struct test_view view[2], size_t query, double *out, double *magnitude,
                     double *lse)
{
    uint64_t token = a->first_token + a->token_step * (query / a->group);
    const float *q = a->q + query * a->d;
    bool tensor = a->n_views == 2;
    struct row *first = malloc((all_rows(&view[0]) + 1) * sizeof *first), *second = NULL;
    size_t n1 = rows_seen(&view[0], token, first), n2 = 1;
    if (tensor) {
        second = malloc((all_rows(&view[1]) + 1) * sizeof *second);
        n2 = rows_seen(&view[1], token, second);
    }
    double sum = 0, shift = -INFINITY, *score = malloc((n1 * n2 + 1) * sizeof *score);
    for (size_t i = 0; i < n1; i++)
        for (size_t j = 0; j < n2; j++) {
            double s = 0;
            for (size_t c = 0; c < a->d; c++)
                s += q[c] * first[i].key[c] * (tensor ? second[j].key[c] : 1);
            score[i * n2 + j] = s;
            double den = s + first[i].den + (tensor ? second[j].den : 0);
            shift = den > shift ? den : shift;
        }
    if (a->sink_logit && a->sink_logit[query % a->group] > shift)
        shift = a->sink_logit[query % a->group];
    for (size_t c = 0; c < a->e; c++)
        out[c] = magnitude[c] = 0;
    for (size_t i = 0; i < n1 && shift > -INFINITY; i++)
        for (size_t j = 0; j < n2; j++) {
            double s = score[i * n2 + j] - shift;
            sum += exp(s + first[i].den + (tensor ? second[j].den : 0));
            if (!first[i].value || (tensor && !second[j].value))
                continue;
            double w = exp(s + first[i].num + (tensor ? second[j].num : 0));
            for (size_t c = 0; c < a->e; c++) {
                double term = w * first[i].value[c] * (tensor ? second[j].value[c] : 1);
                out[c] += term;
                magnitude[c] += fabs(term);
            }
        }
    if (a->sink_logit && shift > -INFINITY)
        sum += exp(a->sink_logit[query % a->group] - shift);
    for (size_t c = 0; c < a->e && sum > 0; c++) {
        out[c] /= sum;
        magnitude[c] /= sum;
    }
    *lse = sum > 0 ? shift + log(sum) : -INFINITY;
    free(first);
    free(second);
    free(score);
}

double reference_pairs(const struct attend *a, const struct test_view view[2])
{
    double pairs = 0;
    for (size_t i = 0; i < a->n_tokens; i++) {
        uint64_t token = a->first_token + a->token_step * i;
        double n = 1;
        for (size_t v = 0; v < a->n_views; v++) {
            struct row *rows = malloc((all_rows(&view[v]) + 1) * sizeof *rows);
            n *= (double)rows_seen(&view[v], token, rows);
            free(rows);
        }
        pairs += n;
    }
    return pairs;
}
