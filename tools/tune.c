/* attn tune: which pools and threads serve a load best. Every layout is loaded into the running daemon (attn reload) and fed the load
 * (attn feed), round after round, so that layouts are compared in pairs; the best one is written back as YAML, with what was measured
 * as comments. The daemon is left as the configuration says. */
#include "base/clock.h"
#include "tools/feed/run.h"
#include "tools/file.h"
#include "tools/tune/layout.h"
#include "tools/tune/paired.h"
#include "tools/tune/rewrite.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char WHO[] = "attn tune";

enum { ROUNDS_MAX = 100, CPUS_MAX = 1024 };

struct options {
    const char *endpoint, *config, *out, *layouts;
    uint64_t rounds;
    bool json;
};

#define PLACE(field) offsetof(struct options, field)

static const struct command_option option_table[] = {
    {"--endpoint", "EP", OPTION_TEXT, PLACE(endpoint), 0, 0, false, "of the daemon (default: your own daemon)"},
    {"--config", "FILE", OPTION_TEXT, PLACE(config), 0, 0, true, "the daemon's YAML, whose pools are tuned"},
    {"--out", "FILE", OPTION_TEXT, PLACE(out), 0, 0, true, "where the YAML with the best pools goes"},
    {"--layouts", "PxT[p],...", OPTION_TEXT, PLACE(layouts), 0, 0, false,
     "pools x threads, p: pinned (default: what is worth trying on this machine's CPUs)"},
    {"--rounds", "N", OPTION_COUNT, PLACE(rounds), 2, ROUNDS_MAX, false, "that every layout is fed the load (7)"},
    {"--json", NULL, OPTION_SWITCH, PLACE(json), 0, 0, false, "one JSON object instead of a table"},
};

/* One layout and its rounds. */
struct contestant {
    struct layout layout;
    char name[LAYOUT_TEXT_BYTES];
    char *pools; /* YAML */
    double rate[ROUNDS_MAX], p99[ROUNDS_MAX];
    struct paired to_best; /* its rates over the best one's */
};

struct contest {
    const struct options *options;
    const struct load *load;
    char *text; /* of the configuration */
    struct attnd_client *client;
    struct contestant *contestant; /* (n) */
    size_t n, n_rounds, best;
    int cpu[CPUS_MAX];
    size_t n_cpus;
};

/* ------------------------------------------------------------------ before */

static void find_cpus(struct contest *c)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (int i = 0; i < CPU_SETSIZE && c->n_cpus < CPUS_MAX; i++)
            if (CPU_ISSET((size_t)i, &set))
                c->cpu[c->n_cpus++] = i;
    if (!c->n_cpus)
        c->n_cpus = 1;
}

static int line_up(struct contest *c, struct fault *fault)
{
    struct layout layouts[LAYOUTS_MAX];
    find_cpus(c);
    c->n = c->options->layouts ? layouts_parse(c->options->layouts, layouts) : layouts_for(c->n_cpus, layouts);
    c->contestant = calloc(c->n, sizeof *c->contestant);
    if (!c->contestant)
        return fault_set(fault, ERR_NO_MEMORY, "%zu layouts", c->n);
    for (size_t i = 0; i < c->n; i++) {
        struct contestant *x = &c->contestant[i];
        x->layout = layouts[i];
        layout_print(&x->layout, x->name);
        x->pools = layout_yaml(&x->layout, c->cpu, c->n_cpus);
        if (!x->pools)
            return fault_set(fault, ERR_NO_MEMORY, "layout %s", x->name);
    }
    return 0;
}

/* ------------------------------------------------------------------ rounds */

/* pools NULL: as the configuration says. */
static int load_pools(struct contest *c, const char *pools, struct fault *fault)
{
    struct control_reload answer;
    char *text = NULL;
    int err = pools ? rewrite_pools(&text, c->options->config, c->text, pools, fault) : 0;
    if (!err)
        err = attnd_reload(c->client, text ? text : c->text, c->options->config, &answer, fault);
    free(text);
    return err;
}

static int feed_once(struct contest *c, struct contestant *x, size_t round, struct fault *fault)
{
    struct feed_result *result = calloc(1, sizeof *result);
    atomic_bool stop = false;
    char prefix[CONTROL_NAME_BYTES];
    if (!result)
        return fault_set(fault, ERR_NO_MEMORY, "the results");
    snprintf(prefix, sizeof prefix, "tune-%ld-%llx", (long)getpid(), (unsigned long long)clock_ns());
    const struct feed_target target = {
        .endpoint = c->options->endpoint,
        .line = {.who = WHO, .prefix = prefix, .timeout = 30, .retry = 30, .stop = &stop},
    };
    int err = load_pools(c, x->pools, fault);
    if (!err)
        err = feed_run(result, c->load, &target, fault);
    if (!err && !(result->seconds > 0 && result->measured))
        err = fault_set(fault, ERR_INVALID, "the load is over before it can be measured: feed more tokens");
    if (!err) {
        x->rate[round] = (double)result->measured / result->seconds;
        x->p99[round] = latency_quantile(&result->latency, 0.99);
    }
    free(result);
    return err;
}

/* Every layout once a round, each round beginning with another, after one that is not counted. */
static int run_rounds(struct contest *c, struct fault *fault)
{
    int err = feed_once(c, &c->contestant[0], 0, fault);
    for (size_t r = 0; r < c->options->rounds && !err && !command_interrupted(); r++) {
        for (size_t i = 0; i < c->n && !err && !command_interrupted(); i++) {
            command_progress("layouts fed", r * c->n + i, (size_t)c->options->rounds * c->n);
            err = feed_once(c, &c->contestant[(r + i) % c->n], r, fault);
        }
        if (!err && !command_interrupted())
            c->n_rounds = r + 1;
    }
    command_progress("", 1, 1);
    struct fault other = {0};
    int left = load_pools(c, NULL, &other); /* whatever happened */
    if (left && !err) {
        *fault = other;
        err = left;
    }
    return err;
}

static double rate_of(const struct contest *c, size_t i)
{
    return geometric_mean(c->contestant[i].rate, c->n_rounds);
}

static void judge(struct contest *c)
{
    for (size_t i = 1; i < c->n; i++)
        if (rate_of(c, i) > rate_of(c, c->best))
            c->best = i;
    for (size_t i = 0; i < c->n; i++)
        c->contestant[i].to_best = paired_compare(c->contestant[i].rate, c->contestant[c->best].rate, c->n_rounds);
}

/* ------------------------------------------------------------------ what came of it */

static void print_rows(const struct contest *c, FILE *out, const char *before)
{
    fprintf(out, "%slayout   tokens/s     p99  of the best, and 95 %% interval\n", before);
    for (size_t i = 0; i < c->n; i++) {
        const struct contestant *x = &c->contestant[i];
        fprintf(out, "%s%-7s %9.1f %5.2f ms  %.3f (%.3f to %.3f)%s\n", before, x->name, rate_of(c, i),
                geometric_mean(x->p99, c->n_rounds) * 1e3, x->to_best.ratio, x->to_best.low, x->to_best.high,
                i == c->best ? "  best" : "");
    }
}

static int write_best(const struct contest *c, struct fault *fault)
{
    char *pools = NULL, *text = NULL;
    size_t size = 0;
    FILE *section = open_memstream(&pools, &size);
    if (!section)
        return fault_set(fault, ERR_NO_MEMORY, "%s", c->options->out);
    fprintf(section,
            "# Chosen by attn tune: %s (pools x threads, p: pinned), %zu rounds, profile %s, %zu streams on %zu connections.\n",
            c->contestant[c->best].name, c->n_rounds, c->load->profile, c->load->n_streams, c->load->n_connections);
    print_rows(c, section, "#   ");
    fputs(c->contestant[c->best].pools, section);
    int err = fclose(section) ? fault_set(fault, ERR_NO_MEMORY, "%s", c->options->out)
                              : rewrite_pools(&text, c->options->config, c->text, pools, fault);
    FILE *out = err ? NULL : fopen(c->options->out, "w");
    if (!err && (!out || fputs(text, out) == EOF || fflush(out)))
        err = fault_set(fault, ERR_IO, "%s: %s", c->options->out, strerror(errno));
    if (out && fclose(out) && !err)
        err = fault_set(fault, ERR_IO, "%s: %s", c->options->out, strerror(errno));
    free(pools);
    free(text);
    return err;
}

static json_t *layout_json(const struct contest *c, size_t i)
{
    const struct contestant *x = &c->contestant[i];
    return json_pack("{s:s, s:i, s:i, s:b, s:f, s:f, s:f, s:f, s:f}", "layout", x->name, "pools", (int)x->layout.pools,
                     "threads", (int)x->layout.threads, "pinned", (int)x->layout.pinned, "tokens_per_second", rate_of(c, i),
                     "p99_seconds", geometric_mean(x->p99, c->n_rounds), "ratio_to_best", x->to_best.ratio, "ratio_low",
                     x->to_best.low, "ratio_high", x->to_best.high);
}

static int show(const struct contest *c)
{
    if (c->options->json) {
        json_t *layouts = json_array();
        for (size_t i = 0; i < c->n; i++)
            json_array_append_new(layouts, layout_json(c, i));
        return command_print_json(WHO, json_pack("{s:s, s:I, s:s, s:o}", "best", c->contestant[c->best].name, "rounds",
                                                 (json_int_t)c->n_rounds, "out", c->options->out, "layouts", layouts));
    }
    print_rows(c, stdout, "");
    printf("%s: the best pools; attn reload --config %s takes them\n", c->options->out, c->options->out);
    return fflush(stdout) == 0 ? COMMAND_DONE : COMMAND_FAILED;
}

static int tune(const struct options *options, const struct load *load)
{
    struct contest c = {.options = options, .load = load};
    struct fault fault = {0};
    int err = file_read_config(options->config, &c.text, &fault);
    if (!err)
        err = line_up(&c, &fault);
    if (!err)
        err = attnd_connect(&c.client, options->endpoint, NULL, &fault);
    if (!err)
        err = run_rounds(&c, &fault);
    attnd_disconnect(c.client);
    bool judged = !err && c.n_rounds >= 2;
    if (judged) {
        judge(&c);
        err = write_best(&c, &fault);
    }
    int code = !err && judged ? show(&c) : command_failed(WHO, &fault);
    for (size_t i = 0; c.contestant && i < c.n; i++)
        free(c.contestant[i].pools);
    free(c.contestant);
    free(c.text);
    return code;
}

int command_tune(int argc, char **argv)
{
    static const char help[] =
        "Finds the pools and threads that serve a load best: each layout is loaded into the running daemon and fed the load, "
        "once a\n"
        "round; rates are compared in pairs. Writes the configuration with the best pools, and the measurements as comments.";
    struct options o = {.rounds = 7};
    struct load_options load_options = load_defaults;
    struct load load = {0};
    struct layout ignored[LAYOUTS_MAX];
    const struct option_group groups[] = {{option_table, sizeof option_table / sizeof *option_table, &o},
                                          {load_option_table, n_load_options, &load_options}};
    int code = command_parse(WHO, help, groups, 2, argc, argv);
    if (code == COMMAND_GO_ON && o.layouts && layouts_parse(o.layouts, ignored) == 0)
        code = command_usage(WHO, "--layouts takes pools x threads like 1x2,2x1,1x2p, not '%s'", o.layouts);
    if (code == COMMAND_GO_ON)
        code = load_create(&load, WHO, &load_options);
    if (code == COMMAND_GO_ON) {
        command_catch_interrupt();
        code = tune(&o, &load);
    }
    load_free(&load);
    return code;
}
