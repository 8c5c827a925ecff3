/* The user's runtime folder: where the daemon's ipc sockets lie by default. */
#ifndef ATTND_BASE_RUNTIME_H
#define ATTND_BASE_RUNTIME_H

#include "base/err.h"
#include <stddef.h>

/* $XDG_RUNTIME_DIR/attnd, or /tmp/attnd-<uid> where that is unset. Creates nothing. */
int runtime_folder(char *path, size_t size);

/* Replaces ${runtime} in text. ERR_TOO_LARGE. */
int runtime_expand(const char *text, char *out, size_t size);

/* Creates the folder that an ipc:// endpoint lies in (mode 0700) when it is missing; other transports: nothing. */
int runtime_prepare(const char *endpoint, struct fault *fault);

/* The default ingest endpoint: ipc://<runtime>/ingest.sock. */
int runtime_ingest(char *endpoint, size_t size);

#endif
