#include "config/live.h"

#include <stdio.h>
#include <string.h>

struct fixed {
    const char *key;
    enum { SOCKET, COUNT, NUMBER, TEXT } type;
    size_t offset, bytes;
};

#define FIXED(key, type, member)                                                                                               \
    {                                                                                                                          \
        key, type, offsetof(struct config, member), sizeof(((struct config *)0)->member)                                       \
    }

static const struct fixed table[] = {
    FIXED("ingest.endpoints", SOCKET, ingest),
    FIXED("outputs.endpoints", SOCKET, outputs),
    FIXED("telemetry.endpoints", SOCKET, telemetry),
    FIXED("telemetry.interval_seconds", NUMBER, telemetry_interval_seconds),
    FIXED("http.address", TEXT, http_address),
    FIXED("isa", TEXT, isa),
    FIXED("limits.message_bytes", COUNT, limits.message_bytes),
    FIXED("limits.streams", COUNT, limits.streams),
    FIXED("limits.subscriber_messages", COUNT, limits.subscriber_messages),
};

void config_keep_fixed(struct config *to, const struct config *running)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        memcpy((char *)to + table[i].offset, (const char *)running + table[i].offset, table[i].bytes);
}

static bool same_endpoints(const struct config_socket *a, const struct config_socket *b)
{
    bool same = a->n_endpoints == b->n_endpoints;
    for (size_t i = 0; i < a->n_endpoints && same; i++)
        same = strcmp(a->endpoint[i], b->endpoint[i]) == 0;
    return same;
}

static bool same(const struct fixed *f, const void *a, const void *b)
{
    switch (f->type) {
    case SOCKET: return same_endpoints(a, b);
    case COUNT: return *(const uint64_t *)a == *(const uint64_t *)b;
    case NUMBER: return *(const double *)a == *(const double *)b;
    case TEXT: return strcmp(a, b) == 0;
    }
    return true;
}

static void print(const struct fixed *f, const void *at, char *text, size_t size)
{
    switch (f->type) {
    case SOCKET: snprintf(text, size, "%.60s", ((const struct config_socket *)at)->endpoint[0]); break;
    case COUNT: snprintf(text, size, "%llu", (unsigned long long)*(const uint64_t *)at); break;
    case NUMBER: snprintf(text, size, "%g", *(const double *)at); break;
    case TEXT: snprintf(text, size, "%.60s", (const char *)at); break;
    }
}

int config_check_fixed(const struct config *running, const struct config *asked, struct fault *fault)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const void *is = (const char *)running + table[i].offset, *new = (const char *)asked + table[i].offset;
        char text[2][64];
        if (same(&table[i], is, new))
            continue;
        print(&table[i], is, text[0], sizeof text[0]);
        print(&table[i], new, text[1], sizeof text[1]);
        return fault_set(fault, ERR_INVALID, "%s cannot change while the daemon runs: it is %s, not %s", table[i].key, text[0],
                         text[1]);
    }
    return 0;
}
