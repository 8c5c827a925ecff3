/* Telemetry: live numbers as JSON, published every interval by a thread of its own, and the same numbers for status.
 *
 * Topics telemetry/daemon/, telemetry/pools/, telemetry/profiles/, telemetry/streams/, telemetry/tradeoff/; each publication holds instance, sequence,
 * time_seconds (since the start) and the values of the metrics table. A new subscriber gets the last value at once.
 * It reads atomics and, under the streams' lock, the list of streams; never a cache. */
#ifndef ATTND_DAEMON_TELEMETRY_H
#define ATTND_DAEMON_TELEMETRY_H

#include "daemon/gateway.h"

struct telemetry;

int telemetry_start(struct telemetry **out, struct gateway *gateway, void *socket, double interval_seconds,
                    struct fault *fault);
void telemetry_stop(struct telemetry *telemetry); /* NULL is allowed */

/* Everything, or one stream, as a JSON object; free() it. Called by the gateway. NULL with *fault: ERR_UNKNOWN_STREAM. */
char *telemetry_status(struct gateway *gateway, uint64_t stream, struct fault *fault);

#endif
