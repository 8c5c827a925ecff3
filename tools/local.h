/* Attention in this process: the daemon's engine without its sockets. */
#ifndef ATTND_TOOLS_LOCAL_H
#define ATTND_TOOLS_LOCAL_H

#include "tools/service.h"

/* config: a YAML file, or NULL for the built-in default. Its errors go to stderr, one line each. */
int local_create(struct attention_service **out, const char *config, struct fault *fault);

#endif
