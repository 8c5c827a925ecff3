#include "daemon/daemon.h"

#include "base/clock.h"
#include "base/runtime.h"
#include "daemon/gateway.h"
#include "daemon/http.h"
#include "daemon/lease.h"
#include "daemon/reload.h"
#include "daemon/telemetry.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct daemon {
    void *context;
    bool own_context;
    void *telemetry_socket;
    struct identity identity;
    struct gateway gateway;
    struct telemetry *telemetry;
    struct http *http;
    pthread_t thread; /* the gateway */
    bool started;
};

enum { LINGER_MS = 2000 };

/* Replies that may wait for one producer to read them. ZeroMQ's default of 1000 is soon reached by a producer that sends small
 * messages far ahead, long before its credit; what is above is dropped and counted, and can be asked for again. */
enum { REPLIES_MAX = 1 << 16 };

static void set_int(void *socket, int option, int value)
{
    zmq_setsockopt(socket, option, &value, sizeof value);
}

/* Another daemon on the same ipc path would lose it silently: ZeroMQ unlinks and binds anew. So look whether someone listens. */
static int refuse_second_daemon(const char *endpoint, struct fault *fault)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = endpoint + strlen("ipc://");
    if (strncmp(endpoint, "ipc://", strlen("ipc://")) != 0 || strlen(path) >= sizeof address.sun_path)
        return 0;
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fault_set(fault, ERR_IO, "a socket: %s", strerror(errno));
    bool listens = connect(fd, (const void *)&address, sizeof address) == 0 || errno == EAGAIN;
    close(fd);
    return listens ? fault_set(fault, ERR_EXISTS, "%s: another daemon listens there", endpoint) : 0;
}

static int bind_all(void *socket, const struct config_socket *wanted, struct config_socket *bound, struct fault *fault)
{
    for (size_t i = 0; i < wanted->n_endpoints; i++) {
        const char *endpoint = wanted->endpoint[i];
        int err = runtime_prepare(endpoint, fault);
        if (!err)
            err = refuse_second_daemon(endpoint, fault);
        if (err)
            return err;
        if (zmq_bind(socket, endpoint))
            return fault_set(fault, ERR_IO, "%s: %s", endpoint, zmq_strerror(errno));
        size_t size = sizeof bound->endpoint[i];
        if (zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, bound->endpoint[i], &size))
            memcpy(bound->endpoint[i], endpoint, sizeof bound->endpoint[i]);
        bound->n_endpoints = i + 1;
    }
    return 0;
}

static int open_sockets(struct daemon *d, const struct config *config, struct fault *fault)
{
    struct gateway *g = &d->gateway;
    struct config_socket ingest = {0};
    g->ingest = zmq_socket(d->context, ZMQ_ROUTER);
    g->outputs = zmq_socket(d->context, ZMQ_XPUB);
    d->telemetry_socket = zmq_socket(d->context, ZMQ_XPUB);
    if (!g->ingest || !g->outputs || !d->telemetry_socket)
        return fault_set(fault, ERR_IO, "a socket: %s", zmq_strerror(errno));
    /* A frame beyond twice the limit costs its sender the connection; up to there it gets an answer that says why. */
    int64_t largest = (int64_t)config->limits.message_bytes * 2;
    zmq_setsockopt(g->ingest, ZMQ_MAXMSGSIZE, &largest, sizeof largest);
    set_int(g->ingest, ZMQ_ROUTER_MANDATORY, 1); /* a peer that is gone is an error, not silence */
    set_int(g->ingest, ZMQ_SNDTIMEO, 0);
    set_int(g->ingest, ZMQ_LINGER, LINGER_MS);
    set_int(g->ingest, ZMQ_SNDHWM, REPLIES_MAX);
    lease_heartbeats(g->ingest, config->limits.lease_seconds);
    void *const publishers[] = {g->outputs, d->telemetry_socket};
    for (size_t i = 0; i < 2; i++) {
        set_int(publishers[i], ZMQ_XPUB_NODROP, 1);
        set_int(publishers[i], ZMQ_XPUB_VERBOSER, 1); /* every subscription and every end of one is seen */
        set_int(publishers[i], ZMQ_SNDHWM, (int)config->limits.subscriber_messages);
        set_int(publishers[i], ZMQ_LINGER, LINGER_MS);
    }
    int err = bind_all(g->ingest, &config->ingest, &ingest, fault);
    if (!err)
        err = bind_all(g->outputs, &config->outputs, &d->identity.outputs, fault);
    if (!err)
        err = bind_all(d->telemetry_socket, &config->telemetry, &d->identity.telemetry, fault);
    memcpy(d->identity.ingest, ingest.endpoint[0], sizeof d->identity.ingest);
    return err;
}

static const struct kernels *choose_kernels(const char *isa)
{
    return strcmp(isa, "auto") == 0 ? kernels_best() : kernels_find(isa);
}

static int start(struct daemon *d, const struct config *config, struct fault *fault)
{
    struct gateway *g = &d->gateway;
    uint64_t random[2] = {clock_ns(), (uint64_t)getpid()};
    const struct kernels *kernels = choose_kernels(config->isa);
    if (!kernels)
        return fault_set(fault, ERR_INVALID, "isa: this CPU does not run '%s'", config->isa);
    if (getrandom(random, sizeof random, GRND_NONBLOCK) < 0)
        random[0] ^= clock_ns(); /* an instance id only has to differ from the last one */
    snprintf(d->identity.instance, sizeof d->identity.instance, "%016" PRIx64 "%016" PRIx64, random[0], random[1]);
    g->config = config;
    g->identity = &d->identity;
    g->counters.start_ns = clock_ns();
    g->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (g->wake_fd < 0)
        return fault_set(fault, ERR_IO, "eventfd: %s", strerror(errno));
    g->buffers = buffer_shelf_create();
    int err = g->buffers ? streams_init(&g->streams, (size_t)config->limits.streams) : ERR_NO_MEMORY;
    if (err)
        return fault_set(fault, err, "the table of streams");
    err = open_sockets(d, config, fault);
    if (!err)
        err = engine_create(&g->engine, config, kernels, gateway_part_done, g, fault);
    return err;
}

static void *gateway_thread(void *context)
{
    gateway_run(context);
    return NULL;
}

int daemon_start(struct daemon **out, const struct config *config, void *zmq_context, struct log *log, struct fault *fault)
{
    struct daemon *d = calloc(1, sizeof *d);
    *out = NULL;
    if (!d)
        return fault_set(fault, ERR_NO_MEMORY, "the daemon");
    d->gateway.wake_fd = -1;
    d->gateway.log = log;
    pthread_mutex_init(&d->gateway.done_lock, NULL);
    d->own_context = !zmq_context;
    d->context = zmq_context ? zmq_context : zmq_ctx_new();
    int err = d->context ? start(d, config, fault) : fault_set(fault, ERR_IO, "a ZeroMQ context: %s", zmq_strerror(errno));
    if (!err)
        err = telemetry_start(&d->telemetry, &d->gateway, d->telemetry_socket, config->telemetry_interval_seconds, fault);
    if (!err)
        err = http_start(&d->http, &d->gateway, fault);
    if (!err && pthread_create(&d->thread, NULL, gateway_thread, &d->gateway))
        err = fault_set(fault, ERR_NO_MEMORY, "the gateway's thread could not be started");
    d->started = !err;
    if (err) {
        daemon_stop(d);
        return err;
    }
    log_event(log, LOG_INFO, "started", LOG_TEXT("version", ATTND_VERSION),
              LOG_TEXT("isa", engine_kernels(d->gateway.engine)->isa), LOG_TEXT("ingest", d->identity.ingest),
              LOG_TEXT("instance", d->identity.instance));
    *out = d;
    return 0;
}

void daemon_stop(struct daemon *d)
{
    if (!d)
        return;
    struct gateway *g = &d->gateway;
    if (d->started) {
        log_event(g->log, LOG_INFO, "draining", LOG_COUNT("streams", atomic_load(&g->counters.streams_open)));
        atomic_store(&g->stopping, true);
        gateway_wake(g);
        pthread_join(d->thread, NULL);
    }
    http_stop(d->http);
    telemetry_stop(d->telemetry);
    if (g->streams.n_slots)
        streams_finish(&g->streams, g->engine, &g->counters);
    message_shelf_clear(&g->shelf);
    buffer_shelf_leave(g->buffers);
    engine_destroy(g->engine);
    if (g->ingest)
        zmq_close(g->ingest);
    if (g->outputs)
        zmq_close(g->outputs);
    if (d->telemetry_socket)
        zmq_close(d->telemetry_socket);
    config_destroy(g->reloaded);
    if (d->own_context && d->context)
        zmq_ctx_term(d->context);
    if (g->wake_fd >= 0)
        close(g->wake_fd);
    pthread_mutex_destroy(&g->done_lock);
    if (d->started)
        log_event(g->log, LOG_INFO, "stopped", LOG_COUNT("messages", atomic_load(&g->counters.messages)),
                  LOG_COUNT("tokens", atomic_load(&g->counters.tokens)));
    free(d);
}

unsigned daemon_http_port(const struct daemon *d)
{
    return http_port(d->http);
}

void daemon_reload(struct daemon *d)
{
    reload_ask(&d->gateway);
}

const char *daemon_endpoint(const struct daemon *d)
{
    return d->identity.ingest;
}
