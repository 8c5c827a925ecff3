/* A daemon inside the test program, on ipc sockets in a folder of its own. */
#ifndef ATTND_TESTS_TOOLS_DAEMON_HERE_H
#define ATTND_TESTS_TOOLS_DAEMON_HERE_H

#include "base/log.h"
#include "config/config.h"

struct daemon_here {
    char folder[32], config_path[64], endpoint[80];
    struct config *config;
    struct daemon *daemon;
    struct log log;
};

/* more: further YAML, or "". Fails the test when the daemon does not start. */
void daemon_here_start(struct daemon_here *d, const char *more);
void daemon_here_stop(struct daemon_here *d);

#endif
