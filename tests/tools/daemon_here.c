#include "tests/tools/daemon_here.h"

#include "cache/policy.h"
#include "daemon/daemon.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void report(void *context, const char *message)
{
    (void)context;
    printf("\n%s", message);
}

void daemon_here_start(struct daemon_here *d, const char *more)
{
    struct fault fault = {0};
    memset(d, 0, sizeof *d);
    snprintf(d->folder, sizeof d->folder, "/tmp/attnd_here_XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(d->folder));
    snprintf(d->config_path, sizeof d->config_path, "%s/attnd.yaml", d->folder);
    snprintf(d->endpoint, sizeof d->endpoint, "ipc://%s/ingest.sock", d->folder);
    FILE *f = fopen(d->config_path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fprintf(f,
            "ingest: {endpoints: [\"%s\"]}\n"
            "outputs: {endpoints: [\"ipc://%s/outputs.sock\"]}\n"
            "telemetry: {endpoints: [\"ipc://%s/telemetry.sock\"]}\n%s",
            d->endpoint, d->folder, d->folder, more);
    fclose(f);
    log_init(&d->log, STDERR_FILENO, LOG_ERROR, 0);
    CU_ASSERT_EQUAL_FATAL(config_load(&d->config, d->config_path, policy_check_rule, report, NULL), 0);
    int err = daemon_start(&d->daemon, d->config, NULL, &d->log, &fault);
    if (err)
        printf("\n%s", fault.text);
    CU_ASSERT_EQUAL_FATAL(err, 0);
}

void daemon_here_stop(struct daemon_here *d)
{
    static const char *const files[] = {"attnd.yaml", "ingest.sock", "outputs.sock", "telemetry.sock"};
    daemon_stop(d->daemon);
    config_destroy(d->config);
    log_finish(&d->log);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", d->folder, files[i]);
        unlink(path);
    }
    CU_ASSERT_EQUAL(rmdir(d->folder), 0);
}
