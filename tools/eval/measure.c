#include "tools/eval/measure.h"

#include <math.h>
#include <stdlib.h>

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double quantile(const double *x, size_t n, double p)
{
    double at = p * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? x[i] + (at - (double)i) * (x[i + 1] - x[i]) : x[n - 1];
}

/* The errors of one token's query heads in one layer. */
static void take_errors(const struct trace *trace, const struct reference *reference, size_t layer, size_t token,
                        const float *out, double *error)
{
    size_t H = trace->shape.heads, e = trace->shape.value_dim, at = (layer * reference->n + token - reference->first) * H;
    for (size_t h = 0; h < H; h++) {
        const double *full = reference->out + (at + h) * e;
        double sum = 0, norm = reference->norm[at + h];
        for (size_t c = 0; c < e; c++) {
            double off = (double)out[h * e + c] - full[c];
            sum += off * off;
        }
        error[at + h] = sum > 0 ? sqrt(sum) / norm : 0;
    }
}

static void sum_up(struct measurement *m, const struct shape *s, size_t n_tokens, double *error)
{
    size_t n = s->n_layers * n_tokens * s->heads;
    double worst = -1, all = 0;
    for (size_t l = 0; l < s->n_layers; l++)
        for (size_t h = 0; h < s->heads; h++) {
            double sum = 0;
            for (size_t t = 0; t < n_tokens; t++)
                sum += error[(l * n_tokens + t) * s->heads + h];
            all += sum;
            if (sum > worst) {
                worst = sum;
                m->worst_layer = l;
                m->worst_head = h;
            }
        }
    qsort(error, n, sizeof *error, ascending);
    m->error_mean = all / (double)n;
    m->error_p50 = quantile(error, n, 0.5);
    m->error_p90 = quantile(error, n, 0.9);
    m->error_p99 = quantile(error, n, 0.99);
}

static void take_gauges(struct measurement *m, const struct trial *trial)
{
    for (size_t i = 0; cache_table[i]; i++)
        for (size_t g = 0; g < cache_table[i]->n_gauges && m->n_gauges < MEASURE_GAUGES; g++) {
            const char *name = cache_table[i]->gauges[g].name;
            bool known = false;
            for (size_t k = 0; k < m->n_gauges; k++)
                known = known || m->gauge_name[k] == name;
            if (!known && trial_gauge(trial, name, &m->gauge[m->n_gauges]))
                m->gauge_name[m->n_gauges++] = name;
        }
}

/* One step of every layer, and its errors. */
static int step_layers(struct measurement *m, struct trial *trial, const struct trace *trace, const struct reference *reference,
                       size_t token, size_t n, float *out, double *error, struct fault *fault)
{
    const struct shape *s = &trace->shape;
    size_t wide = s->heads * s->key_dim, keys = s->kv_heads * s->key_dim, values = s->kv_heads * s->value_dim;
    size_t point = token * m->n_points / trace->n_tokens;
    for (size_t l = 0; l < s->n_layers; l++) {
        const struct trace_layer *from = &trace->layer[l];
        struct trial_step step = {
            .layer = (uint32_t)l, .n_tokens = n, .flags = PART_APPEND | PART_ATTEND, .q = from->q + token * wide, .out = out};
        for (size_t i = 0; i < attention_streams((enum attention_kind)s->kind[l]); i++) {
            step.key[i] = from->key[i] + token * keys;
            step.value[i] = from->value[i] + token * values;
        }
        int err = trial_step(trial, &step, fault);
        if (err)
            return err;
        m->append_seconds += step.append_seconds;
        m->attend_seconds += step.attend_seconds;
        m->seconds[point] += step.append_seconds + step.attend_seconds;
        for (size_t t = 0; t < n; t++)
            if (token + t >= reference->first)
                take_errors(trace, reference, l, token + t, out + t * s->heads * s->value_dim, error);
    }
    m->position[point] += (double)n; /* tokens of the point, until all are counted */
    return 0;
}

static void average_times(struct measurement *m, size_t n_layers, size_t n_tokens)
{
    size_t kept = 0;
    double at = 0;
    m->append_seconds /= (double)(n_layers * n_tokens);
    m->attend_seconds /= (double)(n_layers * n_tokens);
    for (size_t i = 0; i < m->n_points; i++) {
        double n = m->position[i];
        if (n == 0) /* batches are longer than points are apart */
            continue;
        m->seconds[kept] = m->seconds[i] / (n * (double)n_layers);
        m->position[kept++] = at + n / 2;
        at += n;
    }
    m->n_points = kept;
}

int measure(struct measurement *out, struct trial *trial, const struct trace *trace, const struct reference *reference,
            size_t batch, measure_progress *progress, void *context, struct fault *fault)
{
    const struct shape *s = &trace->shape;
    size_t n = trace->n_tokens, n_errors = s->n_layers * reference->n * s->heads;
    float *answers = malloc(batch * s->heads * s->value_dim * sizeof *answers);
    double *error = calloc(n_errors, sizeof *error);
    int err = answers && error ? 0 : fault_set(fault, ERR_NO_MEMORY, "the errors of a trace");
    *out = (struct measurement){.n_points = n < MEASURE_POINTS ? n : MEASURE_POINTS};
    for (size_t t = 0, run; t < n && !err; t += run) {
        run = n - t < batch ? n - t : batch;
        err = step_layers(out, trial, trace, reference, t, run, answers, error, fault);
        if (!err && progress && !progress(context, t + run, n))
            err = fault_set(fault, ERR_FAILED, "stopped");
    }
    if (!err) {
        struct engine_stream_state state;
        trial_state(trial, &state);
        out->bytes = (double)state.allocated;
        out->bytes_full_bf16 = (double)state.full_bf16;
        sum_up(out, s, reference->n, error);
        average_times(out, s->n_layers, n);
        take_gauges(out, trial);
    }
    free(answers);
    free(error);
    return err;
}
