#include "tools/bench/server.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct shape *server_shape(size_t heads, size_t dim)
{
    struct shape *shape = calloc(1, sizeof *shape);
    if (!shape)
        return NULL;
    shape->n_layers = 1;
    shape->kind[0] = ATTENTION_SOFTMAX;
    shape->heads = shape->kv_heads = (uint32_t)heads;
    shape->key_dim = shape->value_dim = (uint32_t)dim;
    shape->scale = 1 / sqrtf((float)dim);
    shape->element = ELEMENT_F32;
    return shape;
}

void server_endpoint(const char *transport, const char *folder, const char *name, char endpoint[SERVER_ENDPOINT_BYTES])
{
    if (strcmp(transport, "ipc") == 0)
        snprintf(endpoint, SERVER_ENDPOINT_BYTES, "ipc://%s/%s.sock", folder, name);
    else
        snprintf(endpoint, SERVER_ENDPOINT_BYTES, "tcp://127.0.0.1:*");
}

const char *server_said(const char *line)
{
    const char *space = strrchr(line, ' ');
    return space ? space + 1 : line;
}

static int write_config(const char *path, const char *endpoint, const char *folder, size_t held, struct fault *fault)
{
    FILE *file = fopen(path, "w");
    bool ok =
        file && fprintf(file,
                        "ingest: {endpoints: [\"%s\"]}\n"
                        "outputs: {endpoints: [\"ipc://%s/outputs.sock\"]}\n"
                        "telemetry: {endpoints: [\"ipc://%s/telemetry.sock\"]}\n"
                        "log_level: error\n"
                        "profiles:\n"
                        "  - name: bench\n"
                        "    rules:\n"
                        "      - {attention: softmax, policy: window, storage: f32, window_tokens: %zu, sink_tokens: 0}\n",
                        endpoint, folder, folder, held) > 0;
    if (file && fclose(file))
        ok = false;
    return ok ? 0 : fault_set(fault, ERR_IO, "%s: %s", path, strerror(errno));
}

int server_start(struct server *server, const char *transport, const char *folder, size_t held, struct fault *fault)
{
    char endpoint[SERVER_ENDPOINT_BYTES], config[SERVER_ENDPOINT_BYTES], line[SERVER_ENDPOINT_BYTES];
    server_endpoint(transport, folder, "ingest", endpoint);
    snprintf(config, sizeof config, "%s/attnd.yaml", folder);
    int err = write_config(config, endpoint, folder, held, fault);
    const char *argv[] = {"attnd", "--config", config, NULL};
    if (!err)
        err = child_start(&server->child, "attnd", argv, line, sizeof line, fault);
    unlink(config);
    if (!err)
        snprintf(server->ingest, sizeof server->ingest, "%s", server_said(line));
    return err;
}

void server_stop(struct server *server)
{
    child_stop(&server->child);
}
