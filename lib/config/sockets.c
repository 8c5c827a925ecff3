/* Endpoints: where the daemon's sockets lie. */
#include "config/section.h"

#include "base/runtime.h"
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

static const char form[] = "a list of endpoints like ipc://${runtime}/x.sock, tcp://127.0.0.1:5701 or inproc://name";

#define ENDPOINTS_FIELD(at, default_text, help_text)                                                                           \
    {                                                                                                                          \
        .key = {.name = "endpoints", .offset = at, .initial = default_text, .help = help_text}, .read = read_endpoints,        \
        .form = form                                                                                                           \
    }

static const struct field socket_fields[] = {
    ENDPOINTS_FIELD(0, "", "Where the socket is bound; at most 8."),
};
const struct section socket_section = {socket_fields, sizeof socket_fields / sizeof *socket_fields};

static const struct field telemetry_fields[] = {
    ENDPOINTS_FIELD(offsetof(struct config, telemetry), "", "Where the socket is bound; at most 8."),
    {.key = {"interval_seconds", KEY_NUMBER, offsetof(struct config, telemetry_interval_seconds), 0.01, 3600, "seconds", "1",
             "Time between two publications of the same topic.", NULL}},
};
const struct section telemetry_section = {telemetry_fields, sizeof telemetry_fields / sizeof *telemetry_fields};

/* host:port, port a number or * for one that the system chooses. */
static bool is_tcp_address(const char *address)
{
    const char *colon = strrchr(address, ':');
    if (!colon || colon == address)
        return false;
    const char *port = colon + 1;
    if (strcmp(port, "*") == 0)
        return true;
    uint64_t number, last;
    return strlen(port) <= 5 && parse_range(port, 65535, &number, &last) && number == last;
}

static const char http_form[] = "host:port like 127.0.0.1:9464, port 0 or * for any; empty: no HTTP";

static void read_address(struct reader *r, const struct node *node, const struct place *place, void *target)
{
    const char *text = expect_text(r, node, place, http_form);
    if (!text)
        return;
    if (*text && (strlen(text) >= CONFIG_ENDPOINT_BYTES || !is_tcp_address(text)))
        report_error(&r->reporter, node->line, place, NULL, "must be %s, not '%.120s'", http_form, text);
    else
        memcpy(target, text, strlen(text) + 1);
}

static const struct field http_fields[] = {
    {.key = {.name = "address",
             .offset = offsetof(struct config, http_address),
             .initial = "",
             .help = "Serves /metrics, /streams, /healthz and /readyz there."},
     .read = read_address,
     .form = http_form},
};
const struct section http_section = {http_fields, sizeof http_fields / sizeof *http_fields};

static bool is_ipc_path(const char *path)
{
    return *path && strlen(path) < sizeof((struct sockaddr_un *)0)->sun_path;
}

static bool is_name(const char *name)
{
    return *name != '\0';
}

static const struct {
    const char *prefix;
    bool (*is_address)(const char *);
    const char *needs;
} transports[] = {
    {"ipc://", is_ipc_path, "a path of at most 107 bytes after ipc://"},
    {"tcp://", is_tcp_address, "host:port after tcp://, the port a number up to 65535 or *"},
    {"inproc://", is_name, "a name after inproc://"},
};

static void read_endpoint(struct reader *r, const struct node *node, const struct place *place, struct config_socket *socket)
{
    char *out = socket->endpoint[socket->n_endpoints];
    const char *text = expect_text(r, node, place, "a text");
    if (!text)
        return;
    if (runtime_expand(text, out, CONFIG_ENDPOINT_BYTES)) {
        report_error(&r->reporter, node->line, place, NULL, "must be a text of at most %d bytes", CONFIG_ENDPOINT_BYTES - 1);
        return;
    }
    for (size_t i = 0; i < sizeof transports / sizeof *transports; i++) {
        size_t n = strlen(transports[i].prefix);
        if (strncmp(out, transports[i].prefix, n) != 0)
            continue;
        if (transports[i].is_address(out + n))
            socket->n_endpoints++;
        else
            report_error(&r->reporter, node->line, place, NULL, "needs %s, not '%.120s'", transports[i].needs, out);
        return;
    }
    report_error(&r->reporter, node->line, place, NULL, "must begin with ipc://, tcp:// or inproc://, not '%.120s'", text);
}

static struct config_socket *sockets(struct config *config, size_t i)
{
    return i == 0 ? &config->ingest : i == 1 ? &config->outputs : &config->telemetry;
}

static const char *const socket_names[] = {"ingest", "outputs", "telemetry"};
enum { N_SOCKETS = sizeof socket_names / sizeof *socket_names };

void read_endpoints(struct reader *r, const struct node *node, const struct place *place, void *target)
{
    struct config_socket *socket = target;
    size_t which = 0, index = 0;
    while (sockets(r->config, which) != socket)
        which++;
    if (!expect_list(r, node, place, form))
        return;
    socket->n_endpoints = 0;
    for (const struct node *child = node->child; child; child = child->next, index++) {
        struct place here = place_index(place, index);
        if (socket->n_endpoints == CONFIG_ENDPOINTS_MAX) {
            report_error(&r->reporter, child->line, &here, NULL, "is one too many; %d are allowed", CONFIG_ENDPOINTS_MAX);
            return;
        }
        r->endpoint_line[which][socket->n_endpoints] = child->line;
        read_endpoint(r, child, &here, socket);
    }
    if (which == 0 && index == 0)
        report_error(&r->reporter, node->line, place, NULL, "must have at least one endpoint, or nobody can reach the daemon");
}

/* A port that the system chooses is another one each time. */
static bool is_wildcard(const char *endpoint)
{
    size_t n = strlen(endpoint);
    return strcmp(endpoint, "ipc://*") == 0 || (strncmp(endpoint, "tcp://", 6) == 0 && n > 2 &&
                                                (strcmp(endpoint + n - 2, ":*") == 0 || strcmp(endpoint + n - 2, ":0") == 0));
}

void check_endpoints(struct reader *r)
{
    for (size_t a = 0; a < (size_t)N_SOCKETS * CONFIG_ENDPOINTS_MAX; a++)
        for (size_t b = 0; b < a; b++) {
            size_t sa = a / CONFIG_ENDPOINTS_MAX, ia = a % CONFIG_ENDPOINTS_MAX;
            size_t sb = b / CONFIG_ENDPOINTS_MAX, ib = b % CONFIG_ENDPOINTS_MAX;
            const struct config_socket *one = sockets(r->config, sa), *other = sockets(r->config, sb);
            if (ia >= one->n_endpoints || ib >= other->n_endpoints || strcmp(one->endpoint[ia], other->endpoint[ib]) != 0 ||
                is_wildcard(one->endpoint[ia]))
                continue;
            /* Tell it where this file says it; the other place may be a default. */
            if (!r->endpoint_line[sa][ia]) {
                size_t s = sa, i = ia;
                sa = sb, ia = ib, sb = s, ib = i;
            }
            char key[32];
            snprintf(key, sizeof key, "endpoints[%zu]", ia);
            struct place place = place_key(NULL, socket_names[sa]);
            report_error(&r->reporter, r->endpoint_line[sa][ia], &place, key, "'%.120s' is taken by %s.endpoints[%zu]%s",
                         one->endpoint[a % CONFIG_ENDPOINTS_MAX], socket_names[sb], ib,
                         r->endpoint_line[sb][ib] ? "" : " (the default)");
        }
}
