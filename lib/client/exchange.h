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
    size_t bytes;          /* of the message and its reply */
    int err;               /* ANSWERED: 0, or why the message as a whole came to nothing */
    struct fault fault;
    size_t next_free;
};

/* What the daemon still keeps of a stream's replies, as far as this client knows. Shared by the client and the stream, which may go
 * in any order: whoever goes last frees it. */
struct attnd_account {
    bool of_client, of_stream;
    uint64_t id;                /* of the stream */
    size_t n_layers, reply_row; /* bytes of one token's reply: outputs and lse */
    uint64_t *confirmed;        /* (n_layers): replies received up to here */
    uint64_t *told;             /* (n_layers): what the daemon was told of it last */
    uint64_t *gone;             /* (n_layers): the most that it ever was told: kept no more */
    struct attnd_account *next;
};

struct attnd_client {
    void *context, *socket;
    int owns_context;
    struct control_hello hello;
    double timeout, spin; /* seconds */
    uint64_t n_controls;  /* ids of control requests count up from 1 */
    uint64_t n_messages;
    struct attnd_account *accounts; /* of its streams */
    size_t credit;                  /* bytes that may be outstanding, as last told; 0: not told */
    bool past_credit;               /* it is not kept to */
    size_t under_way;               /* bytes of messages not answered and of their replies */
    size_t kept;                    /* bytes of replies that arrived and were not confirmed */

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
struct ticket *ticket_find(struct attnd_client *client, uint64_t id);     /* NULL when there is none */
void ticket_answered(struct attnd_client *client, struct ticket *ticket); /* it was SENT */
void ticket_release(struct attnd_client *client, struct ticket *ticket);

/* A new account, all of whose layers are confirmed up to next_token; NULL when memory is out. */
struct attnd_account *credit_account(struct attnd_client *client, uint64_t stream, const struct shape *shape,
                                     const uint64_t *next_token);
void credit_leave_stream(struct attnd_account *account); /* NULL is allowed */
void credit_leave_client(struct attnd_client *client);

/* A layer's replies have arrived up to this token; the caller gave them back when it is less than before. */
void credit_received(struct attnd_client *client, struct attnd_account *account, uint32_t layer, uint64_t upto);
/* The daemon is told so, or was. */
void credit_told(struct attnd_client *client, struct attnd_account *account, uint32_t layer);

/* The replies to tokens first .. end - 1 are not kept: if that is because they were confirmed once, they are again, so that they do
 * not hold up what comes behind them. */
void credit_not_kept(struct attnd_client *client, struct attnd_account *account, uint32_t layer, uint64_t first, uint64_t end);

/* Waits until a message that has so many bytes together with its reply is within the credit: confirms what has arrived, if that
 * makes room, else reads replies. ERR_TIMEOUT, ERR_IO. */
int credit_wait(struct attnd_client *client, size_t bytes, double deadline, struct fault *fault);

/* What tells the daemon what was received of a stream. */
void credit_request(struct control_request *request, const struct attnd_account *account);

/* Hands the reply in client->frame to its ticket. */
void reply_take(struct attnd_client *client);

#endif
