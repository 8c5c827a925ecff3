/* attn bench soak: many connections and streams at their budget, fed for a long time: what a daemon must not lose on the way.
 *
 * Every connection writes its share of the streams, under a window that is full before anything is measured. Then connections take
 * turns in groups, each with one message under way that brings all its streams one token. The time is cut into equal intervals; of each
 * are told the rate, the round trips' quantiles, and at its end the daemon's resident memory and open descriptors. */
#include "base/clock.h"
#include "client/attnd_client.h"
#include "stats/histogram.h"
#include "tools/bench/bench.h"
#include "tools/bench/server.h"
#include "tools/bench/subject.h"
#include "tools/command.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zmq.h>

static const char who[] = "attn bench soak";

enum { INTERVALS = 5, FILL = 16 /* tokens a part, until the windows are full */ };

struct options {
    uint64_t connections, streams, group, heads, dim, held;
    double seconds;
    bool json;
};

#define PLACE(field) offsetof(struct options, field)

static const struct command_option option_table[] = {
    {"--connections", "N", OPTION_COUNT, PLACE(connections), 1, 10000, false, "(1000)"},
    {"--streams", "N", OPTION_COUNT, PLACE(streams), 1, 16384, false, "of all connections together (10000)"},
    {"--group", "N", OPTION_COUNT, PLACE(group), 1, 1000, false, "connections that have a message under way at once (32)"},
    {"--heads", "N", OPTION_COUNT, PLACE(heads), 1, 64, false, "of a stream (2)"},
    {"--dim", "N", OPTION_COUNT, PLACE(dim), 1, 256, false, "of a head (32)"},
    {"--held", "N", OPTION_COUNT, PLACE(held), 1, 1 << 20, false, "tokens that a stream's window holds (64)"},
    {"--seconds", "S", OPTION_NUMBER, PLACE(seconds), 0.01, 1e6, false, "of feed once every window is full (300)"},
    {"--json", NULL, OPTION_SWITCH, PLACE(json), 0, 0, false, "one JSON object per interval, and one for all"},
};

struct soak {
    const struct options *o;
    char folder[64];
    struct server server;
    void *context;
    struct attnd_client **client; /* (connections) */
    struct attnd_stream *stream;  /* (streams): connection i writes those from first_of(i) on */
    struct attnd_part *part;      /* (streams) */
    uint64_t *ticket;             /* (connections) */
    float *numbers, *out;         /* of FILL tokens; all parts write to the same place, nobody looks */
};

/* What the daemon takes. */
struct taken {
    double resident; /* bytes */
    size_t descriptors;
};

static size_t first_of(const struct soak *s, size_t connection)
{
    return connection * s->o->streams / s->o->connections;
}

/* ------------------------------------------------------------------ the daemon, from outside */

static int look(const struct soak *s, struct taken *taken, struct fault *fault)
{
    char path[64];
    unsigned long long size, resident = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)s->server.child.pid);
    FILE *file = fopen(path, "r");
    int n = file ? fscanf(file, "%llu %llu", &size, &resident) : 0;
    if (file)
        fclose(file);
    snprintf(path, sizeof path, "/proc/%d/fd", (int)s->server.child.pid);
    DIR *folder = opendir(path);
    if (n != 2 || !folder) {
        if (folder)
            closedir(folder);
        return fault_set(fault, ERR_IO, "the daemon's /proc files: %s", strerror(errno));
    }
    taken->resident = (double)resident * (double)sysconf(_SC_PAGESIZE);
    taken->descriptors = 0;
    for (const struct dirent *entry; (entry = readdir(folder));)
        taken->descriptors += entry->d_name[0] != '.';
    closedir(folder);
    return 0;
}

/* ------------------------------------------------------------------ feeding */

/* One message of each connection of a group, n tokens for each of its streams, all under way at once. */
static int feed_group(struct soak *s, size_t from, size_t to, uint32_t n_tokens, struct histogram *latency, struct fault *fault)
{
    uint64_t begin = clock_ns();
    int err = 0;
    for (size_t i = from; i < to && !err; i++) {
        for (size_t p = first_of(s, i); p < first_of(s, i + 1); p++)
            s->part[p].n_tokens = n_tokens;
        err = attnd_send(s->client[i], 0, &s->part[first_of(s, i)], first_of(s, i + 1) - first_of(s, i), &s->ticket[i], fault);
    }
    for (size_t i = from; i < to && !err; i++) {
        err = attnd_wait(s->client[i], s->ticket[i], fault);
        if (latency)
            histogram_add(latency, clock_ns() - begin);
        for (size_t p = first_of(s, i); p < first_of(s, i + 1) && !err; p++)
            if (s->part[p].fault.err) {
                *fault = s->part[p].fault;
                err = fault->err;
            }
    }
    return err;
}

/* One message of every connection in turn, from *at on, until the time is up. */
static int feed_for(struct soak *s, double seconds, size_t *at, struct histogram *latency, double *tokens_per_s,
                    struct fault *fault)
{
    double begin = clock_seconds(), now = begin;
    size_t n = 0;
    int err = 0;
    for (; now - begin < seconds && !err; now = clock_seconds()) {
        size_t to = *at + s->o->group < s->o->connections ? *at + s->o->group : s->o->connections;
        err = command_interrupted() ? fault_set(fault, ERR_IO, "interrupted") : feed_group(s, *at, to, 1, latency, fault);
        n += first_of(s, to) - first_of(s, *at);
        *at = to == s->o->connections ? 0 : to;
    }
    *tokens_per_s = (double)n / (now - begin);
    return err;
}

static int fill(struct soak *s, struct fault *fault)
{
    int err = 0;
    for (uint64_t held = 0; held < s->o->held + s->o->held / 2 + FILL + FILL && !err; held += FILL)
        for (size_t i = 0; i < s->o->connections && !err; i += s->o->group) {
            size_t to = i + s->o->group < s->o->connections ? i + s->o->group : s->o->connections;
            err = command_interrupted() ? fault_set(fault, ERR_IO, "interrupted") : feed_group(s, i, to, FILL, NULL, fault);
        }
    return err;
}

/* ------------------------------------------------------------------ measuring */

static int print_interval(const struct soak *s, size_t i, double seconds, double tokens_per_s, const struct histogram *latency,
                          const struct taken *taken)
{
    double p50 = histogram_quantile(latency, 0.5), p99 = histogram_quantile(latency, 0.99);
    if (s->o->json)
        return command_print_json(who, json_pack("{ss si sf sf sf sf sf sI}", "measures", "interval", "interval", (int)i + 1,
                                                 "seconds", seconds, "tokens_per_second", tokens_per_s, "seconds_p50", p50,
                                                 "seconds_p99", p99, "resident_bytes", taken->resident, "descriptors",
                                                 (json_int_t)taken->descriptors));
    printf("%8.1f s: %9.0f tokens/s   p50 %8.2f ms   p99 %8.2f ms   %8.1f MB resident   %zu descriptors\n",
           seconds * (double)(i + 1), tokens_per_s, p50 * 1e3, p99 * 1e3, taken->resident * 1e-6, taken->descriptors);
    fflush(stdout);
    return 0;
}

static int print_all(const struct soak *s, double growth, long descriptors, double ratio)
{
    if (s->o->json)
        return command_print_json(who, json_pack("{ss sI sI sI sI sI sf sI sf}", "measures", "soak", "connections",
                                                 (json_int_t)s->o->connections, "streams", (json_int_t)s->o->streams, "heads",
                                                 (json_int_t)s->o->heads, "key_dim", (json_int_t)s->o->dim, "tokens_held",
                                                 (json_int_t)s->o->held, "resident_growth", growth, "descriptors_growth",
                                                 (json_int_t)descriptors, "ratio_p99", ratio));
    printf("%zu connections, %zu streams of %zu heads, d = %zu, a window of %zu tokens: resident memory %+.2f %% at most, "
           "descriptors "
           "%+ld, p99 of the last interval to that of the first %.2f\n",
           (size_t)s->o->connections, (size_t)s->o->streams, (size_t)s->o->heads, (size_t)s->o->dim, (size_t)s->o->held,
           growth * 100, descriptors, ratio);
    return 0;
}

static int measure(struct soak *s, struct fault *fault)
{
    struct taken first, now;
    double growth = 0, tokens_per_s, p99[INTERVALS] = {0}, seconds = s->o->seconds / INTERVALS;
    size_t at = 0;
    int err = fill(s, fault);
    if (!err)
        err =
            feed_for(s, 0.1 * s->o->seconds, &at, NULL, &tokens_per_s, fault); /* until what is used again and again is there */
    if (!err)
        err = look(s, &first, fault);
    for (size_t i = 0; i < INTERVALS && !err; i++) {
        struct histogram latency = {0};
        err = feed_for(s, seconds, &at, &latency, &tokens_per_s, fault);
        if (!err)
            err = look(s, &now, fault);
        if (!err && print_interval(s, i, seconds, tokens_per_s, &latency, &now))
            err = fault_set(fault, ERR_IO, "printing");
        p99[i] = histogram_quantile(&latency, 0.99);
        growth = !err && now.resident / first.resident - 1 > growth ? now.resident / first.resident - 1 : growth;
    }
    if (!err && print_all(s, growth, (long)now.descriptors - (long)first.descriptors, p99[INTERVALS - 1] / p99[0]))
        err = fault_set(fault, ERR_IO, "printing");
    return err;
}

/* ------------------------------------------------------------------ the whole */

static int open_streams(struct soak *s, size_t connection, const struct shape *shape, struct fault *fault)
{
    int err = 0;
    for (size_t i = first_of(s, connection); i < first_of(s, connection + 1) && !err; i++) {
        char name[32];
        snprintf(name, sizeof name, "soak-%zu", i);
        err = attnd_open(s->client[connection], name, shape, "bench", false, &s->stream[i], fault);
        s->part[i] = (struct attnd_part){.stream = &s->stream[i],
                                         .flags = WIRE_APPEND | WIRE_ATTEND,
                                         .q = s->numbers,
                                         .key = {s->numbers},
                                         .value = {s->numbers},
                                         .out = s->out};
    }
    return err;
}

/* This process has a few descriptors for each connection too. */
static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int soak_start(struct soak *s, struct fault *fault)
{
    const struct options *o = s->o;
    size_t width = FILL * o->heads * o->dim;
    struct shape *shape = server_shape(o->heads, o->dim);
    s->client = calloc(o->connections, sizeof *s->client);
    s->ticket = calloc(o->connections, sizeof *s->ticket);
    s->stream = calloc(o->streams, sizeof *s->stream);
    s->part = calloc(o->streams, sizeof *s->part);
    s->numbers = malloc(width * sizeof *s->numbers);
    s->out = malloc(width * sizeof *s->out);
    s->context = zmq_ctx_new();
    int err = 0;
    if (!shape || !s->client || !s->ticket || !s->stream || !s->part || !s->numbers || !s->out || !s->context)
        err = fault_set(fault, ERR_NO_MEMORY, "%zu streams", (size_t)o->streams);
    else if (zmq_ctx_set(s->context, ZMQ_MAX_SOCKETS, (int)o->connections + 8))
        err = fault_set(fault, ERR_IO, "%zu sockets: %s", (size_t)o->connections, zmq_strerror(errno));
    if (!err) {
        subject_fill(s->numbers, width);
        err = server_start(&s->server, "ipc", s->folder, o->held, fault);
    }
    for (size_t i = 0; i < o->connections && !err; i++) {
        err = attnd_connect(&s->client[i], s->server.ingest, s->context, fault);
        if (!err)
            err = open_streams(s, i, shape, fault);
    }
    free(shape);
    return err;
}

static void soak_stop(struct soak *s)
{
    static const char *const left[] = {"ingest.sock", "outputs.sock", "telemetry.sock"};
    struct fault ignored;
    for (size_t i = 0; s->client && i < s->o->connections; i++)
        if (s->client[i]) {
            for (size_t p = first_of(s, i); p < first_of(s, i + 1); p++)
                if (s->stream[p].shape)
                    attnd_close(s->client[i], &s->stream[p], NULL, &ignored);
            attnd_disconnect(s->client[i]);
        }
    server_stop(&s->server);
    if (s->context)
        zmq_ctx_term(s->context);
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", s->folder, left[i]);
        unlink(path);
    }
    rmdir(s->folder);
    free(s->client);
    free(s->ticket);
    free(s->stream);
    free(s->part);
    free(s->numbers);
    free(s->out);
}

int bench_soak(int argc, char **argv)
{
    struct options o = {.connections = 1000, .streams = 10000, .group = 32, .heads = 2, .dim = 32, .held = 64, .seconds = 300};
    struct option_group group = {option_table, sizeof option_table / sizeof *option_table, &o};
    int code = command_parse(who, "Many connections and streams at their budget, fed for a long time.", &group, 1, argc, argv);
    if (code != COMMAND_GO_ON)
        return code;
    if (o.streams < o.connections)
        return command_usage(who, "--streams must be at least --connections (%zu), not %zu", (size_t)o.connections,
                             (size_t)o.streams);
    struct fault fault = {0};
    struct soak s = {.o = &o};
    snprintf(s.folder, sizeof s.folder, "/tmp/attn-bench-XXXXXX");
    struct sigaction before, ignore = {.sa_handler = SIG_IGN};
    command_catch_interrupt();
    sigaction(SIGPIPE, &ignore, &before);
    raise_descriptors();
    int err = mkdtemp(s.folder) ? soak_start(&s, &fault) : fault_set(&fault, ERR_IO, "%s: %s", s.folder, strerror(errno));
    if (!err)
        err = measure(&s, &fault);
    soak_stop(&s);
    sigaction(SIGPIPE, &before, NULL);
    return err ? command_failed(who, &fault) : COMMAND_DONE;
}
