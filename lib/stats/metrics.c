#include "stats/metrics.h"

#include "base/err.h"
#include <assert.h>
#include <string.h>

const struct metric metric_table[N_METRIC] = {
#define METRIC_ROW(id, name, type, unit, scopes, label, help) {name, METRIC_##type, unit, scopes, label, help},
    METRIC_LIST(METRIC_ROW)
#undef METRIC_ROW
};

static const char *const type_names[N_METRIC_TYPE] = {
    [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram", [METRIC_INFO] = "info"};

static const int reasons[] = {
#define REASON_ROW(name, wire, sentence, advice) ERR_##name,
    ERR_LIST(REASON_ROW)
#undef REASON_ROW
};

enum { N_REASONS = sizeof reasons / sizeof *reasons };
static_assert((int)N_REASONS <= (int)METRIC_REASONS_MAX, "one counter per error");

const char *metric_type_name(enum metric_type type)
{
    return type_names[type];
}

void metrics_begin(struct metric_values *values, enum metric_scope scope)
{
    memset(values, 0, sizeof *values);
    values->scope = scope;
}

static struct metric_value *claim(struct metric_values *values, enum metric_id id)
{
    assert(metric_table[id].scopes & values->scope);
    values->value[id].present = true;
    return &values->value[id];
}

void metrics_set(struct metric_values *values, enum metric_id id, double number)
{
    assert(metric_table[id].type == METRIC_COUNTER || metric_table[id].type == METRIC_GAUGE);
    claim(values, id)->number = number;
}

void metrics_set_histogram(struct metric_values *values, enum metric_id id, const struct histogram *histogram)
{
    assert(metric_table[id].type == METRIC_HISTOGRAM);
    claim(values, id)->histogram = histogram;
}

void metrics_set_info(struct metric_values *values, enum metric_id id, const char *const *info)
{
    assert(metric_table[id].type == METRIC_INFO);
    claim(values, id)->info = info;
}

void metrics_set_memory(struct metric_values *values, const struct metric_memory *memory)
{
    metrics_set(values, METRIC_ALLOCATED, (double)memory->allocated);
    metrics_set(values, METRIC_RESIDENT, (double)memory->resident);
    metrics_set(values, METRIC_CONTROL, (double)memory->control);
    metrics_set(values, METRIC_AUDITED, (double)memory->audited);
    metrics_set(values, METRIC_FULL_BF16, (double)memory->full_bf16);
    if (memory->full_bf16)
        metrics_set(values, METRIC_KEPT_FRACTION, (double)memory->allocated / (double)memory->full_bf16);
    if (memory->coordinates)
        metrics_set(values, METRIC_BITS, (double)memory->allocated * 8 / (double)memory->coordinates);
}

void metric_reasons_add(struct metric_reasons *counts, int err)
{
    for (size_t i = 0; i < N_REASONS; i++)
        if (reasons[i] == err) {
            atomic_fetch_add_explicit(&counts->count[i], 1, memory_order_relaxed);
            return;
        }
    assert(!"an error of the list");
}

size_t metric_n_reasons(void)
{
    return N_REASONS;
}

const char *metric_reason_name(size_t i)
{
    return err_name(reasons[i]);
}

uint64_t metric_reason_count(const struct metric_reasons *counts, size_t i)
{
    return atomic_load_explicit(&counts->count[i], memory_order_relaxed);
}

void metrics_set_reasons(struct metric_values *values, enum metric_id id, const struct metric_reasons *counts)
{
    assert(metric_table[id].label);
    claim(values, id)->count = counts;
}
