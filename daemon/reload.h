/* Reload: the running daemon takes over another configuration. What is computed is drained, the engine's teams are rebuilt and the
 * heads move; messages wait in their sockets meanwhile, so that nothing is lost, repeated or reordered, and no output changes by a
 * bit. All or nothing: what cannot change live is refused by name. Threads: the gateway's, but for reload_ask. */
#ifndef ATTND_DAEMON_RELOAD_H
#define ATTND_DAEMON_RELOAD_H

#include "daemon/gateway.h"

/* text: YAML, which errors call `file`; NULL: the file that the daemon was started with (without one: the built-in default). */
int reload(struct gateway *gateway, const char *file, const char *text, struct control_reload *out, struct fault *fault);

/* From any thread: asks the gateway for a reload of its own file (SIGHUP); the log tells how it went. */
void reload_ask(struct gateway *gateway);
/* Does what was asked for. */
void reload_if_asked(struct gateway *gateway);

#endif
