/* Server: a daemon of its own for a bench, with one profile, `bench`: a window of f32 rows. */
#ifndef ATTND_TOOLS_BENCH_SERVER_H
#define ATTND_TOOLS_BENCH_SERVER_H

#include "base/err.h"
#include "base/shape.h"
#include "tools/bench/child.h"

enum { SERVER_ENDPOINT_BYTES = 256 };

struct server {
    struct child child;
    char ingest[SERVER_ENDPOINT_BYTES]; /* where it listens */
};

/* transport: ipc or tcp; folder: for its sockets; held: rows of the window. */
int server_start(struct server *server, const char *transport, const char *folder, size_t held, struct fault *fault);
void server_stop(struct server *server); /* of zeros: nothing */

/* The shape of streams on it: one softmax layer, f32, as many kv heads as heads. The caller frees it; NULL: no memory. */
struct shape *server_shape(size_t heads, size_t dim);

/* An endpoint of that transport, to bind. */
void server_endpoint(const char *transport, const char *folder, const char *name, char endpoint[SERVER_ENDPOINT_BYTES]);

/* Where the program that printed this line listens: its last word. */
const char *server_said(const char *line);

#endif
