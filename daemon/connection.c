#include "daemon/connection.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ unread replies */

/* What a frame leaves behind: who it was for, and how much. */
struct receipt {
    struct outbox *outbox;
    size_t bytes;
    char *text;  /* malloc'd, or NULL: */
    char data[]; /* the frame's own */
};

static void outbox_release(struct outbox *outbox)
{
    if (atomic_fetch_sub(&outbox->refs, 1) == 1)
        free(outbox);
}

static void done(void *data, void *hint)
{
    struct receipt *receipt = hint;
    (void)data;
    atomic_fetch_sub(&receipt->outbox->unread, receipt->bytes);
    outbox_release(receipt->outbox);
    free(receipt->text);
    free(receipt);
}

static int make_frame(struct connection *connection, size_t n, char *text, size_t bytes, zmq_msg_t *frame)
{
    struct receipt *receipt = malloc(sizeof *receipt + (text ? 0 : n));
    if (!receipt) {
        free(text);
        return -1;
    }
    receipt->outbox = connection->outbox;
    receipt->bytes = bytes;
    receipt->text = text;
    atomic_fetch_add(&receipt->outbox->refs, 1);
    atomic_fetch_add(&receipt->outbox->unread, bytes);
    if (zmq_msg_init_data(frame, text ? text : receipt->data, n, done, receipt) == 0)
        return 0;
    done(NULL, receipt);
    return -1;
}

int connection_frame(struct connection *connection, size_t n, size_t bytes, zmq_msg_t *frame)
{
    return make_frame(connection, n, NULL, bytes, frame);
}

int connection_text(struct connection *connection, char *text, size_t bytes, zmq_msg_t *frame)
{
    return make_frame(connection, text ? strlen(text) : 0, text, bytes, frame);
}

size_t connection_unread(const struct connection *connection)
{
    return atomic_load(&connection->outbox->unread);
}

/* ------------------------------------------------------------------ the table */

static int by_identity(const void *a, const void *b)
{
    const struct connection *x = a, *y = b;
    if (x->n_identity != y->n_identity)
        return x->n_identity < y->n_identity ? -1 : 1;
    return memcmp(x->identity, y->identity, x->n_identity);
}

static struct connection *add(struct connections *connections, const struct connection *key)
{
    struct connection *connection = malloc(sizeof *connection);
    struct outbox *outbox = malloc(sizeof *outbox);
    if (connection && outbox) {
        *connection = *key;
        connection->outbox = outbox;
        atomic_init(&outbox->unread, 0);
        atomic_init(&outbox->refs, 1);
        if (tsearch(connection, &connections->tree, by_identity)) {
            connection->after = connections->first;
            if (connections->first)
                connections->first->before = connection;
            connections->first = connection;
            return connection;
        }
    }
    free(connection);
    free(outbox);
    return NULL;
}

static void forget(struct connections *connections, struct connection *connection)
{
    tdelete(connection, &connections->tree, by_identity);
    if (connection->before)
        connection->before->after = connection->after;
    else
        connections->first = connection->after;
    if (connection->after)
        connection->after->before = connection->before;
    if (connections->last_found == connection)
        connections->last_found = NULL;
    outbox_release(connection->outbox);
    free(connection);
}

struct connection *connections_hold(struct connections *connections, const void *identity, size_t n)
{
    struct connection *last = connections->last_found;
    if (!last || last->n_identity != n || memcmp(last->identity, identity, n) != 0) {
        struct connection key = {.n_identity = n};
        if (n > sizeof key.identity)
            return NULL;
        memcpy(key.identity, identity, n);
        void *node = tfind(&key, &connections->tree, by_identity);
        last = node ? *(struct connection **)node : add(connections, &key);
        if (!last)
            return NULL;
        connections->last_found = last;
    }
    last->n_holds++;
    return last;
}

void connection_hold(struct connection *connection)
{
    connection->n_holds++;
}

void connections_release(struct connections *connections, struct connection *connection)
{
    if (--connection->n_holds == 0 && connection_unread(connection) == 0)
        forget(connections, connection);
}

void connections_message_begins(struct connections *connections, struct connection *connection)
{
    connection->n_holds++;
    connections->n_at_work += connection->n_messages++ == 0;
}

void connections_message_ends(struct connections *connections, struct connection *connection)
{
    connections->n_at_work -= --connection->n_messages == 0;
    connections_release(connections, connection);
}

void connections_sweep(struct connections *connections)
{
    for (struct connection *at = connections->first, *after; at; at = after) {
        after = at->after;
        if (at->n_holds == 0 && connection_unread(at) == 0)
            forget(connections, at);
    }
}

void connections_finish(struct connections *connections)
{
    while (connections->first)
        forget(connections, connections->first);
}
