/* Desk: a gateway without the daemon around it, whose inside a test can touch while it is paused. */
#ifndef ATTND_TESTS_DAEMON_DESK_H
#define ATTND_TESTS_DAEMON_DESK_H

#include "daemon/gateway.h"
#include "tests/e2e/raw.h"

struct desk {
    char folder[64], ingest[128];
    void *context;
    struct config *config;
    struct identity identity;
    struct gateway gateway;
    pthread_t thread;
    bool running;
};

bool desk_open(struct desk *desk, const char *yaml);
void desk_close(struct desk *desk);

/* Between these nothing of the gateway runs; everything that was taken has left. */
void desk_pause(struct desk *desk);
void desk_resume(struct desk *desk);

#endif
