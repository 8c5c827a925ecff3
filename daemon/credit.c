#include "daemon/credit.h"

void credit_take(struct gateway *gateway, struct message *message)
{
    struct connection *connection = message->connection;
    message->promised_bytes = message->buffer ? message->buffer->n * sizeof(float) : 0;
    connection->queued_bytes += message->bytes;
    connection->promised_bytes += message->promised_bytes;
    gateway->promised_bytes += message->promised_bytes;
    gateway->queued_bytes += message->bytes;
    atomic_store(&gateway->counters.queued_bytes, gateway->queued_bytes);
}

void credit_release_input(struct gateway *gateway, struct message *message)
{
    message->connection->queued_bytes -= message->bytes;
    gateway->queued_bytes -= message->bytes;
    atomic_store(&gateway->counters.queued_bytes, gateway->queued_bytes);
}

void credit_release_reply(struct gateway *gateway, struct message *message)
{
    gateway->promised_bytes -= message->promised_bytes;
    message->connection->promised_bytes -= message->promised_bytes;
    message->promised_bytes = 0;
}

size_t credit_memory_left(const struct gateway *gateway)
{
    uint64_t limit = gateway->config->limits.memory_bytes;
    size_t taken = gateway->reserved_bytes + gateway->queued_bytes + gateway->promised_bytes +
                   (size_t)atomic_load(&gateway->counters.kept_reply_bytes);
    return !limit ? SIZE_MAX : taken < limit ? (size_t)limit - taken : 0;
}

size_t credit_bytes(const struct gateway *gateway)
{
    const struct config_limits *limits = &gateway->config->limits;
    size_t at_work = gateway->streams.connections.n_at_work, share = (size_t)limits->queued_bytes / (at_work ? at_work : 1);
    return share < limits->credit_bytes ? share : (size_t)limits->credit_bytes;
}

int credit_check(const struct gateway *gateway, struct message_part *part, bool resent)
{
    const struct message *message = part->message;
    const struct connection *connection = message->connection;
    size_t credit = credit_bytes(gateway), own = message->bytes + message->promised_bytes;
    size_t under_way = connection->queued_bytes + connection->promised_bytes - own, kept = resent ? 0 : connection->kept_bytes;
    uint64_t limit = gateway->config->limits.queued_bytes;
    int err = 0;
    if (connection_unread(connection) > credit)
        err =
            fault_set(&part->fault, ERR_BUSY, "%zu bytes of replies are not read yet, the credit is %zu (limits.credit_bytes)",
                      connection_unread(connection), credit);
    else if (under_way + kept && under_way + kept + own > credit)
        err = fault_set(&part->fault, ERR_BUSY,
                        "%zu bytes on top of %zu under way and %zu of replies not confirmed, the credit is %zu "
                        "(limits.credit_bytes)",
                        own, under_way, kept, credit);
    else if (gateway->queued_bytes > message->bytes && gateway->queued_bytes > limit)
        err = fault_set(&part->fault, ERR_BUSY, "%zu bytes are queued in all, the limit is %llu (limits.queued_bytes)",
                        gateway->queued_bytes, (unsigned long long)limit);
    part->fault.expected = err ? part->wire.first_token : 0; /* in turn, or a resend */
    return err;
}

static void count_kept(struct gateway *gateway, struct stream *stream, size_t more, size_t less)
{
    stream->kept_bytes += more - less;
    stream->writer->kept_bytes += more - less;
    atomic_fetch_add(&gateway->counters.kept_reply_bytes, (uint64_t)more - less);
}

void credit_confirm(struct gateway *gateway, struct stream *stream, uint32_t layer, uint64_t received)
{
    size_t dropped = replies_confirm(&stream->replies[layer], received);
    if (dropped)
        count_kept(gateway, stream, 0, dropped);
}

void credit_keep(struct gateway *gateway, struct message_part *part)
{
    struct replies *replies = &part->stream->replies[part->message->header.layer];
    count_kept(gateway, part->stream,
               replies_keep(replies, part->wire.first_token, part->wire.n_tokens, part->message->buffer, part->out_at,
                            message_part_outputs(part), part->lse_at, message_part_lse(part)),
               0);
}
