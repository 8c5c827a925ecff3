/* attn feed: producers. Streams of tokens from a trace or made by rule, over as many connections as one likes, and what came back:
 * how fast, how late, and with --verify whether it is right. */
#include "base/clock.h"
#include "tools/command.h"
#include "tools/feed/run.h"
#include "tools/feed/verify.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char WHO[] = "attn feed";

struct feed_options {
    const char *endpoint, *config, *name;
    double timeout, retry;
    bool local, resume, keep, past_credit, verify, json;
};

#define PLACE(field) offsetof(struct feed_options, field)

static const struct command_option option_table[] = {
    {"--endpoint", "EP", OPTION_TEXT, PLACE(endpoint), 0, 0, false, "of the daemon (default: your own daemon)"},
    {"--local", NULL, OPTION_SWITCH, PLACE(local), 0, 0, false, "feed the daemon's engine inside this process instead"},
    {"--config", "FILE", OPTION_TEXT, PLACE(config), 0, 0, false, "YAML with the profiles of --local and --verify"},
    {"--name", "PREFIX", OPTION_TEXT, PLACE(name), 0, 0, false,
     "streams are PREFIX-0, PREFIX-1, ... (default: one of its own)"},
    {"--resume", NULL, OPTION_SWITCH, PLACE(resume), 0, 0, false, "go on with what a feed of that name and load left open"},
    {"--keep", NULL, OPTION_SWITCH, PLACE(keep), 0, 0, false, "leave the streams open"},
    {"--timeout", "SECONDS", OPTION_NUMBER, PLACE(timeout), 0.01, 1e6, false, "without an answer: the connection is lost (10)"},
    {"--retry", "SECONDS", OPTION_NUMBER, PLACE(retry), 0, 1e6, false,
     "to try to connect again and take the streams over (30)"},
    {"--past-credit", NULL, OPTION_SWITCH, PLACE(past_credit), 0, 0, false, "send more than the credit, to be refused"},
    {"--verify", NULL, OPTION_SWITCH, PLACE(verify), 0, 0, false, "compare with the profile in process and full attention"},
    {"--json", NULL, OPTION_SWITCH, PLACE(json), 0, 0, false, "one JSON object instead of lines of text"},
};

static const char HELP[] =
    "Feeds streams to a daemon: appends every token to all layers and attends. A token is one token of one stream through all\n"
    "its layers. Latency is of a message: from when it left, or with --rate should have left, to its answer. What is refused\n"
    "with BUSY is counted and sent again; a connection that is lost is made anew, and nothing is applied twice.\n"
    "--verify replays the same batches in process: \"verified\" are the tokens whose outputs have the same bits in every "
    "layer\n"
    "(by fingerprints of 64 bits), the warm-up has none; \"error_mean\", \"error_max\" are |out - full| / |full| against full "
    "attention in float64, "
    "on\n"
    "\"error_tokens\" tokens, as many of the second halves of the streams as take a few seconds.";

static int check(const struct feed_options *o, const struct load_options *load)
{
    if (o->local && o->endpoint)
        return command_usage(WHO, "--local and --endpoint exclude each other");
    if (o->local && (o->resume || o->keep || o->past_credit))
        return command_usage(WHO, "--resume, --keep and --past-credit need a daemon, and --local has none");
    if (o->local && load->connections > 1)
        return command_usage(WHO, "--connections go to a daemon, and --local has none");
    if (o->config && !o->local && !o->verify)
        return command_usage(WHO, "--config is for --local and --verify");
    if (o->resume && !o->name)
        return command_usage(WHO, "--resume needs the --name of what is open");
    if (o->name &&
        (!*o->name || strspn(o->name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") != strlen(o->name) ||
         strlen(o->name) > 55))
        return command_usage(WHO, "--name must be 1 to 55 of A-Za-z0-9._-, not '%s'", o->name);
    return COMMAND_GO_ON;
}

static json_t *real_or_null(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static double rate_of(const struct feed_result *r)
{
    return r->seconds > 0 ? (double)r->measured / r->seconds : NAN;
}

static int print_json(const struct feed_result *r, const struct verdict *v)
{
    json_t *latency = json_pack("{s:o, s:o, s:o}", "p50", real_or_null(latency_quantile(&r->latency, 0.5)), "p99",
                                real_or_null(latency_quantile(&r->latency, 0.99)), "p999",
                                real_or_null(latency_quantile(&r->latency, 0.999)));
    return command_print_json(
        WHO, json_pack("{s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:f}", "tokens", (json_int_t)r->tokens,
                       "acknowledged", (json_int_t)r->acknowledged, "resent", (json_int_t)r->resent, "busy",
                       (json_int_t)r->busy, "tokens_per_second", real_or_null(rate_of(r)), "latency_seconds", latency,
                       "verified", v ? json_integer((json_int_t)v->verified) : json_null(), "error_mean",
                       real_or_null(v ? v->error_mean : NAN), "error_max", real_or_null(v ? v->error_max : NAN), "error_tokens",
                       v ? json_integer((json_int_t)v->sampled) : json_null(), "reconnects", (json_int_t)r->reconnects,
                       "seconds", r->seconds));
}

static int print_text(const struct feed_result *r, const struct verdict *v)
{
    printf("tokens        %llu, %llu acknowledged, %llu sent again\n", (unsigned long long)r->tokens,
           (unsigned long long)r->acknowledged, (unsigned long long)r->resent);
    printf("refusals      %llu busy; %llu connections made anew\n", (unsigned long long)r->busy,
           (unsigned long long)r->reconnects);
    printf("rate          %.1f tokens/s over %.3f s\n", rate_of(r), r->seconds);
    printf("latency       %.1f us p50, %.1f us p99, %.1f us p99.9\n", latency_quantile(&r->latency, 0.5) * 1e6,
           latency_quantile(&r->latency, 0.99) * 1e6, latency_quantile(&r->latency, 0.999) * 1e6);
    if (v)
        printf("verified      %llu tokens bit-equal; error %.3g mean, %.3g max (%llu tokens)\n",
               (unsigned long long)v->verified, v->error_mean, v->error_max, (unsigned long long)v->sampled);
    return fflush(stdout) == 0 ? COMMAND_DONE : COMMAND_FAILED;
}

static int feed(const struct feed_options *o, const struct load *load)
{
    struct fault fault = {0};
    struct witness witness = {0};
    struct verdict verdict = {.error_mean = NAN, .error_max = NAN};
    struct feed_result *result = calloc(1, sizeof *result);
    atomic_bool stop = false;
    char own[CONTROL_NAME_BYTES];
    snprintf(own, sizeof own, "feed-%ld-%llx", (long)getpid(), (unsigned long long)clock_ns());
    struct feed_target target = {
        .local = o->local, .endpoint = o->endpoint, .config = o->config, .keep = o->keep, .past_credit = o->past_credit};
    target.line = (struct line_options){.who = WHO,
                                        .prefix = o->name ? o->name : own,
                                        .resume = o->resume,
                                        .timeout = o->timeout,
                                        .retry = o->retry,
                                        .sink = o->verify ? witness_note : NULL,
                                        .sink_context = &witness,
                                        .stop = &stop};
    int err = result ? 0 : fault_set(&fault, ERR_NO_MEMORY, "no memory for the results");
    if (!err && o->verify)
        err = witness_create(&witness, load, &fault);
    if (!err)
        err = feed_run(result, load, &target, &fault);
    if (!err && o->verify && !command_interrupted())
        err = verify_bits(&verdict, &witness, WHO, o->config, result->isa, &fault);
    if (!err && o->verify && !command_interrupted())
        err = verify_errors(&verdict, &witness, &fault);
    int code = COMMAND_DONE;
    if (result && (!err || result->acknowledged > 0))
        code = (o->json ? print_json : print_text)(result, o->verify && !err && !command_interrupted() ? &verdict : NULL);
    if (err || command_interrupted())
        code = command_failed(WHO, &fault);
    witness_free(&witness);
    free(result);
    return code;
}

int command_feed(int argc, char **argv)
{
    struct feed_options o = {.timeout = 10, .retry = 30};
    struct load_options load_options = load_defaults;
    struct load load = {0};
    const struct option_group groups[] = {{option_table, sizeof option_table / sizeof *option_table, &o},
                                          {load_option_table, n_load_options, &load_options}};
    int code = command_parse(WHO, HELP, groups, 2, argc, argv);
    if (code == COMMAND_GO_ON)
        code = check(&o, &load_options);
    if (code == COMMAND_GO_ON)
        code = load_create(&load, WHO, &load_options);
    if (code == COMMAND_GO_ON) {
        command_catch_interrupt();
        code = feed(&o, &load);
    }
    load_free(&load);
    return code;
}
