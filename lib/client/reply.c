/* What a data reply does to its ticket: outputs into the caller's parts, refusals into their faults, indices into their streams. */
#include "client/exchange.h"

#include <stdlib.h>
#include <string.h>

static const void *frame_data(struct attnd_client *client, size_t i)
{
    return zmq_msg_data(&client->frame[i]);
}

static size_t frame_bytes(struct attnd_client *client, size_t i)
{
    return zmq_msg_size(&client->frame[i]);
}

static size_t out_bytes(const struct attnd_part *part)
{
    const struct shape *shape = part->stream->shape;
    return (size_t)part->n_tokens * shape->heads * shape->value_dim * sizeof(float);
}

static size_t lse_bytes(const struct attnd_part *part)
{
    return (size_t)part->n_tokens * part->stream->shape->heads * sizeof(float);
}

/* The frames after the first, by kind; 0 where a kind is absent. */
struct reply_frames {
    size_t outputs, lse, faults;
};

static int find_frames(const struct attnd_client *client, const struct wire_header *header, struct reply_frames *frames)
{
    size_t n = 1;
    if (header->frames & WIRE_HAS_OUTPUTS)
        frames->outputs = n++;
    if (header->frames & WIRE_HAS_LSE)
        frames->lse = n++;
    if (header->frames & WIRE_HAS_FAULTS)
        frames->faults = n++;
    return n == client->n_frames ? 0 : ERR_MALFORMED;
}

/* Everything that must hold before a byte is copied: the reply answers these parts, and its frames have their bytes. */
static int check_reply(struct attnd_client *client, const struct ticket *ticket, const struct wire_header *header,
                       const struct reply_frames *frames, struct fault *fault)
{
    size_t outputs = 0, lse = 0;
    if (header->n_parts != ticket->n_parts)
        return fault_set(fault, ERR_MALFORMED, "the reply has %u parts, the message had %zu", header->n_parts, ticket->n_parts);
    for (size_t i = 0; i < ticket->n_parts; i++) {
        const struct wire_part *said = &client->table[i];
        const struct attnd_part *part = &ticket->parts[i];
        if (said->stream != part->stream->id)
            return fault_set(fault, ERR_MALFORMED, "part %zu of the reply is of stream %llu, sent was %llu", i,
                             (unsigned long long)said->stream, (unsigned long long)part->stream->id);
        if (said->status || !(part->flags & WIRE_ATTEND))
            continue;
        if (said->n_tokens != part->n_tokens)
            return fault_set(fault, ERR_MALFORMED, "part %zu of the reply has outputs of %u tokens, asked were %u", i,
                             said->n_tokens, part->n_tokens);
        outputs += out_bytes(part);
        if (part->flags & WIRE_PARTIAL)
            lse += lse_bytes(part);
    }
    if (outputs != (frames->outputs ? frame_bytes(client, frames->outputs) : 0))
        return fault_set(fault, ERR_MALFORMED, "the reply's outputs do not have the %zu bytes that its parts need", outputs);
    if (lse != (frames->lse ? frame_bytes(client, frames->lse) : 0))
        return fault_set(fault, ERR_MALFORMED, "the reply's lse does not have the %zu bytes that its parts need", lse);
    return 0;
}

/* A refused append was not applied: the stream goes on where the daemon says, or where this part began. */
static void step_back(const struct ticket *ticket, size_t i, uint64_t expected, int err)
{
    const struct attnd_part *part = &ticket->parts[i];
    if (!(part->flags & WIRE_APPEND))
        return;
    uint64_t *next = &part->stream->next[ticket->layer];
    if (err == ERR_NOT_KEPT) /* it was applied once, and what was sent behind it stands */
        *next = expected > *next ? expected : *next;
    else if (err == ERR_WRONG_INDEX || err == ERR_BUSY)
        *next = expected;
    else if (*next > ticket->first_token[i])
        *next = ticket->first_token[i];
}

/* The message came to nothing: every part says why. */
static void fail_ticket(struct ticket *ticket, const struct fault *fault)
{
    ticket->err = fault->err;
    ticket->fault = *fault;
    for (size_t i = 0; i < ticket->n_parts; i++)
        ticket->parts[i].fault = *fault;
}

static void refuse_whole(struct attnd_client *client, struct ticket *ticket, const struct reply_frames *frames)
{
    struct part_fault said;
    size_t n = 0;
    if (frames->faults)
        control_decode_faults(frame_data(client, frames->faults), frame_bytes(client, frames->faults), &said, 1, &n);
    if (n == 0)
        fault_set(&said.fault, ERR_MALFORMED, "the daemon refused the message without a reason");
    for (size_t i = 0; i < ticket->n_parts; i++)
        step_back(ticket, i, ticket->first_token[i], said.fault.err);
    fail_ticket(ticket, &said.fault);
}

/* Copies what the parts asked for and moves their streams on. */
static void take_parts(struct attnd_client *client, struct ticket *ticket, const struct reply_frames *frames)
{
    const char *outputs = frames->outputs ? frame_data(client, frames->outputs) : NULL;
    const char *lse = frames->lse ? frame_data(client, frames->lse) : NULL;
    for (size_t i = 0; i < ticket->n_parts; i++) {
        struct attnd_part *part = &ticket->parts[i];
        const struct wire_part *said = &client->table[i];
        int err = wire_status_err(said->status);
        if (err) {
            fault_set(&part->fault, err, "%s", err_sentence(err));
            if (err == ERR_WRONG_INDEX || err == ERR_BUSY)
                part->fault.expected = said->position;
            step_back(ticket, i, said->position, err);
            if (err == ERR_NOT_KEPT)
                credit_not_kept(client, part->stream->account, ticket->layer, ticket->first_token[i],
                                ticket->first_token[i] + part->n_tokens);
            continue;
        }
        if (part->flags & WIRE_ATTEND && outputs) { /* check_reply has seen to it that they are there */
            memcpy(part->out, outputs, out_bytes(part));
            outputs += out_bytes(part);
        }
        if (part->flags & WIRE_PARTIAL && lse) {
            memcpy(part->lse, lse, lse_bytes(part));
            lse += lse_bytes(part);
        }
        /* Confirmed goes up only without holes: outputs that were given up on may still be asked for. */
        uint64_t confirmed = part->stream->confirmed[ticket->layer], first = ticket->first_token[i];
        if ((part->flags & WIRE_APPEND) && first <= confirmed && confirmed < first + part->n_tokens)
            credit_received(client, part->stream->account, ticket->layer, first + part->n_tokens);
    }
}

/* The daemon's own words for refused parts, in place of the general sentence. */
static void take_sentences(struct attnd_client *client, struct ticket *ticket, size_t frame)
{
    size_t n = 0;
    struct part_fault *said = malloc(ticket->n_parts * sizeof *said);
    if (!said)
        return;
    control_decode_faults(frame_data(client, frame), frame_bytes(client, frame), said, ticket->n_parts, &n);
    for (size_t i = 0; i < n; i++) {
        struct fault *fault = said[i].part < ticket->n_parts ? &ticket->parts[said[i].part].fault : NULL;
        if (fault && fault->err == said[i].fault.err)
            memcpy(fault->text, said[i].fault.text, sizeof fault->text);
    }
    free(said);
}

static void drop_frames(struct attnd_client *client)
{
    for (size_t i = 0; i < REPLY_FRAMES_MAX; i++) {
        zmq_msg_close(&client->frame[i]);
        zmq_msg_init(&client->frame[i]);
    }
}

void reply_take(struct attnd_client *client)
{
    struct wire_header header;
    struct reply_frames frames = {0};
    struct fault fault;
    int err = wire_decode(frame_data(client, 0), frame_bytes(client, 0), &header, client->table, WIRE_PARTS_MAX, &fault);
    struct ticket *ticket = ticket_find(client, header.id);
    if (!err && header.credit)
        client->credit = (size_t)header.credit * 1024;
    if (!ticket || ticket->state != TICKET_SENT) {
        drop_frames(client); /* the answer to a message that nobody waits for any more */
        return;
    }
    if (!err && (header.type != WIRE_REPLY || find_frames(client, &header, &frames)))
        err = fault_set(&fault, ERR_MALFORMED, "the reply does not have the frames that it says");
    if (!err && header.n_parts == 0)
        refuse_whole(client, ticket, &frames);
    else if (err || check_reply(client, ticket, &header, &frames, &fault))
        fail_ticket(ticket, &fault);
    else {
        take_parts(client, ticket, &frames);
        if (frames.faults)
            take_sentences(client, ticket, frames.faults);
    }
    ticket_answered(client, ticket);
    drop_frames(client);
}
