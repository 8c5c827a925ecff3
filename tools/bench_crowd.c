/* attn bench crowd: many streams in one message, and one producer among peers that behave badly.
 *
 * Steps: every step brings each of N streams one token and is answered before the next: in one message of N parts, in N messages that are
 * all under way at once, and in N messages each of which is answered before the next is sent; in turns. Every head reads the rows of
 * its own cache in each of them, so the more tokens are held, the nearer they come to each other: --held 1 shows what messages cost.
 * Company: the round trips of one producer, alone and beside
 *     deaf      a subscriber to all outputs that reads nothing
 *     silent    a producer that confirms nothing, so that its replies are kept until its credit is used up, and then is refused
 *     garbage   a client that sends random bytes, some of them behind the magic number
 * The last two send as many messages a second as they are told to; what they cost beyond their share of the machine is what they do to
 * others. */
#include "base/clock.h"
#include "client/attnd_client.h"
#include "tools/bench/bench.h"
#include "tools/bench/server.h"
#include "tools/bench/subject.h"
#include "tools/bench/summary.h"
#include "tools/command.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

static const char who[] = "attn bench crowd";

enum { STREAMS_MAX = 256, SAMPLES_MAX = 1 << 20, GARBAGE_BYTES = 600, ROUNDS = 10, N_COMPANIES = 5, SLICES = 5 };

struct options {
    uint64_t streams, heads, dim, held, rate;
    double seconds;
    const char *only;
    bool json;
};

#define PLACE(field) offsetof(struct options, field)

static const struct command_option option_table[] = {
    {"--streams", "N", OPTION_COUNT, PLACE(streams), 1, STREAMS_MAX, false, "that one message carries (32)"},
    {"--heads", "N", OPTION_COUNT, PLACE(heads), 1, 64, false, "of a stream (8)"},
    {"--dim", "N", OPTION_COUNT, PLACE(dim), 1, 256, false, "of a head (64)"},
    {"--held", "N", OPTION_COUNT, PLACE(held), 1, 1 << 20, false, "tokens that a stream holds (128)"},
    {"--rate", "N", OPTION_COUNT, PLACE(rate), 1, 1000000, false, "messages a second of each bad peer (500)"},
    {"--seconds", "S", OPTION_NUMBER, PLACE(seconds), 0.01, 600, false, "of each measurement (5)"},
    {"--only", "NAME", OPTION_TEXT, PLACE(only), 0, 0, false, "steps or company"},
    {"--json", NULL, OPTION_SWITCH, PLACE(json), 0, 0, false, "one JSON object per line"},
};

struct crowd {
    const struct options *o;
    char folder[64], outputs[128];
    struct server server;
    struct attnd_client *client;
    struct attnd_stream stream[STREAMS_MAX];
    struct attnd_part part[STREAMS_MAX];
    size_t n_open;
    float *numbers, *out; /* of one token; (streams, heads, dim) */
    double *seconds;      /* (SAMPLES_MAX) */
};

/* ------------------------------------------------------------------ streams */

static int open_streams(struct crowd *c, struct fault *fault)
{
    struct shape *shape = server_shape(c->o->heads, c->o->dim);
    size_t width = c->o->heads * c->o->dim;
    int err = shape ? 0 : fault_set(fault, ERR_NO_MEMORY, "a shape");
    for (size_t i = 0; i < c->o->streams && !err; i++) {
        char name[32];
        snprintf(name, sizeof name, "crowd-%zu", i);
        err = attnd_open(c->client, name, shape, "bench", false, &c->stream[i], fault);
        c->n_open += !err;
        c->part[i] = (struct attnd_part){.stream = &c->stream[i],
                                         .n_tokens = 1,
                                         .flags = WIRE_APPEND | WIRE_ATTEND,
                                         .q = c->numbers,
                                         .key = {c->numbers},
                                         .value = {c->numbers},
                                         .out = c->out + i * width};
    }
    free(shape);
    return err;
}

static int step_together(struct crowd *c, struct fault *fault)
{
    return attnd_step(c->client, 0, c->part, c->o->streams, fault);
}

static int step_apart(struct crowd *c, struct fault *fault)
{
    uint64_t ticket[STREAMS_MAX];
    int err = 0;
    for (size_t i = 0; i < c->o->streams && !err; i++)
        err = attnd_send(c->client, 0, &c->part[i], 1, &ticket[i], fault);
    for (size_t i = 0; i < c->o->streams && !err; i++)
        err = attnd_wait(c->client, ticket[i], fault);
    return err;
}

static int step_one_by_one(struct crowd *c, struct fault *fault)
{
    int err = 0;
    for (size_t i = 0; i < c->o->streams && !err; i++)
        err = attnd_step(c->client, 0, &c->part[i], 1, fault);
    return err;
}

/* Steps a second. */
static int rate_of(struct crowd *c, int (*step)(struct crowd *c, struct fault *fault), double seconds, double *per_second,
                   struct fault *fault)
{
    double begin = clock_seconds(), now = begin;
    size_t n = 0;
    int err = 0;
    for (; now - begin < seconds && !err; now = clock_seconds(), n++)
        err = command_interrupted() ? fault_set(fault, ERR_IO, "interrupted") : step(c, fault);
    *per_second = (double)n / (now - begin);
    return err;
}

enum { TOGETHER, APART, ONE_BY_ONE, WAYS };

static int (*const ways[WAYS])(struct crowd *c, struct fault *fault) = {step_together, step_apart, step_one_by_one};

/* rate[w]: tokens a second of a way; times[w]: of the first to its, in the same round. */
static int print_steps(const struct options *o, const double rate[WAYS], const double times[WAYS], struct fault *fault)
{
    if (o->json)
        return command_print_json(who,
                                  json_pack("{ss sI sI sI sI sf sf sf sf sf}", "measures", "steps", "streams",
                                            (json_int_t)o->streams, "heads", (json_int_t)o->heads, "key_dim",
                                            (json_int_t)o->dim, "tokens_held", (json_int_t)o->held, "one_message_tokens_per_s",
                                            rate[TOGETHER], "messages_tokens_per_s", rate[APART], "ratio", times[APART],
                                            "one_by_one_tokens_per_s", rate[ONE_BY_ONE], "ratio_one_by_one", times[ONE_BY_ONE]))
                   ? fault_set(fault, ERR_IO, "printing")
                   : 0;
    printf("%zu streams of %zu heads, d = %zu, %zu tokens held, a token each:\n"
           "    in one message                            %9.0f tokens/s\n"
           "    in as many messages, all under way        %9.0f tokens/s, one message is %.2f times as fast\n"
           "    in as many messages, one after the other  %9.0f tokens/s, one message is %.2f times as fast\n",
           (size_t)o->streams, (size_t)o->heads, (size_t)o->dim, (size_t)o->held, rate[TOGETHER], rate[APART], times[APART],
           rate[ONE_BY_ONE], times[ONE_BY_ONE]);
    return 0;
}

static int measure_steps(struct crowd *c, struct fault *fault)
{
    double per_second[WAYS][ROUNDS], ratio[WAYS][ROUNDS], rate[WAYS], times[WAYS];
    int err = 0;
    for (uint64_t i = 0; i < c->o->held && !err; i++)
        err = step_together(c, fault);
    for (size_t r = 0; r < ROUNDS && !err; r++)
        for (size_t w = 0; w < WAYS && !err; w++) {
            err = rate_of(c, ways[w], c->o->seconds / ROUNDS, &per_second[w][r], fault);
            ratio[w][r] = err ? 0 : per_second[TOGETHER][r] / per_second[w][r];
        }
    for (size_t w = 0; w < WAYS && !err; w++) {
        rate[w] = median(per_second[w], ROUNDS) * (double)c->o->streams;
        times[w] = median(ratio[w], ROUNDS);
    }
    return err ? err : print_steps(c->o, rate, times, fault);
}

/* ------------------------------------------------------------------ company */

enum company { DEAF = 1, SILENT = 2, GARBAGE = 4 };

/* Peers that behave badly, on a thread of their own. */
struct peers {
    const struct crowd *crowd;
    unsigned company;
    pthread_t thread;
    atomic_bool stop;
    void *context, *garbage;
    struct attnd_client *silent;
    struct attnd_stream stream;
    struct attnd_subscriber *deaf;
    uint64_t random;
};

static uint64_t next_random(struct peers *p)
{
    p->random ^= p->random << 13;
    p->random ^= p->random >> 7;
    p->random ^= p->random << 17;
    return p->random;
}

static void send_garbage(struct peers *p)
{
    static const unsigned char magic[] = {'A', 'T', 'N', 'D', WIRE_VERSION, WIRE_REQUEST};
    unsigned char bytes[GARBAGE_BYTES];
    size_t n_frames = 1 + next_random(p) % 5;
    for (size_t f = 0; f < n_frames; f++) {
        size_t n = next_random(p) % sizeof bytes;
        for (size_t i = 0; i < n; i++)
            bytes[i] = (unsigned char)next_random(p);
        if (f == 0 && n > sizeof magic && next_random(p) % 2)
            memcpy(bytes, magic, sizeof magic);
        zmq_send(p->garbage, bytes, n, ZMQ_DONTWAIT | (f + 1 < n_frames ? ZMQ_SNDMORE : 0));
    }
    while (zmq_recv(p->garbage, bytes, sizeof bytes, ZMQ_DONTWAIT) >= 0)
        ;
}

/* A token that no message ever confirms: whatever the client has noted is taken back. */
static void send_silent(struct peers *p, struct attnd_part *part)
{
    struct fault fault;
    p->stream.confirmed[0] = 0;
    attnd_step(p->silent, 0, part, 1, &fault); /* refused as soon as the credit is used up */
}

static void *misbehave(void *context)
{
    struct peers *p = context;
    const struct crowd *c = p->crowd;
    struct attnd_part part = c->part[0];
    float *out = calloc(c->o->heads * c->o->dim, sizeof *out);
    double each = 1 / (double)c->o->rate, next = clock_seconds();
    part.stream = &p->stream;
    part.out = out;
    while (out && !atomic_load(&p->stop)) {
        double now = clock_seconds();
        if (now < next) {
            usleep((useconds_t)((next - now) * 1e6) + 1);
            continue;
        }
        next = now > next + 0.1 ? now : next + each; /* what it could not send in a tenth of a second it does not make up for */
        if (p->company & GARBAGE)
            send_garbage(p);
        if (p->company & SILENT)
            send_silent(p, &part);
    }
    free(out);
    return NULL;
}

static int peers_start(struct peers *p, const struct crowd *c, unsigned company, struct fault *fault)
{
    *p = (struct peers){.crowd = c, .company = company, .random = 88172645463325252u};
    struct shape *shape = server_shape(c->o->heads, c->o->dim);
    int err = shape ? 0 : fault_set(fault, ERR_NO_MEMORY, "a shape"), linger = 0;
    if (!err && company & DEAF)
        err = attnd_subscribe(&p->deaf, c->outputs, NULL, "out/", fault);
    if (!err && company & SILENT) {
        err = attnd_connect(&p->silent, c->server.ingest, NULL, fault);
        if (!err) {
            attnd_set_past_credit(p->silent, true);
            attnd_set_spin(p->silent, 0);
            err = attnd_open(p->silent, "silent", shape, "bench", false, &p->stream, fault);
        }
    }
    free(shape);
    if (!err && company & GARBAGE) {
        p->context = zmq_ctx_new();
        p->garbage = p->context ? zmq_socket(p->context, ZMQ_DEALER) : NULL;
        if (!p->garbage || zmq_setsockopt(p->garbage, ZMQ_LINGER, &linger, sizeof linger) ||
            zmq_connect(p->garbage, c->server.ingest))
            err = fault_set(fault, ERR_IO, "%s: %s", c->server.ingest, zmq_strerror(errno));
    }
    if (!err && pthread_create(&p->thread, NULL, misbehave, p))
        err = fault_set(fault, ERR_NO_MEMORY, "a thread");
    else if (!err)
        return 0;
    p->company = 0;
    return err;
}

static void peers_stop(struct peers *p)
{
    struct fault ignored;
    if (p->company) {
        atomic_store(&p->stop, true);
        pthread_join(p->thread, NULL);
    }
    if (p->stream.shape)
        attnd_close(p->silent, &p->stream, NULL, &ignored);
    attnd_disconnect(p->silent);
    attnd_unsubscribe(p->deaf);
    if (p->garbage)
        zmq_close(p->garbage);
    if (p->context)
        zmq_ctx_term(p->context);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int round_trips(struct crowd *c, double *p50, double *p99, struct fault *fault)
{
    double begin = clock_seconds(), now = begin;
    size_t n = 0;
    int err = 0;
    while (now - begin < c->o->seconds / SLICES && n < SAMPLES_MAX && !err) {
        double sent = now;
        err = command_interrupted() ? fault_set(fault, ERR_IO, "interrupted") : attnd_step(c->client, 0, c->part, 1, fault);
        now = clock_seconds();
        c->seconds[n++] = now - sent;
    }
    qsort(c->seconds, n, sizeof *c->seconds, by_size);
    *p50 = c->seconds[n / 2];
    *p99 = c->seconds[n - 1 - n / 100];
    return err;
}

static const struct {
    const char *name;
    unsigned company;
} companies[N_COMPANIES] = {
    {"nobody", 0}, {"deaf", DEAF}, {"silent", SILENT}, {"garbage", GARBAGE}, {"all", DEAF | SILENT | GARBAGE}};

static int in_company(struct crowd *c, unsigned company, double *p50, double *p99, struct fault *fault)
{
    struct peers peers = {0};
    int err = company ? peers_start(&peers, c, company, fault) : 0;
    if (!err)
        err = round_trips(c, p50, p99, fault);
    peers_stop(&peers);
    return err;
}

/* In turns, so that what disturbs the machine for a while disturbs one slice of each. */
static int measure_company(struct crowd *c, struct fault *fault)
{
    double p50[N_COMPANIES][SLICES], p99[N_COMPANIES][SLICES], alone = 0;
    int err = 0;
    for (size_t s = 0; s < SLICES && !err; s++)
        for (size_t i = 0; i < N_COMPANIES && !err; i++)
            err = in_company(c, companies[i].company, &p50[i][s], &p99[i][s], fault);
    for (size_t i = 0; i < N_COMPANIES && !err; i++) {
        double half = median(p50[i], SLICES), most = median(p99[i], SLICES);
        alone = i ? alone : most;
        if (!c->o->json)
            printf("beside %-8s p50 %8.1f us   p99 %8.1f us   p99 to that alone %.2f\n", companies[i].name, half * 1e6,
                   most * 1e6, most / alone);
        else if (command_print_json(who, json_pack("{ss ss sI sf sf sf}", "measures", "company", "company", companies[i].name,
                                                   "rate", (json_int_t)c->o->rate, "seconds_p50", half, "seconds_p99", most,
                                                   "ratio_p99", most / alone)))
            err = fault_set(fault, ERR_IO, "printing");
    }
    return err;
}

/* ------------------------------------------------------------------ the whole */

static int crowd_start(struct crowd *c, struct fault *fault)
{
    size_t width = c->o->heads * c->o->dim;
    c->numbers = malloc(width * sizeof *c->numbers);
    c->out = malloc(c->o->streams * width * sizeof *c->out);
    c->seconds = malloc(SAMPLES_MAX * sizeof *c->seconds);
    if (!c->numbers || !c->out || !c->seconds)
        return fault_set(fault, ERR_NO_MEMORY, "%zu streams", (size_t)c->o->streams);
    subject_fill(c->numbers, width);
    snprintf(c->outputs, sizeof c->outputs, "ipc://%s/outputs.sock", c->folder);
    int err = server_start(&c->server, "ipc", c->folder, c->o->held, fault);
    if (!err)
        err = attnd_connect(&c->client, c->server.ingest, NULL, fault);
    return err ? err : open_streams(c, fault);
}

static void crowd_stop(struct crowd *c)
{
    static const char *const left[] = {"ingest.sock", "outputs.sock", "telemetry.sock"};
    struct fault ignored;
    for (size_t i = 0; i < c->n_open; i++)
        attnd_close(c->client, &c->stream[i], NULL, &ignored);
    attnd_disconnect(c->client);
    server_stop(&c->server);
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", c->folder, left[i]);
        unlink(path);
    }
    rmdir(c->folder);
    free(c->numbers);
    free(c->out);
    free(c->seconds);
}

int bench_crowd(int argc, char **argv)
{
    struct options o = {.streams = 32, .heads = 8, .dim = 64, .held = 128, .rate = 500, .seconds = 5};
    struct option_group group = {option_table, sizeof option_table / sizeof *option_table, &o};
    int code = command_parse(who, "Many streams in one message, and a producer's latency beside peers that behave badly.",
                             &group, 1, argc, argv);
    if (code != COMMAND_GO_ON)
        return code;
    if (o.only && strcmp(o.only, "steps") != 0 && strcmp(o.only, "company") != 0)
        return command_usage(who, "--only must be steps or company, not '%s'", o.only);
    struct fault fault = {0};
    struct crowd *c = calloc(1, sizeof *c);
    if (!c) {
        fault_set(&fault, ERR_NO_MEMORY, "a crowd");
        return command_failed(who, &fault);
    }
    c->o = &o;
    snprintf(c->folder, sizeof c->folder, "/tmp/attn-bench-XXXXXX");
    struct sigaction before, ignore = {.sa_handler = SIG_IGN};
    command_catch_interrupt();
    sigaction(SIGPIPE, &ignore, &before);
    int err = mkdtemp(c->folder) ? crowd_start(c, &fault) : fault_set(&fault, ERR_IO, "%s: %s", c->folder, strerror(errno));
    if (!err && !(o.only && strcmp(o.only, "company") == 0))
        err = measure_steps(c, &fault);
    if (!err && !(o.only && strcmp(o.only, "steps") == 0))
        err = measure_company(c, &fault);
    crowd_stop(c);
    sigaction(SIGPIPE, &before, NULL);
    free(c);
    return err ? command_failed(who, &fault) : COMMAND_DONE;
}
