#include "daemon/http.h"

#include "daemon/measure.h"
#include "daemon/snapshot.h"
#include "stats/exposition.h"

#include <microhttpd.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECTIONS_MAX = 64, IDLE_SECONDS = 10, REQUEST_BYTES = 16384 };

struct http {
    struct gateway *gateway;
    struct MHD_Daemon *server;
};

/* ------------------------------------------------------------------ the pages */

struct page {
    unsigned status;
    const char *type;
    char *text; /* malloc'd */
};

static void add_values(void *context, const char *name, const struct metric_values *values)
{
    exposition_add(context, name, values);
}

static struct page metrics(struct gateway *gateway)
{
    struct exposition *e;
    if (exposition_create(&e))
        return (struct page){.status = MHD_HTTP_INTERNAL_SERVER_ERROR};
    measure_daemon(gateway, add_values, e);
    measure_pools(gateway, add_values, e);
    measure_profiles(gateway, add_values, e);
    return (struct page){MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", exposition_finish(e)};
}

static struct page streams(struct gateway *gateway)
{
    json_t *array = snapshot_streams(gateway, 0);
    json_t *object = json_pack("{s:s, s:I, s:o}", "instance", gateway->identity->instance, "streams_open",
                               (json_int_t)atomic_load(&gateway->counters.streams_open), "streams", array);
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    return (struct page){MHD_HTTP_OK, "application/json", text};
}

static struct page health(struct gateway *gateway)
{
    (void)gateway;
    return (struct page){MHD_HTTP_OK, "text/plain", strdup("ok\n")};
}

static struct page readiness(struct gateway *gateway)
{
    bool draining = atomic_load(&gateway->stopping);
    return (struct page){draining ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK, "text/plain",
                         strdup(draining ? "draining\n" : "ready\n")};
}

static const struct {
    const char *path;
    struct page (*make)(struct gateway *gateway);
} pages[] = {{"/metrics", metrics}, {"/streams", streams}, {"/healthz", health}, {"/readyz", readiness}};

static struct page make_page(struct gateway *gateway, const char *path, const char *method)
{
    bool reads = strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        if (strcmp(path, pages[i].path) != 0)
            continue;
        if (!reads)
            return (struct page){MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain", strdup("only GET and HEAD\n")};
        return pages[i].make(gateway);
    }
    return (struct page){MHD_HTTP_NOT_FOUND, "text/plain", strdup("there are /metrics, /streams, /healthz and /readyz\n")};
}

/* ------------------------------------------------------------------ the server */

static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *path, const char *method,
                              const char *version, const char *upload, size_t *upload_bytes, void **state)
{
    const struct http *http = context;
    (void)version;
    (void)upload;
    if (!*state) { /* the header only: a body may follow, which nobody wants */
        *state = context;
        return MHD_YES;
    }
    if (*upload_bytes) {
        *upload_bytes = 0;
        return MHD_YES;
    }
    struct page page = make_page(http->gateway, path, method);
    if (!page.text)
        page = (struct page){MHD_HTTP_INTERNAL_SERVER_ERROR, "text/plain", strdup("out of memory\n")};
    struct MHD_Response *response =
        page.text ? MHD_create_response_from_buffer(strlen(page.text), page.text, MHD_RESPMEM_MUST_FREE) : NULL;
    if (!response) {
        free(page.text);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, page.type);
    enum MHD_Result result = MHD_queue_response(connection, page.status, response);
    MHD_destroy_response(response);
    return result;
}

/* The first address that host:port means, port * being 0. */
static int resolve(const char *address, struct addrinfo **out, struct fault *fault)
{
    char host[CONFIG_ENDPOINT_BYTES];
    const struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    const char *colon = strrchr(address, ':'), *port = colon + 1;
    size_t n = (size_t)(colon - address);
    memcpy(host, address, n);
    host[n] = '\0';
    char *name = host;
    if (n > 2 && host[0] == '[' && host[n - 1] == ']') { /* IPv6 */
        host[n - 1] = '\0';
        name++;
    }
    bool any = strcmp(name, "*") == 0;
    int err = getaddrinfo(any ? NULL : name, strcmp(port, "*") == 0 ? "0" : port, &hints, out);
    return err ? fault_set(fault, ERR_IO, "http.address %s: %s", address, gai_strerror(err)) : 0;
}

int http_start(struct http **out, struct gateway *gateway, struct fault *fault)
{
    const char *address = gateway->config->http_address;
    struct addrinfo *where;
    *out = NULL;
    if (!address[0])
        return 0;
    int err = resolve(address, &where, fault);
    if (err)
        return err;
    struct http *http = calloc(1, sizeof *http);
    if (http) {
        http->gateway = gateway;
        unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | (where->ai_family == AF_INET6 ? MHD_USE_IPv6 : 0);
        http->server =
            MHD_start_daemon(flags, 0, NULL, NULL, answer, http, MHD_OPTION_SOCK_ADDR, where->ai_addr,
                             MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
                             (unsigned)IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)REQUEST_BYTES, MHD_OPTION_END);
    }
    freeaddrinfo(where);
    if (!http || !http->server) {
        free(http);
        return fault_set(fault, ERR_IO, "http.address %s: cannot listen there; is the port taken?", address);
    }
    log_event(gateway->log, LOG_INFO, "http", LOG_TEXT("address", address), LOG_COUNT("port", http_port(http)));
    *out = http;
    return 0;
}

void http_stop(struct http *http)
{
    if (!http)
        return;
    MHD_stop_daemon(http->server);
    free(http);
}

unsigned http_port(const struct http *http)
{
    const union MHD_DaemonInfo *info = http ? MHD_get_daemon_info(http->server, MHD_DAEMON_INFO_BIND_PORT) : NULL;
    return info ? info->port : 0;
}
