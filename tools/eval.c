/* attn eval: traces x policies x budgets, each run through the daemon's engine in this process: bytes, times, errors. */
#include "tools/eval/contenders.h"
#include "tools/eval/figures.h"
#include "tools/eval/table.h"
#include "tools/eval/trace.h"
#include "tools/eval/words.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char WHO[] = "attn eval";

struct eval_options {
    const char *trace; /* only for the help: traces are taken out before */
    const char *policies, *budgets, *storage, *config, *profiles, *plot;
    uint64_t batch;
    bool json;
};

#define AT(field) offsetof(struct eval_options, field)

static const struct command_option option_table[] = {
    {"--trace", "FILE...", OPTION_TEXT, AT(trace), 0, 0, false,
     "safetensors with layer.L.q, .k, .v or .q, .k1, .v1, .k2, .v2 (required)"},
    {"--policies", "NAME,...", OPTION_TEXT, AT(policies), 0, 0, false, "or all (the default): every policy that fits a trace"},
    {"--budgets", "SHARE,...", OPTION_TEXT, AT(budgets), 0, 0, false, "of the full cache in bf16 (default 1/2,1/4,1/8,1/16)"},
    {"--storage", "NAME,...", OPTION_TEXT, AT(storage), 0, 0, false,
     "of keys and values under --policies, or all (default f32)"},
    {"--config", "YAML", OPTION_TEXT, AT(config), 0, 0, false, "a configuration with profiles; its pools count too"},
    {"--profiles", "NAME,...", OPTION_TEXT, AT(profiles), 0, 0, false, "profiles of the configuration, run as they are"},
    {"--batch", "N", OPTION_COUNT, AT(batch), 1, 4096, false, "tokens sent at a time (default 1: decoding)"},
    {"--plot", "FILE.svg", OPTION_TEXT, AT(plot), 0, 0, false, "draw error against bytes, and time against position (gnuplot)"},
    {"--json", NULL, OPTION_SWITCH, AT(json), 0, 0, false, "one JSON object instead of a table"},
};

static const char HELP[] =
    "What each policy costs and gives on recorded attention: every trace runs through every policy at every budget, token by\n"
    "token. Errors are |out - full| / |full| against full attention in float64, over the second half of the trace; seconds are "
    "per\n"
    "token and layer, summed over its heads; bytes are what all heads hold at the end.";

/* Everything of one run. */
struct eval {
    struct eval_options options;
    struct words policies, budgets, storages, profiles;
    struct trial *trial;
    json_t *rows, *left_out;
    struct result *result; /* (n_results) */
    size_t n_results;

    const char *path; /* the trace at hand */
    struct trace trace;
    struct reference reference;
    char doing[256];
};

/* ---- progress, and an end on Ctrl-C */

static bool still_measuring(void *context, size_t done, size_t total)
{
    const struct eval *v = context;
    if (done % 16 == 0 || done == total)
        command_progress(v->doing, done, total);
    return !command_interrupted();
}

/* ---- rows */

static json_t *real_or_null(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

/* One name for all heads of the stream, or "mixed". */
struct settings {
    const char *key_storage, *value_storage;
    double budget_fraction; /* 0: none, or not one for all */
};

static int common_settings(const struct eval *v, struct settings *out, struct fault *fault)
{
    const struct shape *s = &v->trace.shape;
    struct policy first, other;
    int err = trial_policy(v->trial, 0, 0, &first, fault);
    *out = (struct settings){err ? "" : first.key_storage->name, err ? "" : first.value_storage->name,
                             err ? 0 : first.budget_fraction};
    for (uint32_t l = 0; l < s->n_layers; l++)
        for (size_t h = 0; h < s->kv_heads && !err; h++) {
            err = trial_policy(v->trial, l, h, &other, fault);
            if (err)
                break;
            if (other.key_storage != first.key_storage)
                out->key_storage = "mixed";
            if (other.value_storage != first.value_storage)
                out->value_storage = "mixed";
            if (other.budget_fraction != first.budget_fraction)
                out->budget_fraction = 0;
        }
    return err;
}

static json_t *row_of(const struct eval *v, const char *name, const struct settings *s, double fraction,
                      const struct measurement *m)
{
    char worst[64];
    snprintf(worst, sizeof worst, "layer %zu head %zu", m->worst_layer, m->worst_head);
    json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:o, s:I, s:I, s:f, s:o, s:o, s:o, s:o, s:s, s:f, s:f}", "trace", v->path,
                            "policy", name, "key_storage", s->key_storage, "value_storage", s->value_storage, "budget_fraction",
                            fraction > 0 ? json_real(fraction) : json_null(), "bytes", (json_int_t)m->bytes, "bytes_full_bf16",
                            (json_int_t)m->bytes_full_bf16, "kept_fraction", m->bytes / m->bytes_full_bf16, "error_mean",
                            real_or_null(m->error_mean), "error_p50", real_or_null(m->error_p50), "error_p90",
                            real_or_null(m->error_p90), "error_p99", real_or_null(m->error_p99), "worst_head", worst,
                            "append_seconds", m->append_seconds, "attend_seconds", m->attend_seconds);
    json_t *gauges = json_object();
    for (size_t i = 0; i < m->n_gauges; i++)
        json_object_set_new(gauges, m->gauge_name[i], real_or_null(m->gauge[i]));
    if (m->n_gauges)
        json_object_set(row, "gauges", gauges);
    json_decref(gauges);
    return row;
}

static void leave_out(struct eval *v, const char *name, const char *budget, const char *reason)
{
    fprintf(stderr, "%s: %s: %s%s%s is left out: %s\n", WHO, v->path, name, *budget ? " at " : "", budget, reason);
    json_array_append_new(
        v->left_out, json_pack("{s:s, s:s, s:s, s:s}", "trace", v->path, "policy", name, "budget", budget, "reason", reason));
}

/* An engine that would need more memory than the machine has is not started. */
static bool fits_memory(const struct eval *v, char *reason, size_t size)
{
    double needs = trial_worst_growth(v->trial, v->trace.n_tokens);
    double has = 0.75 * (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    snprintf(reason, size, "it may take %.3g GiB, and three quarters of this machine's memory are %.3g GiB", needs / 0x1p30,
             has / 0x1p30);
    return needs <= has;
}

/* One row: the trace under a profile. An error of this profile alone is told and is no error of the whole. */
static int run_one(struct eval *v, const char *name, const char *storage, const char *budget, double share, const char *profile,
                   struct fault *fault)
{
    struct fault why = {0};
    struct settings settings;
    char reason[160];
    int err = trial_open(v->trial, &v->trace.shape, profile, &why);
    if (!err)
        err = common_settings(v, &settings, &why);
    if (!err && !fits_memory(v, reason, sizeof reason))
        err = fault_set(&why, ERR_NO_MEMORY, "%s", reason);
    struct result *more = err ? NULL : realloc(v->result, (v->n_results + 1) * sizeof *more);
    if (!err && !more)
        return fault_set(fault, ERR_NO_MEMORY, "results");
    if (more) {
        struct result *r = &more[v->n_results];
        v->result = more;
        *r = (struct result){.trace = v->path};
        snprintf(r->name, sizeof r->name, "%s%s%s", name, *storage ? " " : "", storage);
        snprintf(r->budget, sizeof r->budget, "%s", budget);
        snprintf(v->doing, sizeof v->doing, "%.60s: %s%s%s", v->path, r->name, *budget ? " at " : "", budget);
        err = measure(&r->measured, v->trial, &v->trace, &v->reference, v->options.batch, still_measuring, v, &why);
        if (!err) {
            share = share > 0 ? share : settings.budget_fraction;
            json_array_append_new(v->rows, row_of(v, name, &settings, share, &r->measured));
            v->n_results++;
        }
    }
    trial_close(v->trial);
    if (command_interrupted())
        return fault_set(fault, ERR_FAILED, "interrupted");
    if (err)
        leave_out(v, name, budget, why.text);
    return 0;
}

static int run_trace(struct eval *v, const char *path, struct fault *fault)
{
    v->path = path;
    int err = trace_load(&v->trace, path, fault);
    unsigned kinds = trace_kinds(&v->trace);
    if (!err) {
        snprintf(v->doing, sizeof v->doing, "%.60s: full attention in float64, blocks", path);
        err = reference_compute(&v->reference, &v->trace, v->trace.n_tokens / 2, still_measuring, v, fault);
    }
    struct contenders list = {0};
    if (!err)
        err = contenders_list(&list, kinds, &v->policies, &v->storages, &v->budgets, "", fault);
    for (size_t i = 0; i < list.n && !err; i++)
        err = run_one(v, list.item[i].ops->name, list.item[i].storage->name, list.item[i].budget_text, list.item[i].budget,
                      list.item[i].profile, fault);
    contenders_free(&list);
    for (size_t p = 0; cache_table[p] && !err; p++)
        if (words_have(&v->policies, cache_table[p]->name) && !contender_fits(cache_table[p], kinds))
            leave_out(v, cache_table[p]->name, "", "it does not serve this trace's kind of attention");
    for (size_t i = 0; i < v->profiles.n && !err; i++)
        err = run_one(v, v->profiles.item[i], "", "", 0, v->profiles.item[i], fault);
    reference_free(&v->reference);
    trace_free(&v->trace);
    return err;
}

/* ---- what is asked for */

static int read_lists(struct eval *v)
{
    const struct eval_options *o = &v->options;
    const char *policies = o->policies ? o->policies : o->profiles ? NULL : "all";
    int code = policies ? words_policies(&v->policies, WHO, "--policies", policies) : COMMAND_GO_ON;
    if (code == COMMAND_GO_ON && o->profiles)
        code = words_split(&v->profiles, WHO, "--profiles", o->profiles);
    if (code == COMMAND_GO_ON)
        code = words_storages(&v->storages, WHO, "--storage", o->storage ? o->storage : "f32");
    if (code == COMMAND_GO_ON)
        code = words_shares(&v->budgets, WHO, "--budgets", o->budgets ? o->budgets : "1/2,1/4,1/8,1/16");
    return code;
}

/* Files of `--trace A B ...`, `--trace=A`, however often; what is left are options that come once. */
static void take_traces(int *argc, char **argv, const char **traces, size_t *n)
{
    int kept = 1;
    for (int i = 1; i < *argc; i++) {
        if (strncmp(argv[i], "--trace=", 8) == 0) {
            traces[(*n)++] = argv[i] + 8;
        } else if (strcmp(argv[i], "--trace") == 0) {
            while (i + 1 < *argc && strncmp(argv[i + 1], "--", 2) != 0)
                traces[(*n)++] = argv[++i];
        } else {
            argv[kept++] = argv[i];
        }
    }
    argv[kept] = NULL;
    *argc = kept;
}

static void print_tables(const struct eval *v)
{
    static const char *const columns[] = {"policy",        "key_storage",    "value_storage", "budget_fraction", "bytes",
                                          "kept_fraction", "error_mean",     "error_p50",     "error_p90",       "error_p99",
                                          "worst_head",    "append_seconds", "attend_seconds"};
    size_t n = json_array_size(v->rows);
    for (size_t i = 0, end; i < n; i = end) {
        const char *trace = json_string_value(json_object_get(json_array_get(v->rows, i), "trace"));
        json_t *part = json_array();
        for (end = i; end < n; end++) {
            json_t *row = json_array_get(v->rows, end);
            if (strcmp(json_string_value(json_object_get(row, "trace")), trace) != 0)
                break;
            json_array_append(part, row);
        }
        printf("%s%s\n", i ? "\n" : "", trace);
        table_print(stdout, part, columns, sizeof columns / sizeof *columns);
        json_decref(part);
    }
}

static int run_all(struct eval *v, const char *const *traces, size_t n_traces)
{
    struct fault fault = {0};
    int err = trial_create(&v->trial, v->options.config, &fault);
    for (size_t i = 0; i < n_traces && !err; i++)
        err = run_trace(v, traces[i], &fault);
    if (!err && json_array_size(v->rows) == 0)
        err = fault_set(&fault, ERR_INVALID, "nothing that was asked for could be measured");
    if (!err && v->options.plot)
        err = figures_write(v->options.plot, v->result, v->n_results, &fault);
    if (err)
        return command_failed(WHO, &fault);
    if (v->options.json)
        return command_print_json(WHO, json_pack("{s:O, s:O}", "rows", v->rows, "left_out", v->left_out));
    print_tables(v);
    return COMMAND_DONE;
}

int command_eval(int argc, char **argv)
{
    struct eval v = {.options = {.batch = 1}, .rows = json_array(), .left_out = json_array()};
    const struct option_group group = {option_table, sizeof option_table / sizeof *option_table, &v.options};
    const char **traces = calloc((size_t)argc + 1, sizeof *traces);
    size_t n_traces = 0;
    if (traces)
        take_traces(&argc, argv, traces, &n_traces);
    int code = command_parse(WHO, HELP, &group, 1, argc, argv);
    if (code == COMMAND_GO_ON && n_traces == 0)
        code = command_usage(WHO, "--trace FILE... is required");
    if (code == COMMAND_GO_ON)
        code = read_lists(&v);
    if (code == COMMAND_GO_ON) {
        command_catch_interrupt();
        code = run_all(&v, traces, n_traces);
    }
    trial_destroy(v.trial);
    json_decref(v.rows);
    json_decref(v.left_out);
    free(v.result);
    words_free(&v.policies);
    words_free(&v.budgets);
    words_free(&v.storages);
    words_free(&v.profiles);
    free(traces);
    return code;
}
