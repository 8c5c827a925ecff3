/* Limits: what bounds the daemon's work and memory. */
#include "config/section.h"

#define LIMIT(key_name, min, max, unit, initial, help)                                                                         \
    {                                                                                                                          \
        .key = { #key_name, KEY_COUNT, offsetof(struct config_limits, key_name), min, max, unit, initial, help, NULL }         \
    }

static const struct field limits_fields[] = {
    LIMIT(message_bytes, 4096, 0x1p36, "bytes", "256 MiB", "Size of one message, all frames together."),
    LIMIT(parts, 1, 4096, "parts", "1024", "Parts (streams) in one message; the wire format allows 4096."),
    LIMIT(tokens_per_message, 1, 0x1p24, "tokens", "65536", "Tokens in one part of a message."),
    LIMIT(streams, 1, 0x1p20, "streams", "16384", "Streams open at once."),
    LIMIT(heads, 1, 0x1p30, "heads", "1048576", "Heads of all open streams: layers times kv heads."),
    LIMIT(credit_bytes, 4096, 0x1p40, "bytes", "256 MiB",
          "Bytes that one connection may have outstanding: messages that wait or run, and replies not confirmed."),
    LIMIT(queued_bytes, 4096, 0x1p44, "bytes", "1 GiB", "Bytes of all connections' messages that may wait or run."),
    LIMIT(lease_seconds, 0, 0x1p31, "seconds", "300", "How long a stream stays open whose producer is gone; 0: for ever."),
    LIMIT(subscriber_messages, 1, 0x1p24, "messages", "1000",
          "Messages that may wait for one subscriber before it loses some."),
    LIMIT(memory_bytes, 0, 0x1p50, "bytes", "0", "Bytes of all caches, messages under way and replies kept; 0: no limit."),
};
const struct section limits_section = {limits_fields, sizeof limits_fields / sizeof *limits_fields};

/* A message of the largest size that is allowed must also be possible. */
static void check_room(struct reader *r, const struct node *node, const struct place *place, const char *key, uint64_t room)
{
    uint64_t needed = r->config->limits.message_bytes;
    const struct node *at = node_find(node, key);
    if (!at)
        at = node_find(node, "message_bytes");
    if (room < needed)
        report_error(&r->reporter, at ? at->line : node->line, place, key,
                     "must be at least message_bytes (%llu), not %llu, or the largest message never gets through",
                     (unsigned long long)needed, (unsigned long long)room);
}

void read_limits(struct reader *r, const struct node *node, const struct place *place, void *target)
{
    struct config_limits *limits = target;
    section_read(r, node, place, &limits_section, limits, NULL);
    check_room(r, node, place, "credit_bytes", limits->credit_bytes);
    check_room(r, node, place, "queued_bytes", limits->queued_bytes);
}
