/* Measure: fills the values of the metrics table (stats/metrics.h) from what is counted, for whoever prints them: telemetry as
 * JSON, http as text for Prometheus. Threads: any; takes the streams' lock while it looks at pools. */
#ifndef ATTND_DAEMON_MEASURE_H
#define ATTND_DAEMON_MEASURE_H

#include "daemon/gateway.h"

/* name: the pool or the profile, NULL for the daemon. values: for the call only. */
typedef void measure_visit(void *context, const char *name, const struct metric_values *values);

void measure_daemon(struct gateway *gateway, measure_visit *visit, void *context);
void measure_pools(struct gateway *gateway, measure_visit *visit, void *context);
void measure_profiles(struct gateway *gateway, measure_visit *visit, void *context);

#endif
