#include "tools/feed/run.h"

#include "tools/command.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { PROGRESS_NS = 100000000 };

struct runner {
    struct line line;
    uint64_t limit;
    double rate;
    struct carrier *carrier;
    pthread_t thread;
    bool started;
    atomic_bool done;
    int err;
    struct fault fault;
    atomic_bool *stop;
};

/* Looking for answers costs a core, which the others need when there are many connections. */
static double spin_of(const struct load *load)
{
    return (double)load->n_connections * 2 > (double)sysconf(_SC_NPROCESSORS_ONLN) ? 0 : 50e-6;
}

/* Each connection takes some descriptors, and shells allow few. */
static void allow_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int prepare(struct runner *r, const struct load *load, const struct feed_target *target, size_t i, struct fault *fault)
{
    r->stop = target->line.stop;
    int err = target->local ? carrier_local_create(&r->carrier, target->config, NULL, fault)
                            : carrier_remote_create(&r->carrier, target->endpoint, target->past_credit, spin_of(load),
                                                    target->line.timeout, fault);
    if (!err)
        err = line_create(&r->line, load, &target->line, r->carrier, i, load->n_connections, fault);
    return err ? err : line_open(&r->line, fault);
}

static void *run_line(void *context)
{
    struct runner *r = context;
    r->err = line_run(&r->line, r->limit, r->rate, &r->fault);
    if (r->err)
        atomic_store(r->stop, true);
    atomic_store(&r->done, true);
    return NULL;
}

/* Until all are done. Tokens of single layers, as they are answered. */
static void watch(struct runner *runners, const struct load *load, atomic_bool *stop)
{
    const struct timespec pause = {.tv_nsec = PROGRESS_NS / 10};
    size_t total = load->n_streams * load->n_tokens, turns = 0;
    for (bool all = false; !all;) {
        uint64_t answered = 0;
        all = true;
        for (size_t i = 0; i < load->n_connections; i++) {
            all = all && (!runners[i].started || atomic_load(&runners[i].done));
            answered += atomic_load(&runners[i].line.progress);
        }
        if (command_interrupted())
            atomic_store(stop, true);
        if (turns++ % 10 == 0 && answered / load->shape.n_layers < total)
            command_progress("tokens fed", answered / load->shape.n_layers, total);
        if (!all)
            nanosleep(&pause, NULL);
    }
    command_progress("", 1, 1);
}

static void sum_up(struct feed_result *result, const struct runner *runners, size_t n, size_t n_layers)
{
    double begin = 0, end = 0;
    for (size_t i = 0; i < n; i++) {
        const struct line *line = &runners[i].line;
        uint64_t sent, answered;
        line_tokens(line, &sent, &answered);
        result->tokens += sent;
        result->acknowledged += answered;
        result->resent += line->resent;
        result->busy += line->busy;
        result->reconnects += line->reconnects;
        begin = i == 0 || line->begin < begin ? line->begin : begin;
        end = line->end > end ? line->end : end;
        latency_merge(&result->latency, &line->latency);
    }
    result->resent = (result->resent + n_layers - 1) / n_layers;
    result->seconds = end - begin;
}

/* Every line up to this token of its streams. */
static int run_lines(struct runner *runners, const struct load *load, const struct feed_target *target, uint64_t limit,
                     double rate, struct fault *fault)
{
    size_t n = load->n_connections;
    int err = 0;
    for (size_t i = 0; i < n && !err; i++) {
        struct runner *r = &runners[i];
        r->limit = limit;
        r->rate = rate / (double)n;
        atomic_store(&r->done, false);
        r->started = pthread_create(&r->thread, NULL, run_line, r) == 0;
        if (!r->started) {
            atomic_store(target->line.stop, true);
            err = fault_set(fault, ERR_NO_MEMORY, "no thread for a connection");
        }
    }
    watch(runners, load, target->line.stop);
    for (size_t i = 0; i < n; i++) {
        struct runner *r = &runners[i];
        if (r->started)
            pthread_join(r->thread, NULL);
        r->started = false;
        if (r->err && !err) {
            err = r->err;
            *fault = r->fault;
        }
    }
    return err;
}

static int finish(struct runner *r, bool keep, struct fault *fault)
{
    int err = r->line.load ? line_close(&r->line, keep, fault) : 0;
    if (r->line.load)
        line_destroy(&r->line);
    if (r->carrier)
        r->carrier->ops->destroy(r->carrier);
    return err;
}

static uint64_t answered_by(const struct runner *runners, size_t n)
{
    uint64_t sent, answered, all = 0;
    for (size_t i = 0; i < n; i++) {
        line_tokens(&runners[i].line, &sent, &answered);
        all += answered;
    }
    return all;
}

int feed_run(struct feed_result *result, const struct load *load, const struct feed_target *target, struct fault *fault)
{
    size_t n = load->n_connections, n_ready = 0;
    uint64_t before = 0;
    struct runner *runners = calloc(n, sizeof *runners);
    int err = runners ? 0 : fault_set(fault, ERR_NO_MEMORY, "no memory for %zu connections", n);
    memset(result, 0, sizeof *result);
    allow_descriptors();
    for (; n_ready < n && !err; n_ready++)
        err = prepare(&runners[n_ready], load, target, n_ready, fault);
    bool ready = !err;
    if (ready && load->warm_up) {
        err = run_lines(runners, load, target, load->warm_up, 0, fault);
        before = answered_by(runners, n);
    }
    if (!err)
        err = run_lines(runners, load, target, load->n_tokens, load->rate, fault);
    if (ready) {
        sum_up(result, runners, n, load->shape.n_layers);
        result->measured = result->acknowledged - before;
        memcpy(result->isa, runners[0].carrier->isa, sizeof result->isa);
    }
    for (size_t i = 0; i < n_ready; i++) {
        struct fault why;
        int failed = finish(&runners[i], target->keep || (!ready && target->line.resume), &why);
        if (failed && !err) {
            err = failed;
            *fault = why;
        }
    }
    free(runners);
    return err;
}
