#include "client/exchange.h"

#include "base/clock.h"
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum {
    TICKET_BITS = 20, /* at most 2^20 messages in flight */
    TICKETS_AT_START = 64,
};

#define NO_TICKET ((size_t)-1)

static int grow_tickets(struct attnd_client *client)
{
    size_t n = client->n_tickets ? 2 * client->n_tickets : TICKETS_AT_START;
    if (n > (size_t)1 << TICKET_BITS)
        return ERR_NO_MEMORY;
    struct ticket *tickets = realloc(client->tickets, n * sizeof *tickets);
    if (!tickets)
        return ERR_NO_MEMORY;
    memset(tickets + client->n_tickets, 0, (n - client->n_tickets) * sizeof *tickets);
    for (size_t i = client->n_tickets; i < n; i++)
        tickets[i].next_free = i + 1 < n ? i + 1 : client->first_free;
    client->first_free = client->n_tickets;
    client->tickets = tickets;
    client->n_tickets = n;
    return 0;
}

int exchange_create(struct attnd_client *client, struct fault *fault)
{
    for (size_t i = 0; i < REPLY_FRAMES_MAX; i++)
        zmq_msg_init(&client->frame[i]);
    client->first_free = NO_TICKET;
    client->table = malloc(WIRE_PARTS_MAX * sizeof *client->table);
    if (!client->table || grow_tickets(client))
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a client");
    return 0;
}

void exchange_destroy(struct attnd_client *client)
{
    for (size_t i = 0; i < REPLY_FRAMES_MAX; i++)
        zmq_msg_close(&client->frame[i]);
    for (size_t i = 0; i < client->n_tickets; i++)
        free(client->tickets[i].first_token);
    free(client->tickets);
    free(client->table);
}

int ticket_create(struct attnd_client *client, uint32_t layer, struct attnd_part *parts, size_t n_parts, struct ticket **out,
                  struct fault *fault)
{
    if (client->first_free == NO_TICKET && grow_tickets(client))
        return fault_set(fault, ERR_NO_MEMORY, "%zu messages are in flight, and there is no room for more", client->in_flight);
    size_t place = client->first_free;
    struct ticket *ticket = &client->tickets[place];
    if (ticket->room < n_parts) {
        uint64_t *grown = realloc(ticket->first_token, n_parts * sizeof *grown);
        if (!grown)
            return fault_set(fault, ERR_NO_MEMORY, "no memory to send %zu parts", n_parts);
        ticket->first_token = grown;
        ticket->room = n_parts;
    }
    client->first_free = ticket->next_free;
    ticket->state = TICKET_SENT;
    ticket->id = ++client->n_messages << TICKET_BITS | place;
    ticket->layer = layer;
    ticket->parts = parts;
    ticket->n_parts = n_parts;
    ticket->err = 0;
    ticket->bytes = 0;
    client->in_flight++;
    *out = ticket;
    return 0;
}

struct ticket *ticket_find(struct attnd_client *client, uint64_t id)
{
    size_t place = id & (((size_t)1 << TICKET_BITS) - 1);
    if (place >= client->n_tickets)
        return NULL;
    struct ticket *ticket = &client->tickets[place];
    return ticket->state != TICKET_FREE && ticket->id == id ? ticket : NULL;
}

void ticket_answered(struct attnd_client *client, struct ticket *ticket)
{
    ticket->state = TICKET_ANSWERED;
    client->in_flight--;
    client->under_way -= ticket->bytes;
}

void ticket_release(struct attnd_client *client, struct ticket *ticket)
{
    if (ticket->state == TICKET_SENT)
        ticket_answered(client, ticket);
    ticket->state = TICKET_FREE;
    ticket->parts = NULL;
    ticket->next_free = client->first_free;
    client->first_free = (size_t)(ticket - client->tickets);
}

/* Sleeps until the socket can do one of `events` or the deadline is there. */
static int sleep_until(struct attnd_client *client, short events, double deadline, short *ready, struct fault *fault)
{
    double left = deadline - clock_seconds();
    *ready = 0;
    if (!(left > 0))
        return fault_set(fault, ERR_TIMEOUT, "no answer from %s in time", client->endpoint);
    zmq_pollitem_t item = {.socket = client->socket, .events = events};
    if (zmq_poll(&item, 1, (long)ceil(fmin(left, 3600) * 1e3)) < 0 && errno != EINTR)
        return fault_set(fault, ERR_IO, "waiting for %s: %s", client->endpoint, zmq_strerror(errno));
    *ready = item.revents;
    return 0;
}

static int receive_first(struct attnd_client *client, double deadline, struct fault *fault)
{
    double spin_end = 0;
    for (;;) {
        if (zmq_msg_recv(&client->frame[0], client->socket, ZMQ_DONTWAIT) >= 0)
            return 0;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return fault_set(fault, ERR_IO, "receiving from %s: %s", client->endpoint, zmq_strerror(errno));
        double now = clock_seconds();
        if (spin_end == 0)
            spin_end = now + (client->in_flight > 1 ? 0 : client->spin); /* of several, a wake-up brings more than one answer */
        if (now < spin_end && now < deadline) {
            sched_yield();
            continue;
        }
        short ready;
        int err = sleep_until(client, ZMQ_POLLIN, deadline, &ready, fault);
        if (err)
            return err;
    }
}

int exchange_receive(struct attnd_client *client, double deadline, int *control, struct fault *fault)
{
    *control = 0;
    int err = receive_first(client, deadline, fault);
    if (err)
        return err;

    /* ZeroMQ hands out whole messages: once the first frame is here, so are the others. */
    client->n_frames = 1;
    zmq_msg_t *last = &client->frame[0], surplus;
    zmq_msg_init(&surplus);
    while (zmq_msg_more(last)) {
        last = client->n_frames < REPLY_FRAMES_MAX ? &client->frame[client->n_frames] : &surplus;
        while (zmq_msg_recv(last, client->socket, 0) < 0)
            if (errno != EINTR) {
                zmq_msg_close(&surplus);
                return fault_set(fault, ERR_IO, "receiving from %s: %s", client->endpoint, zmq_strerror(errno));
            }
        client->n_frames++;
    }
    zmq_msg_close(&surplus);

    *control = control_is(zmq_msg_data(&client->frame[0]), zmq_msg_size(&client->frame[0]));
    if (!*control)
        reply_take(client);
    return 0;
}

static int send_frame(struct attnd_client *client, zmq_msg_t *frame, int flags)
{
    int sent;
    do
        sent = zmq_msg_send(frame, client->socket, flags);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? errno : 0;
}

int exchange_send(struct attnd_client *client, zmq_msg_t *frames, size_t n, double deadline, struct fault *fault)
{
    int err = 0;
    for (size_t i = 0; i < n && !err;) {
        int failed = send_frame(client, &frames[i], ZMQ_DONTWAIT | (i + 1 < n ? ZMQ_SNDMORE : 0));
        if (!failed) {
            i++;
        } else if (failed != EAGAIN) {
            err = fault_set(fault, ERR_IO, "sending to %s: %s", client->endpoint, zmq_strerror(failed));
        } else {
            short ready;
            int control;
            err = sleep_until(client, ZMQ_POLLIN | ZMQ_POLLOUT, deadline, &ready, fault);
            if (!err && ready & ZMQ_POLLIN)
                err = exchange_receive(client, deadline, &control, fault);
        }
    }
    for (size_t i = 0; i < n; i++)
        zmq_msg_close(&frames[i]); /* a frame that was sent is empty by now */
    return err;
}
