#include "daemon/telemetry.h"

#include "base/clock.h"
#include "daemon/snapshot.h"

#include <stdlib.h>
#include <string.h>

static const struct topic {
    const char *name, *key;
    json_t *(*snapshot)(struct gateway *gateway);
} topics[] = {
    {"telemetry/daemon/", "daemon", snapshot_daemon},       {"telemetry/pools/", "pools", snapshot_pools},
    {"telemetry/profiles/", "profiles", snapshot_profiles}, {"telemetry/streams/", "streams", NULL},
    {"telemetry/tradeoff/", "tradeoff", snapshot_tradeoff},
};

enum { N_TOPICS = sizeof topics / sizeof *topics };

struct telemetry {
    struct gateway *gateway;
    void *socket; /* this thread's */
    uint64_t interval_ns;
    pthread_t thread;
    atomic_bool stop;
    uint64_t sequence[N_TOPICS];
    char *last[N_TOPICS]; /* what a new subscriber gets at once */
};

static json_t *take(struct gateway *gateway, size_t topic)
{
    return topics[topic].snapshot ? topics[topic].snapshot(gateway) : snapshot_streams(gateway, 0);
}

/* As on the outputs socket: a full subscriber is counted, the others get the message. */
static bool send_topic(struct telemetry *t, const char *name)
{
    int off = 0, on = 1;
    if (zmq_send(t->socket, name, strlen(name), ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0)
        return true;
    atomic_fetch_add(&t->gateway->counters.telemetry_dropped, 1);
    zmq_setsockopt(t->socket, ZMQ_XPUB_NODROP, &off, sizeof off);
    bool sent = zmq_send(t->socket, name, strlen(name), ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0;
    zmq_setsockopt(t->socket, ZMQ_XPUB_NODROP, &on, sizeof on);
    return sent;
}

static void send_last(struct telemetry *t, size_t topic)
{
    if (t->last[topic] && send_topic(t, topics[topic].name) &&
        zmq_send(t->socket, t->last[topic], strlen(t->last[topic]), ZMQ_DONTWAIT) >= 0)
        atomic_fetch_add(&t->gateway->counters.telemetry, 1);
}

static void publish(struct telemetry *t)
{
    for (size_t i = 0; i < N_TOPICS; i++) {
        double seconds = (double)(clock_ns() - t->gateway->counters.start_ns) * 1e-9;
        json_t *object = json_pack("{s:s, s:I, s:f, s:o}", "instance", t->gateway->identity->instance, "sequence",
                                   (json_int_t)t->sequence[i]++, "time_seconds", seconds, topics[i].key, take(t->gateway, i));
        free(t->last[i]);
        t->last[i] = object ? json_dumps(object, JSON_COMPACT) : NULL;
        json_decref(object);
        send_last(t, i);
    }
}

/* Subscription messages: 1 and a prefix. Whoever comes new is sent the last value of what matches; the others see a sequence
 * number that they have seen and ignore it. */
static void greet(struct telemetry *t)
{
    char text[512];
    int n;
    while ((n = zmq_recv(t->socket, text, sizeof text, ZMQ_DONTWAIT)) >= 0) {
        size_t prefix = n > 0 ? (size_t)n - 1 : 0;
        for (size_t i = 0; n > 0 && text[0] == 1 && prefix < sizeof text && i < N_TOPICS; i++)
            if (prefix <= strlen(topics[i].name) && memcmp(topics[i].name, text + 1, prefix) == 0)
                send_last(t, i);
    }
}

static void *run(void *context)
{
    struct telemetry *t = context;
    uint64_t next = clock_ns();
    while (!atomic_load(&t->stop)) {
        uint64_t now = clock_ns();
        if (now >= next) {
            publish(t);
            next += t->interval_ns;
            if (next <= now) /* late: skip, never catch up in a burst */
                next = now + t->interval_ns;
        }
        uint64_t left_ms = (next - now) / 1000000 + 1;
        zmq_pollitem_t item = {.socket = t->socket, .events = ZMQ_POLLIN};
        zmq_poll(&item, 1, left_ms > 100 ? 100 : (long)left_ms); /* looks at `stop` ten times a second */
        greet(t);
    }
    publish(t); /* the last numbers */
    return NULL;
}

int telemetry_start(struct telemetry **out, struct gateway *gateway, void *socket, double interval_seconds, struct fault *fault)
{
    struct telemetry *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t)
        return fault_set(fault, ERR_NO_MEMORY, "telemetry");
    t->gateway = gateway;
    t->socket = socket;
    t->interval_ns = (uint64_t)(interval_seconds * 1e9);
    if (pthread_create(&t->thread, NULL, run, t)) {
        free(t);
        return fault_set(fault, ERR_NO_MEMORY, "telemetry's thread could not be started");
    }
    *out = t;
    return 0;
}

void telemetry_stop(struct telemetry *t)
{
    if (!t)
        return;
    atomic_store(&t->stop, true);
    pthread_join(t->thread, NULL);
    for (size_t i = 0; i < N_TOPICS; i++)
        free(t->last[i]);
    free(t);
}

char *telemetry_status(struct gateway *gateway, uint64_t stream, struct fault *fault)
{
    json_t *streams = stream ? snapshot_stream(gateway, stream) : snapshot_streams(gateway, 0);
    json_t *object = NULL;
    if (stream && json_array_size(streams) == 0) {
        json_decref(streams);
        fault_set(fault, ERR_UNKNOWN_STREAM, "stream %llu is not open", (unsigned long long)stream);
        return NULL;
    }
    if (stream)
        object = json_pack("{s:s, s:f, s:o}", "instance", gateway->identity->instance, "time_seconds",
                           (double)(clock_ns() - gateway->counters.start_ns) * 1e-9, "streams", streams);
    else
        object = json_pack("{s:s, s:s, s:f, s:o, s:o, s:o, s:o, s:o}", "instance", gateway->identity->instance, "version",
                           ATTND_VERSION, "time_seconds", (double)(clock_ns() - gateway->counters.start_ns) * 1e-9, "daemon",
                           snapshot_daemon(gateway), "pools", snapshot_pools(gateway), "profiles", snapshot_profiles(gateway),
                           "streams", streams, "tradeoff", snapshot_tradeoff(gateway));
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (!text)
        fault_set(fault, ERR_NO_MEMORY, "the status");
    return text;
}
