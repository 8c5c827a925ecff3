/* Snapshots: the values of the metrics table at this moment, as JSON. */
#ifndef ATTND_DAEMON_SNAPSHOT_H
#define ATTND_DAEMON_SNAPSHOT_H

#include "daemon/gateway.h"

#include <jansson.h>

enum { SNAPSHOT_STREAMS_MAX = 1000 }; /* listed one by one; beyond that only counted */

json_t *snapshot_daemon(struct gateway *gateway);
json_t *snapshot_pools(struct gateway *gateway);
json_t *snapshot_profiles(struct gateway *gateway);
/* All streams, or the one with this id when it is not 0 (an empty array when there is none). Takes the streams' lock. */
json_t *snapshot_streams(struct gateway *gateway, uint64_t id);
/* The one with this id, with its layers. On the gateway's thread only. */
json_t *snapshot_stream(struct gateway *gateway, uint64_t id);

/* What the longest stream of each profile takes, beside what other forms would take at its length. */
json_t *snapshot_tradeoff(struct gateway *gateway);

#endif
