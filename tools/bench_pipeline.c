/* attn bench pipeline: the daemon's round trips beside a raw ZeroMQ echo of the same run.
 *
 * A message carries one token of 8 heads, d = 64, f32, which is appended and attends to the 128 tokens that its stream holds.
 * The echo is a ROUTER in a process of its own, as the daemon is; it takes as many frames and bytes and answers with as many as
 * the daemon's reply has. Both talk over the same transport, in turns, so that what disturbs one disturbs the other as well. */
#include "base/clock.h"
#include "client/attnd_client.h"
#include "tools/bench/bench.h"
#include "tools/bench/child.h"
#include "tools/bench/server.h"
#include "tools/bench/subject.h"
#include "tools/bench/summary.h"
#include "tools/bench/team.h"
#include "tools/command.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

static const char who[] = "attn bench pipeline";

enum {
    HEADS = 8,
    DIM = 64,
    HELD = 128,
    TENSOR = HEADS * DIM, /* numbers of q, k, v and of the outputs */
    IN_FLIGHT_MAX = 32,
    REQUEST_FRAMES = 4,
    REPLY_FRAMES = 2,
    ROUNDS = 20,
    MESSAGES = 250, /* a round; as many times as there are in flight, but not more than ten */
    MESSAGES_QUICK = 20,
    SAMPLES = ROUNDS * MESSAGES * 10,
};

static const size_t in_flights[] = {1, IN_FLIGHT_MAX};
static const char *const transports[] = {"ipc", "tcp"};

struct options {
    const char *transport;
    bool json, quick;
};

#define PLACE(field) offsetof(struct options, field)

static const struct command_option option_table[] = {
    {"--transport", "NAME", OPTION_TEXT, PLACE(transport), 0, 0, false, "ipc or tcp: only this one"},
    {"--quick", NULL, OPTION_SWITCH, PLACE(quick), 0, 0, false, "few messages: tells whether it runs, not how fast"},
    {"--json", NULL, OPTION_SWITCH, PLACE(json), 0, 0, false, "one JSON object per case and line"},
};

/* ------------------------------------------------------------------ the echo's end */

struct echo_options {
    const char *endpoint;
    uint64_t head_bytes, body_bytes;
};

#define ECHO_PLACE(field) offsetof(struct echo_options, field)

static const struct command_option echo_table[] = {
    {"--endpoint", "EP", OPTION_TEXT, ECHO_PLACE(endpoint), 0, 0, true, "where to bind"},
    {"--head-bytes", "N", OPTION_COUNT, ECHO_PLACE(head_bytes), 0, 0x1p30, true, "of an answer's first frame"},
    {"--body-bytes", "N", OPTION_COUNT, ECHO_PLACE(body_bytes), 0, 0x1p30, true, "of its second frame"},
};

static bool send_bytes(void *socket, size_t bytes, int flags)
{
    zmq_msg_t frame;
    if (zmq_msg_init_size(&frame, bytes))
        return false;
    memset(zmq_msg_data(&frame), 0, bytes);
    bool sent = zmq_msg_send(&frame, socket, flags) >= 0;
    zmq_msg_close(&frame);
    return sent;
}

/* One message, its frames thrown away but for the first, which goes to *first (NULL: thrown away too). */
static bool receive_all(void *socket, zmq_msg_t *first)
{
    zmq_msg_t frame;
    bool ok = true, more = true;
    zmq_msg_init(&frame);
    for (size_t i = 0; ok && more; i++) {
        zmq_msg_t *to = i == 0 && first ? first : &frame;
        ok = zmq_msg_recv(to, socket, 0) >= 0;
        more = ok && zmq_msg_more(to);
    }
    zmq_msg_close(&frame);
    return ok;
}

int bench_echo(int argc, char **argv)
{
    static const char echo[] = "attn bench echo";
    struct echo_options o = {0};
    struct option_group group = {echo_table, sizeof echo_table / sizeof *echo_table, &o};
    int code = command_parse(echo, "Answers every message with two frames, until a signal ends it.", &group, 1, argc, argv);
    if (code != COMMAND_GO_ON)
        return code;
    char bound[SERVER_ENDPOINT_BYTES];
    size_t size = sizeof bound;
    void *context = zmq_ctx_new(), *socket = context ? zmq_socket(context, ZMQ_ROUTER) : NULL;
    bool ok = socket && zmq_bind(socket, o.endpoint) == 0 && zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, bound, &size) == 0;
    if (ok) {
        printf("ready at %s\n", bound);
        fflush(stdout);
    }
    zmq_msg_t peer;
    zmq_msg_init(&peer);
    while (ok)
        ok = receive_all(socket, &peer) && zmq_msg_send(&peer, socket, ZMQ_SNDMORE) >= 0 &&
             send_bytes(socket, o.head_bytes, ZMQ_SNDMORE) && send_bytes(socket, o.body_bytes, 0);
    fprintf(stderr, "%s: %s: %s\n", echo, o.endpoint, zmq_strerror(errno));
    zmq_msg_close(&peer);
    if (socket)
        zmq_close(socket);
    if (context)
        zmq_ctx_term(context);
    return COMMAND_FAILED;
}

/* ------------------------------------------------------------------ the two ways */

/* A way for messages: send one, or receive the answer to the oldest that has none; slot: its place among those in flight. */
struct way {
    int (*send)(struct way *way, size_t slot, struct fault *fault);
    int (*receive)(struct way *way, size_t slot, struct fault *fault);
    double *seconds; /* (SAMPLES) round trips */
    double per_second[ROUNDS];
    size_t n, n_rounds;
};

struct echo_way {
    struct way way;
    struct child child;
    void *context, *socket;
    const float *numbers;
};

struct daemon_way {
    struct way way;
    struct server server;
    struct attnd_client *client;
    struct attnd_stream stream;
    bool open;
    struct attnd_part part[IN_FLIGHT_MAX];
    uint64_t ticket[IN_FLIGHT_MAX];
    float out[IN_FLIGHT_MAX][TENSOR];
    const float *numbers;
};

static int echo_send(struct way *way, size_t slot, struct fault *fault)
{
    struct echo_way *e = (struct echo_way *)way;
    unsigned char head[64] = {0};
    size_t bytes = wire_encoded_bytes(1);
    bool ok = bytes <= sizeof head && zmq_send(e->socket, head, bytes, ZMQ_SNDMORE) >= 0;
    for (size_t i = 1; ok && i < REQUEST_FRAMES; i++)
        ok = zmq_send(e->socket, e->numbers, TENSOR * sizeof(float), i + 1 < REQUEST_FRAMES ? ZMQ_SNDMORE : 0) >= 0;
    return ok ? 0 : fault_set(fault, ERR_IO, "sending to the echo: %s", zmq_strerror(errno));
}

static int echo_receive(struct way *way, size_t slot, struct fault *fault)
{
    struct echo_way *e = (struct echo_way *)way;
    return receive_all(e->socket, NULL) ? 0 : fault_set(fault, ERR_IO, "receiving from the echo: %s", zmq_strerror(errno));
}

static int daemon_send(struct way *way, size_t slot, struct fault *fault)
{
    struct daemon_way *d = (struct daemon_way *)way;
    return attnd_send(d->client, 0, &d->part[slot], 1, &d->ticket[slot], fault);
}

static int daemon_receive(struct way *way, size_t slot, struct fault *fault)
{
    struct daemon_way *d = (struct daemon_way *)way;
    int err = attnd_wait(d->client, d->ticket[slot], fault);
    if (!err && d->part[slot].fault.err) {
        *fault = d->part[slot].fault;
        err = fault->err;
    }
    return err;
}

/* n messages with so many in flight. keep: add to the way's samples. */
static int run(struct way *way, size_t n, size_t in_flight, bool keep, struct fault *fault)
{
    double sent_at[IN_FLIGHT_MAX], begin = clock_seconds();
    size_t sent = 0;
    for (size_t done = 0; done < n; done++) {
        if (command_interrupted())
            return fault_set(fault, ERR_IO, "interrupted");
        for (; sent < n && sent - done < in_flight; sent++) {
            sent_at[sent % in_flight] = clock_seconds();
            int err = way->send(way, sent % in_flight, fault);
            if (err)
                return err;
        }
        int err = way->receive(way, done % in_flight, fault);
        if (err)
            return err;
        if (keep)
            way->seconds[way->n++] = clock_seconds() - sent_at[done % in_flight];
    }
    if (keep)
        way->per_second[way->n_rounds++] = (double)n / (clock_seconds() - begin);
    return 0;
}

/* ------------------------------------------------------------------ setting up */

static int start_echo(struct echo_way *e, const char *transport, const char *folder, struct fault *fault)
{
    char endpoint[SERVER_ENDPOINT_BYTES], head[24], body[24], line[SERVER_ENDPOINT_BYTES];
    server_endpoint(transport, folder, "echo", endpoint);
    snprintf(head, sizeof head, "%zu", wire_encoded_bytes(1));
    snprintf(body, sizeof body, "%zu", TENSOR * sizeof(float));
    const char *argv[] = {"attn", "bench", "echo", "--endpoint", endpoint, "--head-bytes", head, "--body-bytes", body, NULL};
    int err = child_start(&e->child, "attn", argv, line, sizeof line, fault), linger = 0;
    if (err)
        return err;
    e->context = zmq_ctx_new();
    e->socket = e->context ? zmq_socket(e->context, ZMQ_DEALER) : NULL;
    if (!e->socket || zmq_setsockopt(e->socket, ZMQ_LINGER, &linger, sizeof linger) ||
        zmq_connect(e->socket, server_said(line)))
        return fault_set(fault, ERR_IO, "%s: %s", server_said(line), zmq_strerror(errno));
    return 0;
}

static void stop_echo(struct echo_way *e)
{
    if (e->socket)
        zmq_close(e->socket);
    if (e->context)
        zmq_ctx_term(e->context);
    child_stop(&e->child);
}

static int open_stream(struct daemon_way *d, struct fault *fault)
{
    struct shape *shape = server_shape(HEADS, DIM);
    if (!shape)
        return fault_set(fault, ERR_NO_MEMORY, "a shape");
    int err = attnd_open(d->client, "bench", shape, "bench", false, &d->stream, fault);
    free(shape);
    d->open = !err;
    for (size_t i = 0; i < IN_FLIGHT_MAX; i++)
        d->part[i] = (struct attnd_part){
            .stream = &d->stream,
            .n_tokens = 1,
            .flags = WIRE_APPEND | WIRE_ATTEND,
            .q = d->numbers,
            .key = {d->numbers},
            .value = {d->numbers},
            .out = d->out[i],
        };
    return err;
}

static int start_daemon(struct daemon_way *d, const char *transport, const char *folder, struct fault *fault)
{
    int err = server_start(&d->server, transport, folder, HELD, fault);
    if (!err)
        err = attnd_connect(&d->client, d->server.ingest, NULL, fault);
    if (!err)
        err = open_stream(d, fault);
    return err ? err : run(&d->way, HELD, 1, false, fault);
}

static void stop_daemon(struct daemon_way *d)
{
    struct fault ignored;
    if (d->open)
        attnd_close(d->client, &d->stream, NULL, &ignored);
    attnd_disconnect(d->client);
    server_stop(&d->server);
}

/* ------------------------------------------------------------------ measuring */

struct result {
    size_t in_flight;
    double echo_seconds, daemon_seconds, echo_per_s, daemon_per_s;
};

static int measure(struct way *echo, struct way *daemon, size_t in_flight, bool quick, struct result *out, struct fault *fault)
{
    size_t n = quick ? MESSAGES_QUICK : MESSAGES * (in_flight < 10 ? in_flight : 10), n_rounds = quick ? 2 : ROUNDS;
    echo->n = echo->n_rounds = daemon->n = daemon->n_rounds = 0;
    int err = run(echo, n, in_flight, false, fault);
    if (!err)
        err = run(daemon, n, in_flight, false, fault);
    for (size_t r = 0; r < n_rounds && !err; r++) {
        err = run(echo, n, in_flight, true, fault);
        if (!err)
            err = run(daemon, n, in_flight, true, fault);
    }
    if (!err)
        *out = (struct result){in_flight, median(echo->seconds, echo->n), median(daemon->seconds, daemon->n),
                               median(echo->per_second, echo->n_rounds), median(daemon->per_second, daemon->n_rounds)};
    return err;
}

static int print_result(const char *transport, const struct result *r, bool json)
{
    size_t tensor = TENSOR * sizeof(float), head = wire_encoded_bytes(1);
    size_t bytes = head + (REQUEST_FRAMES - 1) * tensor, reply_bytes = head + (REPLY_FRAMES - 1) * tensor;
    char machine[96];
    machine_name(machine, sizeof machine);
    if (json)
        return command_print_json(who, json_pack("{ss sI sI si sf sf sf sf sf ss si}", "transport", transport, "bytes",
                                                 (json_int_t)bytes, "reply_bytes", (json_int_t)reply_bytes, "in_flight",
                                                 (int)r->in_flight, "echo_seconds_p50", r->echo_seconds, "daemon_seconds_p50",
                                                 r->daemon_seconds, "ratio_p50", r->daemon_seconds / r->echo_seconds,
                                                 "echo_per_s", r->echo_per_s, "daemon_per_s", r->daemon_per_s, "machine",
                                                 machine, "cores", (int)team_cpus()));
    printf("%-9s %6zu %6zu %9zu %12.1f %12.1f %6.2f %12.0f %12.0f\n", transport, bytes, reply_bytes, r->in_flight,
           r->echo_seconds * 1e6, r->daemon_seconds * 1e6, r->daemon_seconds / r->echo_seconds, r->echo_per_s, r->daemon_per_s);
    fflush(stdout);
    return COMMAND_DONE;
}

static void print_head(void)
{
    char machine[96];
    machine_name(machine, sizeof machine);
    printf("%s, %zu cores\n\n", machine, team_cpus());
    printf("%-9s %6s %6s %9s %12s %12s %6s %12s %12s\n", "transport", "bytes", "reply", "in flight", "echo us p50",
           "daemon us p50", "ratio", "echo/s", "daemon/s");
}

static int run_transport(const char *transport, const char *folder, const struct options *o)
{
    struct fault fault = {0};
    struct result result;
    float *numbers = malloc(TENSOR * sizeof *numbers);
    struct echo_way *echo = calloc(1, sizeof *echo);
    struct daemon_way *daemon = calloc(1, sizeof *daemon);
    double *samples = calloc(2 * (size_t)SAMPLES, sizeof *samples);
    int err = 0, code = COMMAND_DONE;
    if (!numbers || !echo || !daemon || !samples) {
        err = fault_set(&fault, ERR_NO_MEMORY, "%s", transport);
    } else {
        subject_fill(numbers, TENSOR);
        echo->way = (struct way){.send = echo_send, .receive = echo_receive, .seconds = samples};
        daemon->way = (struct way){.send = daemon_send, .receive = daemon_receive, .seconds = samples + SAMPLES};
        echo->numbers = daemon->numbers = numbers;
        err = start_echo(echo, transport, folder, &fault);
    }
    if (!err)
        err = start_daemon(daemon, transport, folder, &fault);
    for (size_t i = 0; i < sizeof in_flights / sizeof *in_flights && !err && code == COMMAND_DONE; i++) {
        err = measure(&echo->way, &daemon->way, in_flights[i], o->quick, &result, &fault);
        if (!err)
            code = print_result(transport, &result, o->json);
    }
    if (daemon)
        stop_daemon(daemon);
    if (echo)
        stop_echo(echo);
    free(samples);
    free(daemon);
    free(echo);
    free(numbers);
    return err ? command_failed(who, &fault) : code;
}

static int run_transports(const struct options *o)
{
    char folder[64];
    int code = COMMAND_DONE;
    snprintf(folder, sizeof folder, "/tmp/attn-bench-XXXXXX");
    if (!mkdtemp(folder)) {
        struct fault fault;
        fault_set(&fault, ERR_IO, "%s: %s", folder, strerror(errno));
        return command_failed(who, &fault);
    }
    if (!o->json)
        print_head();
    for (size_t i = 0; i < sizeof transports / sizeof *transports && code == COMMAND_DONE; i++)
        if (!o->transport || strcmp(o->transport, transports[i]) == 0)
            code = run_transport(transports[i], folder, o);
    static const char *const left[] = {"echo.sock", "ingest.sock", "outputs.sock", "telemetry.sock"};
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", folder, left[i]);
        unlink(path);
    }
    rmdir(folder);
    return code;
}

int bench_pipeline(int argc, char **argv)
{
    struct options o = {0};
    struct option_group group = {option_table, sizeof option_table / sizeof *option_table, &o};
    int code = command_parse(who, "Round trips of one-token messages through the daemon beside a raw ZeroMQ echo.", &group, 1,
                             argc, argv);
    if (code != COMMAND_GO_ON)
        return code;
    if (o.transport && strcmp(o.transport, "inproc") == 0)
        return command_usage(who, "--transport: inproc needs a daemon inside this program, and here it is one of its own");
    if (o.transport && strcmp(o.transport, "ipc") != 0 && strcmp(o.transport, "tcp") != 0)
        return command_usage(who, "--transport must be ipc or tcp, not '%s'", o.transport);
    /* Neither Ctrl-C nor a reader of the results that is gone may leave programs and sockets behind. */
    struct sigaction before, ignore = {.sa_handler = SIG_IGN};
    command_catch_interrupt();
    sigaction(SIGPIPE, &ignore, &before);
    code = run_transports(&o);
    sigaction(SIGPIPE, &before, NULL);
    return code;
}
