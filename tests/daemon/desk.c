#include "tests/daemon/desk.h"

#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void *run(void *gateway)
{
    gateway_run(gateway);
    return NULL;
}

void desk_resume(struct desk *desk)
{
    atomic_store(&desk->gateway.stopping, false);
    desk->running = pthread_create(&desk->thread, NULL, run, &desk->gateway) == 0;
    CU_ASSERT_FATAL(desk->running);
}

void desk_pause(struct desk *desk)
{
    atomic_store(&desk->gateway.stopping, true);
    gateway_wake(&desk->gateway);
    pthread_join(desk->thread, NULL);
    desk->running = false;
}

bool desk_open(struct desk *desk, const char *yaml)
{
    struct gateway *g = &desk->gateway;
    char outputs[128];
    int mandatory = 1;
    memset(desk, 0, sizeof *desk);
    strcpy(desk->folder, "/tmp/attnd-test-XXXXXX");
    CU_ASSERT_FATAL(mkdtemp(desk->folder) != NULL);
    snprintf(desk->ingest, sizeof desk->ingest, "ipc://%s/ingest", desk->folder);
    snprintf(outputs, sizeof outputs, "ipc://%s/outputs", desk->folder);
    desk->config = house_config(desk->folder, 1, yaml);
    desk->context = zmq_ctx_new();
    CU_ASSERT_FATAL(desk->config && desk->context);
    g->config = desk->config;
    g->identity = &desk->identity;
    g->wake_fd = eventfd(0, EFD_NONBLOCK);
    pthread_mutex_init(&g->done_lock, NULL);
    g->ingest = zmq_socket(desk->context, ZMQ_ROUTER);
    g->outputs = zmq_socket(desk->context, ZMQ_XPUB);
    zmq_setsockopt(g->ingest, ZMQ_ROUTER_MANDATORY, &mandatory, sizeof mandatory);
    bool ok = zmq_bind(g->ingest, desk->ingest) == 0 && zmq_bind(g->outputs, outputs) == 0 &&
              streams_init(&g->streams, (size_t)desk->config->limits.streams) == 0 &&
              engine_create(&g->engine, desk->config, kernels_best(), gateway_part_done, g, NULL) == 0;
    CU_ASSERT(ok);
    if (ok)
        desk_resume(desk);
    return ok;
}

void desk_close(struct desk *desk)
{
    struct gateway *g = &desk->gateway;
    char path[128];
    if (desk->running)
        desk_pause(desk);
    streams_finish(&g->streams, g->engine, &g->counters);
    message_shelf_clear(&g->shelf);
    engine_destroy(g->engine);
    zmq_close(g->ingest);
    zmq_close(g->outputs);
    zmq_ctx_term(desk->context);
    close(g->wake_fd);
    pthread_mutex_destroy(&g->done_lock);
    config_destroy(desk->config);
    snprintf(path, sizeof path, "%s/ingest", desk->folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/outputs", desk->folder);
    unlink(path);
    rmdir(desk->folder);
}
