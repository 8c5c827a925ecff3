#include "daemon/lease.h"

#include "base/clock.h"
#include "daemon/control.h"
#include "daemon/egress.h"

#include <limits.h>

/* Looks in one lease: what is gone is found at most an eighth too late, so it is given up an eighth early. */
enum { LOOKS = 8 };

/* How often connections are swept when streams have no lease. */
static const uint64_t SWEEP_NS = 30000000000u;

static uint64_t lease_ns(const struct gateway *gateway)
{
    return gateway->config->limits.lease_seconds * 1000000000u;
}

static void expire(struct gateway *gateway, struct stream *stream)
{
    atomic_fetch_add(&gateway->counters.streams_expired, 1);
    log_event(gateway->log, LOG_WARNING, "stream_expired", LOG_TEXT("stream", stream->name),
              LOG_COUNT("tokens", engine_stream_tokens(stream->engine_stream)));
    stream->closing = true;
    if (!stream->first)
        control_finish_close(gateway, stream);
}

static void look_at(struct gateway *gateway, struct stream *stream, uint64_t lease, uint64_t now)
{
    struct connection *writer = stream->writer;
    if (now - writer->heard_ns >= lease / 2 && writer->probed_ns != now) {
        writer->probed_ns = now; /* once for all its streams */
        if (egress_probe(gateway, writer))
            writer->heard_ns = now;
    }
    if (now - writer->heard_ns >= lease - lease / LOOKS)
        expire(gateway, stream);
}

void lease_tick(struct gateway *gateway)
{
    uint64_t now = gateway->now_ns, lease = lease_ns(gateway);
    struct streams *streams = &gateway->streams;
    if (now < gateway->next_look_ns)
        return;
    gateway->next_look_ns = now + (lease ? lease / LOOKS : SWEEP_NS);
    connections_sweep(&streams->connections);
    for (size_t i = 0, left = lease ? streams->n_open : 0; i < streams->n_slots && left; i++) {
        struct stream *stream = streams->slot[i];
        left -= stream != NULL;
        if (stream && !stream->closing)
            look_at(gateway, stream, lease, now);
    }
}

int lease_wait_ms(const struct gateway *gateway)
{
    uint64_t now = clock_ns();
    if (!gateway->streams.connections.first) /* nobody is there */
        return -1;
    uint64_t ms = now < gateway->next_look_ns ? (gateway->next_look_ns - now) / 1000000 + 1 : 0;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

void lease_heartbeats(void *socket, uint64_t lease_seconds)
{
    uint64_t each = lease_seconds * 1000 / 4;
    int interval = each > INT_MAX / 2 ? INT_MAX / 2 : (int)each, timeout = 2 * interval;
    if (!interval)
        return;
    zmq_setsockopt(socket, ZMQ_HEARTBEAT_IVL, &interval, sizeof interval);
    zmq_setsockopt(socket, ZMQ_HEARTBEAT_TIMEOUT, &timeout, sizeof timeout);
}
