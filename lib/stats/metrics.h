/* Metrics: the one table of everything that attnd measures, and arrays of values that go with it.
 *
 * Telemetry (JSON) and later text for Prometheus walk the table and print the values that are there; nobody else names a
 * metric. Base units (bytes, seconds), `_total` for what only counts up, fractions from 0 to 1, no label whose values are
 * not known beforehand. A scope is what a value belongs to: the daemon, one pool, or one profile.
 *
 *     struct metric_values v;
 *     metrics_begin(&v, METRIC_OF_POOL);
 *     metrics_set(&v, METRIC_THREADS, 4);
 *     metrics_set_memory(&v, &memory);
 *     metrics_set_histogram(&v, METRIC_ATTEND_SECONDS, &totals->attend);
 *     for (size_t i = 0; i < N_METRIC; i++)
 *         if (v.value[i].present) ... metric_table[i].name ...
 *
 * Threads: values belong to whoever fills them, from atomics that are written elsewhere; histograms and counts by reason are
 * pointed to, not copied, and read when printed. */
#ifndef ATTND_STATS_METRICS_H
#define ATTND_STATS_METRICS_H

#include "stats/histogram.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM, METRIC_INFO, N_METRIC_TYPE };

enum metric_scope { METRIC_OF_DAEMON = 1, METRIC_OF_POOL = 2, METRIC_OF_PROFILE = 4 };

enum { METRIC_D = METRIC_OF_DAEMON, METRIC_PP = METRIC_OF_POOL | METRIC_OF_PROFILE, METRIC_DPP = METRIC_D | METRIC_PP };

/*  id, name, type, unit, scopes, label,
 *      help */
/* clang-format off */
#define METRIC_LIST(X)                                                                                               \
    X(BUILD_INFO,       "build_info",                   INFO,      "",         METRIC_D,                       NULL, \
      "Always 1; the labels tell version, instruction set, compiler and instance.")                                  \
    X(UPTIME,           "uptime_seconds",               GAUGE,     "seconds",  METRIC_D,                       NULL, \
      "Time since the start.")                                                                                       \
    X(PROCESS_RESIDENT, "process_resident_bytes",       GAUGE,     "bytes",    METRIC_D,                       NULL, \
      "Memory of the whole process that is in RAM.")                                                                 \
    X(ALLOCATED,        "memory_allocated_bytes",       GAUGE,     "bytes",    METRIC_DPP,                     NULL, \
      "What the caches hold: rows, weights, indices and slack.")                                                     \
    X(RESIDENT,         "memory_resident_bytes",        GAUGE,     "bytes",    METRIC_DPP,                     NULL, \
      "The part of the allocated bytes that was ever written, in whole pages of the system.")                        \
    X(CONTROL,          "memory_control_bytes",         GAUGE,     "bytes",    METRIC_DPP,                     NULL, \
      "State of the caches that is not rows, on top of the allocated bytes.")                                        \
    X(AUDITED,          "memory_audited_bytes",         GAUGE,     "bytes",    METRIC_DPP,                     NULL,\
      "Full bf16 caches kept beside audited heads, on top of the allocated bytes.")                             \
    X(FULL_BF16,        "memory_full_bf16_bytes",       GAUGE,     "bytes",    METRIC_DPP,                     NULL, \
      "What caches of the same tokens would take with every row kept, in bf16.")                                     \
    X(KEPT_FRACTION,    "memory_kept_fraction",         GAUGE,     "fraction", METRIC_DPP,                     NULL, \
      "Allocated bytes over the bytes of the full caches in bf16.")                                                  \
    X(BITS,             "memory_bits_per_coordinate",   GAUGE,     "bits",     METRIC_DPP,                     NULL, \
      "Allocated bits over the numbers (coordinates of keys and values) that were appended.")                        \
    X(STREAMS,          "streams_open",                 GAUGE,     "streams",  METRIC_D | METRIC_OF_PROFILE,   NULL, \
      "Streams that are open now.")                                                                                  \
    X(STREAMS_OPENED,   "streams_opened_total",         COUNTER,   "streams",  METRIC_D,                       NULL, \
      "Streams opened.")                                                                                             \
    X(STREAMS_FAILED,   "streams_failed_total",         COUNTER,   "streams",  METRIC_D,                       NULL, \
      "Streams that failed after their tokens had been taken.")                                                      \
    X(STREAMS_EXPIRED,  "streams_expired_total",        COUNTER,   "streams",  METRIC_D,                       NULL, \
      "Streams closed because their producer was gone for longer than their lease.")                                  \
    X(MESSAGES,         "messages_total",               COUNTER,   "messages", METRIC_D,                       NULL, \
      "Data and control messages received.")                                                                         \
    X(RECEIVED_BYTES,   "received_bytes_total",         COUNTER,   "bytes",    METRIC_D,                       NULL, \
      "Bytes received on ingest.")                                                                                   \
    X(SENT_BYTES,       "sent_bytes_total",             COUNTER,   "bytes",    METRIC_D,                       NULL, \
      "Bytes sent in replies to producers.")                                                                         \
    X(PARTS,            "parts_total",                  COUNTER,   "parts",    METRIC_D,                       NULL, \
      "Parts of data messages received, refused ones included.")                                                     \
    X(RESENT,           "parts_resent_total",           COUNTER,   "parts",    METRIC_D,                       NULL, \
      "Parts recognised as applied before and answered from the kept replies.")                                      \
    X(REFUSED,          "refused_total",                COUNTER,   "parts",    METRIC_D,                       "reason",\
      "Parts and control messages refused, by the code of the error.")                                               \
    X(TOKENS,           "tokens_total",                 COUNTER,   "tokens",   METRIC_DPP,                     NULL, \
      "Tokens appended, counted once per layer (in pools and profiles once per kv head).")                           \
    X(QUEUED_BYTES,     "queued_bytes",                 GAUGE,     "bytes",    METRIC_D,                       NULL, \
      "Bytes of messages that wait or run.")                                                                         \
    X(QUEUED_TASKS,     "queued_tasks",                 GAUGE,     "tasks",    METRIC_DPP,                     NULL, \
      "Tasks of heads that wait for a thread.")                                                                      \
    X(KEPT_REPLY_BYTES, "kept_reply_bytes",             GAUGE,     "bytes",    METRIC_D,                       NULL, \
      "Replies kept for resends until the producer confirms them.")                                                  \
    X(REPLIES_DROPPED,  "replies_dropped_total",        COUNTER,   "messages", METRIC_D,                       NULL, \
      "Replies that a producer was gone for, or had left too many unread for. What they said of appended tokens is kept.") \
    X(OUTPUTS,          "outputs_published_total",      COUNTER,   "messages", METRIC_D,                       NULL, \
      "Publications on the outputs socket.")                                                                         \
    X(OUTPUTS_DROPPED,  "outputs_dropped_total",        COUNTER,   "messages", METRIC_D,                       NULL, \
      "Publications of outputs that a full subscriber lost.")                                                        \
    X(TELEMETRY,        "telemetry_published_total",    COUNTER,   "messages", METRIC_D,                       NULL, \
      "Publications on the telemetry socket.")                                                                       \
    X(TELEMETRY_DROPPED,"telemetry_dropped_total",      COUNTER,   "messages", METRIC_D,                       NULL, \
      "Publications of telemetry that a full subscriber lost.")                                                      \
    X(THREADS,          "threads",                      GAUGE,     "threads",  METRIC_OF_POOL,                 NULL, \
      "Threads of the pool.")                                                                                        \
    X(BUSY,             "busy_seconds_total",           COUNTER,   "seconds",  METRIC_OF_POOL,                 NULL, \
      "Time that the pool's threads worked, summed.")                                                                \
    X(WAIT_SECONDS,     "queue_wait_seconds",           HISTOGRAM, "seconds",  METRIC_DPP,                     NULL, \
      "From handing in a task of a head to its start.")                                                              \
    X(APPEND_SECONDS,   "append_seconds",               HISTOGRAM, "seconds",  METRIC_DPP,                     NULL, \
      "Appending the tokens of one task to one head's cache.")                                                       \
    X(ATTEND_SECONDS,   "attend_seconds",               HISTOGRAM, "seconds",  METRIC_DPP,                     NULL, \
      "Attention of the tokens of one task to one head's cache.")                                                    \
    X(ERROR,            "audited_relative_error",       HISTOGRAM, "",         METRIC_OF_PROFILE,              NULL,\
      "|out - full| / |full| of audited heads, per token and query head.")                                      \
    X(PUBLISH_SECONDS,  "publish_seconds",              HISTOGRAM, "seconds",  METRIC_D,                       NULL, \
      "From the end of a message's last head to its reply and publications being handed to ZeroMQ.")
/* clang-format on */

enum metric_id {
#define METRIC_ENUM(id, name, type, unit, scopes, label, help) METRIC_##id,
    METRIC_LIST(METRIC_ENUM)
#undef METRIC_ENUM
        N_METRIC
};

struct metric {
    const char *name; /* Prometheus puts "attnd_" in front */
    enum metric_type type;
    const char *unit;  /* "" for none */
    unsigned scopes;   /* of enum metric_scope */
    const char *label; /* what its series are told apart by, or NULL */
    const char *help;  /* one sentence */
};

extern const struct metric metric_table[N_METRIC];

const char *metric_type_name(enum metric_type type); /* "counter", "gauge", "histogram", "info" */

struct metric_value {
    bool present;
    double number;                      /* counter, gauge; whole numbers are exact up to 2^53 */
    const struct histogram *histogram;  /* histogram */
    const struct metric_reasons *count; /* counter with the label "reason" */
    const char *const *info;            /* info: label, value, ..., NULL */
};

struct metric_values {
    unsigned scope; /* one of enum metric_scope */
    struct metric_value value[N_METRIC];
};

/* No value is present. Setting one that the scope does not have is a bug (assert). */
void metrics_begin(struct metric_values *values, enum metric_scope scope);
void metrics_set(struct metric_values *values, enum metric_id id, double number);
void metrics_set_histogram(struct metric_values *values, enum metric_id id, const struct histogram *histogram);
void metrics_set_info(struct metric_values *values, enum metric_id id, const char *const *info);

/* The memory metrics, those that derive from others included: kept fraction and bits per coordinate are left out as long as
 * nothing was appended, since 0 / 0 says nothing. */
struct metric_memory {
    uint64_t allocated, resident, control, audited, full_bf16; /* bytes */
    uint64_t coordinates;
};
void metrics_set_memory(struct metric_values *values, const struct metric_memory *memory);

/* Counts by reason: one counter per code of base/err.h. */
enum { METRIC_REASONS_MAX = 40 };
struct metric_reasons {
    atomic_uint_fast64_t count[METRIC_REASONS_MAX];
};
void metric_reasons_add(struct metric_reasons *counts, int err);
size_t metric_n_reasons(void);
const char *metric_reason_name(size_t i); /* "busy", ...: i < metric_n_reasons() */
uint64_t metric_reason_count(const struct metric_reasons *counts, size_t i);
void metrics_set_reasons(struct metric_values *values, enum metric_id id, const struct metric_reasons *counts);

#endif
