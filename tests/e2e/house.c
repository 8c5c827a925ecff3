#include "tests/e2e/house.h"

#include "cache/policy.h"
#include "tests/test.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

static void say(void *context, const char *message)
{
    (void)context;
    printf("\n%s", message);
}

struct config *house_config(const char *folder, double telemetry_seconds, const char *yaml)
{
    char path[] = "/tmp/attnd-test-XXXXXX";
    struct config *config = NULL;
    FILE *file = fdopen(mkstemp(path), "w");
    if (!file)
        return NULL;
    if (folder)
        fprintf(file,
                "ingest: {endpoints: [\"ipc://%s/ingest\"]}\n"
                "outputs: {endpoints: [\"ipc://%s/outputs\"]}\n"
                "telemetry: {endpoints: [\"ipc://%s/telemetry\"], interval_seconds: %g}\n",
                folder, folder, folder, telemetry_seconds);
    fputs(yaml ? yaml : "", file);
    fclose(file);
    config_load(&config, path, policy_check_rule, say, NULL);
    unlink(path);
    return config;
}

bool house_open(struct house *house, const char *yaml)
{
    return house_open_telling(house, 3600, yaml);
}

bool house_open_telling(struct house *house, double telemetry_seconds, const char *yaml)
{
    struct fault fault = {0};
    memset(house, 0, sizeof *house);
    strcpy(house->folder, "/tmp/attnd-test-XXXXXX");
    bool ok = mkdtemp(house->folder) != NULL;
    snprintf(house->ingest, sizeof house->ingest, "ipc://%s/ingest", house->folder);
    snprintf(house->outputs, sizeof house->outputs, "ipc://%s/outputs", house->folder);
    snprintf(house->telemetry, sizeof house->telemetry, "ipc://%s/telemetry", house->folder);
    house->context = zmq_ctx_new();
    house->config = ok ? house_config(house->folder, telemetry_seconds, yaml) : NULL;
    ok = house->context && house->config && daemon_start(&house->daemon, house->config, house->context, NULL, &fault) == 0;
    if (!ok)
        printf("\nno daemon: %s", fault.text);
    CU_ASSERT(ok);
    return ok;
}

void house_stop(struct house *house)
{
    daemon_stop(house->daemon);
    house->daemon = NULL;
}

void house_close(struct house *house)
{
    char path[128];
    static const char *const names[] = {"ingest", "outputs", "telemetry"};
    house_stop(house);
    config_destroy(house->config);
    if (house->context)
        zmq_ctx_term(house->context);
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", house->folder, names[i]);
        unlink(path);
    }
    rmdir(house->folder);
}

double status_number(const char *text, const char *path)
{
    json_t *root = text ? json_loads(text, 0, NULL) : NULL;
    const json_t *at = root;
    while (at && *path) {
        char key[64];
        size_t n = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)n, path);
        at = json_is_array(at) ? json_array_get(at, (size_t)atoi(key)) : json_object_get(at, key);
        path += n + (path[n] == '.');
    }
    double number = json_is_array(at) ? (double)json_array_size(at) : json_is_number(at) ? json_number_value(at) : (double)NAN;
    json_decref(root);
    return number;
}

double house_number(struct attnd_client *client, const char *path)
{
    char *text = NULL;
    attnd_status(client, 0, &text, NULL);
    double number = status_number(text, path);
    free(text);
    return number;
}
