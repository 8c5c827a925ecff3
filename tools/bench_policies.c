/* attn bench policies: what a token costs each policy early and late in a long stream, at one byte budget.
 *
 * A policy that compresses is of use when it goes on for ever: its time per token and its bytes must not grow with the stream. Every
 * policy that takes a budget runs through the same tokens (tools/bench/planted.h), softmax where it serves softmax layers, else
 * tensor. The error is that of the last queries, for softmax: on clustered keys it tells what a policy makes of the clusters, and
 * on isotropic ones how far it is from sampling. */
#include "tools/bench/bench.h"
#include "tools/bench/lifetime.h"
#include "tools/bench/summary.h"
#include "tools/bench/team.h"
#include "tools/command.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char who[] = "attn bench policies";

enum {
    TOKENS = 1000000,
    TOKENS_MIN = LIFETIME_WINDOWS * LIFETIME_ASK_EVERY,
    TOKENS_QUICK = TOKENS_MIN,
    TOKENS_MAX = 1 << 30,
    BUDGET = 256 << 10,
    MACHINE_BYTES = 96
};

struct options {
    const char *only, *stream, *isa;
    uint64_t tokens, budget, seed;
    bool json, quick;
};

#define PLACE(field) offsetof(struct options, field)

static const struct command_option option_table[] = {
    {"--only", "NAME", OPTION_TEXT, PLACE(only), 0, 0, false, "only this policy"},
    {"--stream", "NAME", OPTION_TEXT, PLACE(stream), 0, 0, false,
     "clustered: keys in 64 balls of radius 0.05 (the default), or isotropic: keys anywhere on the unit sphere"},
    {"--tokens", "N", OPTION_COUNT, PLACE(tokens), TOKENS_MIN, TOKENS_MAX, false, "of the stream (default 1000000)"},
    {"--budget", "BYTES", OPTION_COUNT, PLACE(budget), 1, 0x1p40, false, "of each policy (default 262144)"},
    {"--seed", "N", OPTION_COUNT, PLACE(seed), 0, 0x1p32, false, "of the stream (default 0)"},
    {"--isa", "NAME", OPTION_TEXT, PLACE(isa), 0, 0, false, "instruction set (default: the best that runs here)"},
    {"--quick", NULL, OPTION_SWITCH, PLACE(quick), 0, 0, false, "6400 tokens: tells whether it runs, not how fast"},
    {"--json", NULL, OPTION_SWITCH, PLACE(json), 0, 0, false, "one JSON object per policy and line"},
};

/* What is under way, for progress. */
static const char *doing;

static bool tell(size_t done, size_t of)
{
    command_progress(doing, done, of);
    return !command_interrupted();
}

static bool is_softmax(const struct cache_ops *ops)
{
    return ops->kinds & 1u << ATTENTION_SOFTMAX;
}

static bool takes_part(const struct cache_ops *ops, const struct options *o)
{
    return ops->takes_budget && (!o->only || strcmp(o->only, ops->name) == 0);
}

static double per_token(const struct lifetime_pace *pace)
{
    return pace->append + pace->attend;
}

static double slowdown(const struct lifetime *l)
{
    return per_token(&l->late) / per_token(&l->early);
}

static int print_json(const struct options *o, const struct cache_ops *ops, const struct lifetime *l, const char *machine)
{
    json_t *gauges = json_object();
    for (size_t g = 0; g < ops->n_gauges; g++)
        json_object_set_new(gauges, ops->gauges[g].name, json_real(l->gauge[g]));
    return command_print_json(
        who,
        json_pack("{ss ss ss sI sI sI si sf sf sf sf sf sI sI so so ss si}", "policy", ops->name, "kind",
                  attention_name(is_softmax(ops) ? ATTENTION_SOFTMAX : ATTENTION_TENSOR), "stream", o->stream, "tokens",
                  (json_int_t)o->tokens, "budget_bytes", (json_int_t)o->budget, "bytes", (json_int_t)l->allocated,
                  "attend_every", (int)LIFETIME_ASK_EVERY, "append_seconds_early", l->early.append, "append_seconds_late",
                  l->late.append, "attend_seconds_early", l->early.attend, "attend_seconds_late", l->late.attend,
                  "late_over_early", slowdown(l), "resident_bytes_early", (json_int_t)l->early.resident, "resident_bytes_late",
                  (json_int_t)l->late.resident, "error_mean", isfinite(l->error_mean) ? json_real(l->error_mean) : json_null(),
                  "gauges", gauges, "machine", machine, "cores", (int)team_cpus()));
}

static void print_head(const struct options *o, const char *machine)
{
    printf("%s, %zu cores; %s, %llu tokens, %llu bytes\n", machine, team_cpus(), o->stream, (unsigned long long)o->tokens,
           (unsigned long long)o->budget);
    printf("microseconds per token at 5 %% of the stream and in its last 10 %%, one thread\n\n");
    printf("%-9s %-7s %8s %18s %20s %6s %15s %7s\n", "policy", "kind", "bytes", "append", "attend", "ratio", "resident MiB",
           "error");
}

static void print_row(const struct cache_ops *ops, const struct lifetime *l)
{
    printf("%-9s %-7s %8llu %8.2f %9.2f %9.2f %10.2f %6.3f %7.1f %7.1f ", ops->name,
           attention_name(is_softmax(ops) ? ATTENTION_SOFTMAX : ATTENTION_TENSOR), (unsigned long long)l->allocated,
           l->early.append * 1e6, l->late.append * 1e6, l->early.attend * 1e6, l->late.attend * 1e6, slowdown(l),
           (double)l->early.resident * 0x1p-20, (double)l->late.resident * 0x1p-20);
    if (isfinite(l->error_mean))
        printf("%7.4f", l->error_mean);
    printf("\n");
    fflush(stdout);
}

/* One policy; one that the budget is too small for is told and is no error, unless it was asked for. */
static int run_policy(const struct options *o, struct lifetime_plan *plan, const char *machine)
{
    struct lifetime l;
    struct fault fault = {0};
    doing = plan->ops->name;
    int err = lifetime_run(plan, tell, &l, &fault);
    command_progress(doing, (size_t)o->tokens, (size_t)o->tokens);
    if (err && (o->only || (err != ERR_INVALID && err != ERR_UNSUPPORTED)))
        return command_failed(who, &fault);
    if (err) {
        fprintf(stderr, "%s: %s is left out: %s\n", who, plan->ops->name, fault.text);
        return COMMAND_DONE;
    }
    if (o->json)
        return print_json(o, plan->ops, &l, machine);
    print_row(plan->ops, &l);
    return COMMAND_DONE;
}

static int run_policies(const struct options *o, const struct kernels *kernels)
{
    struct planted *stream = malloc(sizeof *stream);
    double *reference = malloc((size_t)LIFETIME_ASKED * PLANTED_DIM * sizeof *reference);
    struct fault fault = {0};
    char machine[MACHINE_BYTES];
    int code = COMMAND_DONE;
    bool softmax = false, ok = stream && reference;
    if (!ok)
        fault_set(&fault, ERR_NO_MEMORY, "a stream");
    for (size_t p = 0; cache_table[p]; p++)
        softmax = softmax || (takes_part(cache_table[p], o) && is_softmax(cache_table[p]));
    machine_name(machine, sizeof machine);
    if (ok) {
        planted_init(stream, o->seed, strcmp(o->stream, "isotropic") == 0);
        doing = "full attention in float64";
        ok = !softmax || planted_reference(stream, o->tokens, LIFETIME_ASKED, tell, reference);
        command_progress(doing, (size_t)o->tokens, (size_t)o->tokens);
        if (!ok)
            fault_set(&fault, ERR_FAILED, "interrupted, or no memory");
    }
    if (!ok)
        code = command_failed(who, &fault);
    else if (!o->json)
        print_head(o, machine);
    for (size_t p = 0; cache_table[p] && code == COMMAND_DONE; p++)
        if (takes_part(cache_table[p], o))
            code = run_policy(o, &(struct lifetime_plan){cache_table[p], kernels, stream, reference, o->tokens, o->budget},
                              machine);
    free(reference);
    free(stream);
    return code;
}

int bench_policies(int argc, char **argv)
{
    struct options o = {.stream = "clustered", .tokens = 0, .budget = BUDGET};
    struct option_group group = {option_table, sizeof option_table / sizeof *option_table, &o};
    int code = command_parse(who, "Time per token, bytes and error of every policy over a long stream, at one byte budget.",
                             &group, 1, argc, argv);
    if (code != COMMAND_GO_ON)
        return code;
    const struct cache_ops *only = o.only ? cache_find(o.only) : NULL;
    if (o.only && (!only || !only->takes_budget))
        return command_usage(who, "--only: no policy that takes a budget is called '%s'", o.only);
    if (strcmp(o.stream, "clustered") != 0 && strcmp(o.stream, "isotropic") != 0)
        return command_usage(who, "--stream must be clustered or isotropic, not '%s'", o.stream);
    const struct kernels *kernels = o.isa ? kernels_find(o.isa) : kernels_best();
    if (!kernels)
        return command_usage(who, "--isa: this CPU does not run '%s'", o.isa);
    if (o.tokens == 0)
        o.tokens = o.quick ? TOKENS_QUICK : TOKENS;
    command_catch_interrupt();
    return run_policies(&o, kernels);
}
