/* The daemon as a carrier: the client library, one connection. */
#include "tools/feed/carrier.h"

#include <stdio.h>
#include <stdlib.h>

struct remote {
    struct carrier base;
    struct attnd_client *client; /* NULL after a connection could not be made anew */
    const char *endpoint;
    bool past_credit;
    double spin, timeout;
};

static int connect_daemon(struct remote *r, struct fault *fault)
{
    int err = attnd_connect(&r->client, r->endpoint, NULL, fault);
    if (err)
        return err;
    attnd_set_spin(r->client, r->spin);
    attnd_set_timeout(r->client, r->timeout);
    attnd_set_past_credit(r->client, r->past_credit);
    snprintf(r->base.isa, sizeof r->base.isa, "%s", attnd_hello(r->client)->isa);
    return 0;
}

static int open_remote(struct carrier *carrier, const char *name, const struct shape *shape, const char *profile, bool resume,
                       struct attnd_stream *stream, struct fault *fault)
{
    return attnd_open(((struct remote *)carrier)->client, name, shape, profile, resume, stream, fault);
}

static int close_remote(struct carrier *carrier, struct attnd_stream *stream, struct control_close *last, struct fault *fault)
{
    struct attnd_client *client = ((struct remote *)carrier)->client;
    if (client)
        return attnd_close(client, stream, last, fault);
    attnd_forget(stream);
    return fault_set(fault, ERR_IO, "the connection is lost, and the stream may still be open");
}

static int send_remote(struct carrier *carrier, struct flight *flight, struct fault *fault)
{
    return attnd_send(((struct remote *)carrier)->client, flight->layer, flight->part, flight->n, &flight->ticket, fault);
}

static int receive_remote(struct carrier *carrier, double seconds, struct fault *fault)
{
    return attnd_receive(((struct remote *)carrier)->client, seconds, fault);
}

static bool answered_remote(struct carrier *carrier, struct flight *flight)
{
    return attnd_answered(((struct remote *)carrier)->client, flight->ticket);
}

static int take_remote(struct carrier *carrier, struct flight *flight, struct fault *fault)
{
    return attnd_wait(((struct remote *)carrier)->client, flight->ticket, fault);
}

static int confirm_remote(struct carrier *carrier, struct attnd_stream *stream, struct fault *fault)
{
    return attnd_confirm(((struct remote *)carrier)->client, stream, fault);
}

static int renew_remote(struct carrier *carrier, struct fault *fault)
{
    struct remote *r = (struct remote *)carrier;
    attnd_disconnect(r->client);
    r->client = NULL;
    return connect_daemon(r, fault);
}

static void destroy_remote(struct carrier *carrier)
{
    struct remote *r = (struct remote *)carrier;
    attnd_disconnect(r->client);
    free(r);
}

static const struct carrier_ops ops_remote = {open_remote, close_remote,   send_remote,  receive_remote, answered_remote,
                                              take_remote, confirm_remote, renew_remote, destroy_remote};

int carrier_remote_create(struct carrier **out, const char *endpoint, bool past_credit, double spin, double timeout,
                          struct fault *fault)
{
    struct remote *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r)
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a connection");
    *r = (struct remote){
        .base = {.ops = &ops_remote}, .endpoint = endpoint, .past_credit = past_credit, .spin = spin, .timeout = timeout};
    int err = connect_daemon(r, fault);
    if (err) {
        destroy_remote(&r->base);
        return err;
    }
    *out = &r->base;
    return 0;
}
