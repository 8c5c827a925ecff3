/* HTTP for monitoring systems (libmicrohttpd, one thread of its own):
 *
 *     /metrics   the metrics table as Prometheus text     /healthz   200 as long as the process serves
 *     /streams   the open streams as JSON                 /readyz    200 while producers are welcome, 503 once it drains
 *
 * Reads what telemetry reads: published atomics, the table of streams under its lock; never a cache. */
#ifndef ATTND_DAEMON_HTTP_H
#define ATTND_DAEMON_HTTP_H

#include "daemon/gateway.h"

struct http;

/* Listens at config->http_address; "" gives NULL and 0. Errors name the address. */
int http_start(struct http **out, struct gateway *gateway, struct fault *fault);
void http_stop(struct http *http);           /* NULL is allowed */
unsigned http_port(const struct http *http); /* 0 for NULL */

#endif
