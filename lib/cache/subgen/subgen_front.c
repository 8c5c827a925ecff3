#include "cache/subgen/subgen_front.h"

#include <string.h>

enum { START = 16 };

static size_t panels_up(uint64_t rows)
{
    return (size_t)(rows + PANEL - 1) / PANEL * PANEL;
}

static uint64_t rows_at(const struct front_plan *plan, uint64_t n_tokens)
{
    uint64_t most = plan->sinks + plan->recent;
    return n_tokens < most ? n_tokens : most;
}

static size_t capacity_at(const struct front_plan *plan, uint64_t n_tokens)
{
    return rows_doubled((size_t)rows_at(plan, n_tokens), START, panels_up(plan->sinks + plan->recent));
}

size_t front_bytes(const struct front_plan *plan, uint64_t n_tokens)
{
    size_t capacity = n_tokens > 0 ? capacity_at(plan, n_tokens) : 0;
    return capacity > 0 ? rows_bytes(&plan->format, capacity) : 0;
}

int front_reserve(struct rows *rows, const struct front_plan *plan, struct page_account *account, uint64_t token)
{
    size_t capacity = capacity_at(plan, token + 1);
    if (capacity == 0)
        return 0;
    if (rows->capacity == 0)
        return rows_create(rows, &plan->format, account, capacity);
    if (rows->capacity < capacity)
        return rows_grow(rows, &plan->format, account, (size_t)rows_at(plan, token), capacity);
    return rows_own(rows);
}

static size_t row_of(const struct front_plan *plan, uint64_t token)
{
    return (size_t)(token < plan->sinks ? token : plan->sinks + (token - plan->sinks) % plan->recent);
}

uint64_t front_gone(const struct front_plan *plan, uint64_t n_tokens)
{
    return n_tokens - rows_at(plan, n_tokens);
}

bool front_leaving(const struct rows *rows, const struct front_plan *plan, const struct kernels *kernels, uint64_t token,
                   const float *key, const float *value, uint64_t *leaving, float *out_key, float *out_value)
{
    if (front_gone(plan, token + 1) == front_gone(plan, token))
        return false;
    *leaving = token - plan->recent;
    if (plan->recent == 0) {
        memcpy(out_key, key, plan->format.d * sizeof *key);
        memcpy(out_value, value, plan->format.e * sizeof *value);
        return true;
    }
    size_t row = row_of(plan, *leaving);
    rows_read_keys(rows, &plan->format, kernels, row, 1, out_key);
    rows_read_values(rows, &plan->format, kernels, row, 1, out_value);
    return true;
}

void front_put(struct rows *rows, const struct front_plan *plan, const struct kernels *kernels, uint64_t token,
               const float *key, const float *value)
{
    if (token < plan->sinks || plan->recent > 0)
        rows_write(rows, &plan->format, kernels, row_of(plan, token), 1, key, value);
}

size_t front_show(const struct rows *rows, const struct front_plan *plan, uint64_t n_tokens, struct segment *seg)
{
    uint64_t n = rows_at(plan, n_tokens), gone = front_gone(plan, n_tokens), sinks = plan->sinks;
    size_t count = 0;
    if (n == 0)
        return 0;
    if (gone == 0 || plan->recent == 0) { /* in the order of their tokens */
        seg[count++] = rows_segment(rows, &plan->format, 0, (size_t)n, 0, SPAN_ALL);
        return count;
    }
    if (sinks > 0)
        seg[count++] = rows_segment(rows, &plan->format, 0, (size_t)sinks, 0, SPAN_ALL);
    size_t oldest = row_of(plan, sinks + gone), older = (size_t)n - oldest;
    seg[count++] = rows_segment(rows, &plan->format, oldest, older, sinks + gone, SPAN_ALL);
    if (oldest > sinks)
        seg[count++] =
            rows_segment(rows, &plan->format, (size_t)sinks, (size_t)(oldest - sinks), sinks + gone + older, SPAN_ALL);
    return count;
}
