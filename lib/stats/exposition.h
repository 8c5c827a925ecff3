/* Exposition: values of the metrics table as the text that Prometheus scrapes (text format 0.0.4).
 *
 *     struct exposition *e;
 *     exposition_create(&e);
 *     exposition_add(e, NULL, &daemon_values);      attnd_queued_bytes 12
 *     exposition_add(e, "main", &pool_values);      attnd_pool_queued_tasks{pool="main"} 3
 *     exposition_add(e, "window", &profile_values); attnd_profile_streams_open{profile="window"} 1
 *     char *text = exposition_finish(e);            malloc'd; e is gone
 *
 * A family per metric and scope, with its HELP and TYPE, in base units (bits become bytes), so that summing over a label never counts twice. Histograms have one
 * bucket per power of two. Threads: one at a time. */
#ifndef ATTND_STATS_EXPOSITION_H
#define ATTND_STATS_EXPOSITION_H

#include "stats/metrics.h"

struct exposition;

int exposition_create(struct exposition **out); /* ERR_NO_MEMORY */
/* name: of the pool or profile; NULL for the daemon. Copies what it prints. */
void exposition_add(struct exposition *e, const char *name, const struct metric_values *values);
/* The text, or NULL when memory ran out on the way. Frees e. */
char *exposition_finish(struct exposition *e);

#endif
