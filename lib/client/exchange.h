/* Exchange: messages of one client on their way out and back. Inside lib/client only.
 *
 * A ticket is one data message that was sent and not yet waited for. Tickets live in an array that doubles when it is full; the
 * id on the wire holds the ticket's place in its low bits and a count above them, so a reply finds its ticket at once and a late
 * reply to a ticket that is gone matches none.
 * Threads: everything belongs to the thread that uses the client. */
#ifndef ATTND_CLIENT_EXCHANGE_H
#define ATTND_CLIENT_EXCHANGE_H

#include "client/attnd_client.h"
#include <zmq.h>

enum { REPLY_FRAMES_MAX = 4 }; /* frame 0, outputs, lse, faults */

enum ticket_state { TICKET_FREE, TICKET_SENT, TICKET_ANSWERED };

struct ticket {
    enum ticket_state state;
    uint64_t id;
    uint32_t layer;
    struct attnd_part *parts; /* the caller's; touched only while SENT */
    size_t n_parts;
    uint64_t *first_token; /* (n_parts) as sent */
    size_t room;           /* of first_token */
    int err;               /* ANSWERED: 0, or why the message as a whole came to nothing */
    struct fault fault;
    size_t next_free;
};

struct attnd_client {
    void *context, *socket;
    int owns_context;
    struct control_hello hello;
    double timeout, spin; /* seconds */
    uint64_t n_controls;  /* ids of control requests count up from 1 */
    uint64_t n_messages;

    struct ticket *tickets; /* (n_tickets) */
    size_t n_tickets, first_free, in_flight;

    struct wire_part *table;           /* (WIRE_PARTS_MAX) of the message being sent or read */
    zmq_msg_t frame[REPLY_FRAMES_MAX]; /* of the message read last */
    size_t n_frames;                   /* more than REPLY_FRAMES_MAX: the others were dropped */
    char endpoint[CONTROL_ENDPOINT_BYTES];
};

int exchange_create(struct attnd_client *client, struct fault *fault);
void exchange_destroy(struct attnd_client *client);

/* Sends n frames as one message. While the way out is full, replies are read, so that neither side waits for the other. Takes the
 * frames: they are closed or sent. */
int exchange_send(struct attnd_client *client, zmq_msg_t *frames, size_t n, double deadline, struct fault *fault);

/* Reads one message. A data reply is handed to its ticket; control says whether it was a control reply, which then lies in
 * client->frame[0]. ERR_TIMEOUT, ERR_IO. deadline: clock_seconds(). */
int exchange_receive(struct attnd_client *client, double deadline, int *control, struct fault *fault);

/* A new ticket for these parts; ERR_NO_MEMORY. */
int ticket_create(struct attnd_client *client, uint32_t layer, struct attnd_part *parts, size_t n_parts, struct ticket **out,
                  struct fault *fault);
struct ticket *ticket_find(struct attnd_client *client, uint64_t id); /* NULL when there is none */
void ticket_release(struct attnd_client *client, struct ticket *ticket);

/* Hands the reply in client->frame to its ticket. */
void reply_take(struct attnd_client *client);

#endif
