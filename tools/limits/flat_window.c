/* attn limits window: sliding windows whose outside is not masked [Haris, Onak: arXiv 2502.15955].
 *
 * All tokens outside the window have score 0, that is weight 1, and their values stay unmasked:
 *     out = (sum_kept e^(s_j) v_j + sum_out v_j) / (sum_kept e^(s_j) + n - |kept|)
 * which takes the window's rows and one running sum: O(d W) space and time however long the stream. For tensor attention a pair with
 * an index outside its window has score 0:
 *     out = (sum_kept pairs e^(s_ij) v1_i o v2_j + B1 o B2 - S1 o S2) / (sum_kept pairs e^(s_ij) + n^2 - |kept1| |kept2|)
 * with B the sums of all values and S those of the kept ones. Here both are computed in float64 beside the policy. */
#include "tools/eval/trial.h"
#include "tools/eval/words.h"
#include "tools/limits/draw.h"
#include "tools/limits/experiment.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char WHO[] = "attn limits window";

enum { PROBE = 16 /* tokens before each length that are attended to and timed */, RUN = 512, STREAMS = 2 };

struct options {
    uint64_t d, window, window_2, sinks, seed;
    const char *lengths, *storages;
};

#define AT(field) offsetof(struct options, field)

static const struct command_option option_table[] = {
    {"--n", "N,...", OPTION_TEXT, AT(lengths), 0, 0, false, "lengths of the stream, rising (default 1024,4096,16384,65536)"},
    {"--d", "D", OPTION_COUNT, AT(d), 1, 1024, false, "dimension of keys and values (default 64)"},
    {"--window", "W", OPTION_COUNT, AT(window), 1, 1 << 16, false, "tokens of the window (default 256)"},
    {"--window-2", "W", OPTION_COUNT, AT(window_2), 1, 1 << 16, false, "of the second stream of tensor layers (default 32)"},
    {"--sinks", "N", OPTION_COUNT, AT(sinks), 0, 1 << 10, false, "first tokens that are kept too (default 4)"},
    {"--storages", "NAME,...", OPTION_TEXT, AT(storages), 0, 0, false, "default f32"},
    {"--seed", "N", OPTION_COUNT, AT(seed), 0, 0x1p53, false, "of the stream (default 0)"},
};

static const char HELP[] = "Unmasked windows: exact beside float64, and their bytes and seconds while the stream grows.";

struct run {
    struct options options;
    struct words lengths, storages;
    struct experiment *x;
    struct trial *trial;
};

/* The stream of one kind, all of it in memory: (n, d) each. */
struct stream {
    enum attention_kind kind;
    size_t n, d, n_streams;
    float *q, *key[STREAMS], *value[STREAMS];
    double *all[STREAMS]; /* (d,) sums of the values so far */
    size_t summed;
};

static void stream_free(struct stream *s)
{
    free(s->q);
    for (size_t i = 0; i < STREAMS; i++) {
        free(s->key[i]);
        free(s->value[i]);
        free(s->all[i]);
    }
}

/* Values around 1/2, so that those outside weigh. */
static int stream_create(struct stream *s, enum attention_kind kind, size_t n, size_t d, uint64_t seed)
{
    *s = (struct stream){.kind = kind, .n = n, .d = d, .n_streams = kind == ATTENTION_TENSOR ? 2 : 1};
    s->q = malloc(n * d * sizeof *s->q);
    bool ok = s->q;
    for (size_t i = 0; i < s->n_streams; i++) {
        s->key[i] = malloc(n * d * sizeof *s->key[i]);
        s->value[i] = malloc(n * d * sizeof *s->value[i]);
        s->all[i] = calloc(d, sizeof *s->all[i]);
        ok = ok && s->key[i] && s->value[i] && s->all[i];
    }
    if (!ok) {
        stream_free(s);
        return ERR_NO_MEMORY;
    }
    for (size_t t = 0; t < n; t++)
        for (size_t c = 0; c < d; c++) {
            s->q[t * d + c] = (float)(3 * draw_normal(seed, 5 * t, c));
            for (size_t i = 0; i < s->n_streams; i++) {
                s->key[i][t * d + c] = (float)draw_normal(seed, 5 * t + 1 + 2 * i, c);
                s->value[i][t * d + c] = (float)(0.5 + draw_normal(seed, 5 * t + 2 + 2 * i, c));
            }
        }
    return 0;
}

/* ---- in float64 */

/* The rows that a query of token t sees of a window, sinks first: absolute indices. */
static size_t kept_rows(size_t t, size_t window, size_t sinks, size_t *rows)
{
    size_t n = 0, from = t + 1 > window ? t + 1 - window : 0;
    for (size_t j = 0; j < sinks && j < from; j++)
        rows[n++] = j;
    for (size_t j = from; j <= t; j++)
        rows[n++] = j;
    return n;
}

struct exact {
    size_t window[STREAMS], sinks;
    double scale;
    size_t *rows[STREAMS];
    double *out; /* (d,) */
};

static double kept_score(const struct stream *s, const struct exact *x, size_t t, size_t i, size_t j)
{
    double score = 0;
    for (size_t c = 0; c < s->d; c++)
        score += (double)s->q[t * s->d + c] * (double)s->key[0][i * s->d + c] *
                 (s->n_streams > 1 ? (double)s->key[1][j * s->d + c] : 1);
    return x->scale * score;
}

/* Sums of the values of all tokens up to t; t only grows. */
static void sum_up_to(struct stream *s, size_t t)
{
    for (; s->summed <= t; s->summed++)
        for (size_t i = 0; i < s->n_streams; i++)
            for (size_t c = 0; c < s->d; c++)
                s->all[i][c] += (double)s->value[i][s->summed * s->d + c];
}

/* out of token t by the definition. Scores here are of order 10 at most, so no shift is needed. */
static void define(struct stream *s, struct exact *x, size_t t)
{
    bool tensor = s->kind == ATTENTION_TENSOR;
    size_t total = tensor ? (t + 1) * (t + 1) : t + 1;
    size_t kept[STREAMS] = {kept_rows(t, x->window[0], x->sinks, x->rows[0]),
                            tensor ? kept_rows(t, x->window[1], x->sinks, x->rows[1]) : 1};
    sum_up_to(s, t);
    double weights = (double)(total - kept[0] * kept[1]);
    for (size_t c = 0; c < s->d; c++) {
        double outside = 1, inside = 1;
        for (size_t i = 0; i < (tensor ? 2u : 1u); i++) {
            double sum = 0;
            for (size_t j = 0; j < kept[i]; j++)
                sum += (double)s->value[i][x->rows[i][j] * s->d + c];
            outside *= s->all[i][c];
            inside *= sum;
        }
        x->out[c] = outside - inside;
    }
    for (size_t a = 0; a < kept[0]; a++)
        for (size_t b = 0; b < kept[1]; b++) {
            size_t i = x->rows[0][a], j = tensor ? x->rows[1][b] : 0;
            double w = exp(kept_score(s, x, t, i, j));
            weights += w;
            for (size_t c = 0; c < s->d; c++)
                x->out[c] += w * (double)s->value[0][i * s->d + c] * (tensor ? (double)s->value[1][j * s->d + c] : 1);
        }
    for (size_t c = 0; c < s->d; c++)
        x->out[c] /= weights;
}

static double error_of(const float *out, const struct exact *x, size_t d)
{
    double off = 0, norm = 0;
    for (size_t c = 0; c < d; c++) {
        off += ((double)out[c] - x->out[c]) * ((double)out[c] - x->out[c]);
        norm += x->out[c] * x->out[c];
    }
    return sqrt(off / norm);
}

/* ---- the policy */

static struct trial_step step_at(const struct stream *s, size_t t, size_t n, unsigned flags, float *out)
{
    struct trial_step step = {.n_tokens = n, .flags = flags, .q = s->q + t * s->d, .out = out};
    for (size_t i = 0; i < s->n_streams; i++) {
        step.key[i] = s->key[i] + t * s->d;
        step.value[i] = s->value[i] + t * s->d;
    }
    return step;
}

/* Appends up to the length and probes its last tokens: one row. */
static int grow_to(struct run *r, struct stream *s, struct exact *x, size_t from, size_t n, const char *storage, float *out,
                   struct fault *fault)
{
    size_t probe = n - from < PROBE ? n - from : PROBE;
    double append = 0, attend = 0, worst = 0;
    for (size_t t = from, run; t < n - probe; t += run) {
        run = n - probe - t < RUN ? n - probe - t : RUN;
        struct trial_step step = step_at(s, t, run, PART_APPEND, NULL);
        int err = trial_step(r->trial, &step, fault);
        if (err)
            return err;
        if (command_interrupted())
            return fault_set(fault, ERR_FAILED, "interrupted");
    }
    for (size_t t = n - probe; t < n; t++) {
        struct trial_step step = step_at(s, t, 1, PART_APPEND | PART_ATTEND, out);
        int err = trial_step(r->trial, &step, fault);
        if (err)
            return err;
        define(s, x, t);
        worst = fmax(worst, error_of(out, x, s->d));
        append += step.append_seconds / (double)probe;
        attend += step.attend_seconds / (double)probe;
    }
    struct engine_stream_state state;
    trial_state(r->trial, &state);
    char window[48];
    snprintf(window, sizeof window, s->n_streams > 1 ? "%zux%zu" : "%zu", x->window[0], x->window[1]);
    return experiment_add(r->x,
                          json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:f}", "attention", attention_name(s->kind),
                                    "storage", storage, "window", window, "n", (json_int_t)n, "bytes",
                                    (json_int_t)state.allocated, "bytes_full_bf16", (json_int_t)state.full_bf16, "error_max",
                                    worst, "append_seconds", append, "attend_seconds", attend),
                          fault);
}

static int grow(struct run *r, struct stream *s, struct exact *x, const char *storage, struct fault *fault)
{
    const struct options *o = &r->options;
    struct shape *shape = calloc(1, sizeof *shape);
    float *out = calloc(s->d, sizeof *out);
    char profile[200];
    snprintf(profile, sizeof profile, TRIAL_POLICY "window,storage=%s,unmasked=true,window_tokens=%llux%llu,sink_tokens=%llu",
             storage, (unsigned long long)o->window, (unsigned long long)o->window_2, (unsigned long long)o->sinks);
    int err = shape && out ? 0 : fault_set(fault, ERR_NO_MEMORY, "a stream");
    if (!err) {
        *shape = (struct shape){.n_layers = 1,
                                .kind = {(unsigned char)s->kind},
                                .heads = 1,
                                .kv_heads = 1,
                                .key_dim = s->d,
                                .value_dim = s->d,
                                .scale = (float)x->scale,
                                .expected_tokens = s->n};
        err = trial_open(r->trial, shape, profile, fault);
    }
    size_t before = 0;
    for (size_t i = 0; i < r->lengths.n && !err; i++) {
        command_progress("window", i, r->lengths.n);
        err = grow_to(r, s, x, before, (size_t)r->lengths.number[i], storage, out, fault);
        before = (size_t)r->lengths.number[i];
    }
    command_progress("window", 1, 1);
    trial_close(r->trial);
    free(shape);
    free(out);
    return err;
}

static int run_kind(struct run *r, enum attention_kind kind, struct fault *fault)
{
    const struct options *o = &r->options;
    struct stream s;
    struct exact x = {.window = {o->window, o->window_2}, .sinks = o->sinks, .scale = 1 / sqrt((double)o->d)};
    x.scale = (double)(float)x.scale; /* as it is sent */
    if (stream_create(&s, kind, (size_t)r->lengths.number[r->lengths.n - 1], o->d, o->seed))
        return fault_set(fault, ERR_NO_MEMORY, "a stream of %.0f tokens", r->lengths.number[r->lengths.n - 1]);
    for (size_t i = 0; i < STREAMS; i++)
        x.rows[i] = malloc((o->window + o->window_2 + o->sinks) * sizeof *x.rows[i]);
    x.out = malloc(o->d * sizeof *x.out);
    int err = x.rows[0] && x.rows[1] && x.out ? 0 : fault_set(fault, ERR_NO_MEMORY, "a definition");
    for (size_t i = 0; i < N_STORAGE && !err; i++) {
        if (!words_ask_for(&r->storages, storage_table[i].name))
            continue;
        struct fault why = {0};
        s.summed = 0;
        for (size_t k = 0; k < STREAMS; k++)
            if (s.all[k])
                memset(s.all[k], 0, s.d * sizeof *s.all[k]);
        err = grow(r, &s, &x, storage_table[i].name, &why);
        if (err == ERR_UNSUPPORTED || err == ERR_INVALID) {
            experiment_left_out(r->x, storage_table[i].name, why.text);
            err = 0;
        } else if (err) {
            fault_set(fault, err, "%.200s", why.text);
        }
    }
    free(x.rows[0]);
    free(x.rows[1]);
    free(x.out);
    stream_free(&s);
    return err;
}

int limits_window(int argc, char **argv)
{
    static const struct experiment_panel panels[] = {
        {.title = "State of unmasked windows",
         .x = "n",
         .y = "bytes",
         .theory = "bytes_full_bf16",
         .by = {"attention", "storage"},
         .theory_each = true,
         .x_log = true,
         .y_log = true},
        {.title = "Time of a query",
         .x = "n",
         .y = "attend_seconds",
         .by = {"attention", "storage"},
         .x_log = true,
         .y_log = true},
        {.title = "Error beside float64",
         .x = "n",
         .y = "error_max",
         .by = {"attention", "storage"},
         .x_log = true,
         .y_log = true},
    };
    struct experiment x = {
        .who = WHO,
        .name = "window",
        .predicts = "the error is 0 up to the rounding of the storage, and bytes and seconds stay what they are while n grows",
        .rows = json_array(),
        .tables = "attention",
        .panels = panels,
        .n_panels = 3,
    };
    struct run r = {
        .x = &x,
        .options = {.d = 64, .window = 256, .window_2 = 32, .sinks = 4, .lengths = "1024,4096,16384,65536", .storages = "f32"}};
    struct experiment_options shown = {0};
    struct fault fault = {0};
    const struct option_group groups[] = {{option_table, sizeof option_table / sizeof *option_table, &r.options},
                                          {experiment_option_table, n_experiment_options, &shown}};
    int code = command_parse(WHO, HELP, groups, 2, argc, argv);
    if (code == COMMAND_GO_ON)
        code = words_counts(&r.lengths, WHO, "--n", r.options.lengths, 1, 1 << 22);
    for (size_t i = 1; code == COMMAND_GO_ON && i < r.lengths.n; i++)
        if (r.lengths.number[i] <= r.lengths.number[i - 1])
            code = command_usage(WHO, "--n takes lengths that rise");
    if (code == COMMAND_GO_ON)
        code = words_storages(&r.storages, WHO, "--storages", r.options.storages);
    if (code == COMMAND_GO_ON) {
        command_catch_interrupt();
        int err = trial_create(&r.trial, NULL, &fault);
        for (unsigned kind = 0; kind < N_ATTENTION && !err; kind++)
            err = run_kind(&r, (enum attention_kind)kind, &fault);
        trial_destroy(r.trial);
        code = experiment_end(&x, &shown, err, &fault);
    }
    json_decref(x.rows);
    words_free(&r.lengths);
    words_free(&r.storages);
    return code;
}
