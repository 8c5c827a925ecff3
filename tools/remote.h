/* Attention in a daemon, through the client library. */
#ifndef ATTND_TOOLS_REMOTE_H
#define ATTND_TOOLS_REMOTE_H

#include "tools/service.h"

/* endpoint: the daemon's ingest endpoint, or NULL for the user's own daemon. */
int remote_create(struct attention_service **out, const char *endpoint, struct fault *fault);

#endif
