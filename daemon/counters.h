/* What the gateway and telemetry count; readable by anyone at any time. */
#ifndef ATTND_DAEMON_COUNTERS_H
#define ATTND_DAEMON_COUNTERS_H

#include "stats/histogram.h"
#include "stats/metrics.h"

struct counters {
    uint64_t start_ns;
    atomic_uint_fast64_t streams_open, streams_opened, streams_failed, streams_expired;
    atomic_uint_fast64_t messages, received_bytes, sent_bytes, parts, resent, tokens;
    atomic_uint_fast64_t queued_bytes, kept_reply_bytes;
    atomic_uint_fast64_t outputs, outputs_dropped, telemetry, telemetry_dropped, replies_dropped;
    struct metric_reasons refused;
    struct histogram publish;
};

#endif
