#include "base/clock.h"
#include "base/runtime.h"
#include "client/exchange.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double connect_seconds = 5, timeout_seconds = 30, spin_seconds = 50e-6;

/* Milliseconds that a socket goes on sending what is queued after it was closed. */
enum { LINGER_MS = 1000 };

static double deadline_of(const struct attnd_client *client)
{
    return clock_seconds() + client->timeout;
}

static int open_socket(struct attnd_client *client, void *context, struct fault *fault)
{
    client->owns_context = !context;
    client->context = context ? context : zmq_ctx_new();
    client->socket = client->context ? zmq_socket(client->context, ZMQ_DEALER) : NULL;
    if (!client->socket)
        return fault_set(fault, ERR_IO, "a ZeroMQ socket cannot be made: %s", zmq_strerror(errno));

    /* Replies are as many as messages in flight, so they need no mark of their own; messages keep ZeroMQ's default. */
    int linger = 0, no_mark = 0;
    zmq_setsockopt(client->socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(client->socket, ZMQ_RCVHWM, &no_mark, sizeof no_mark);
    if (zmq_connect(client->socket, client->endpoint) != 0)
        return fault_set(fault, ERR_IO, "%s: %s", client->endpoint, zmq_strerror(errno));
    return 0;
}

static int find_endpoint(struct attnd_client *client, const char *endpoint, void *context, struct fault *fault)
{
    if (!endpoint) {
        if (runtime_ingest(client->endpoint, sizeof client->endpoint))
            return fault_set(fault, ERR_TOO_LARGE, "the path of the user's runtime folder is too long");
        return 0;
    }
    if (strlen(endpoint) >= sizeof client->endpoint)
        return fault_set(fault, ERR_TOO_LARGE, "the endpoint has %zu bytes, at most %zu are allowed", strlen(endpoint),
                         sizeof client->endpoint - 1);
    if (!context && strncmp(endpoint, "inproc:", 7) == 0)
        return fault_set(fault, ERR_INVALID, "%s needs the ZeroMQ context that the daemon was started with", endpoint);
    memcpy(client->endpoint, endpoint, strlen(endpoint) + 1);
    return 0;
}

/* Sends a control request and waits for its answer, which then lies in client->frame[0]. */
static int control_call(struct attnd_client *client, struct control_request *request, struct fault *fault)
{
    double deadline = deadline_of(client);
    request->id = ++client->n_controls;
    char *text = control_encode_request(request);
    zmq_msg_t frame;
    if (!text || zmq_msg_init_size(&frame, strlen(text))) {
        free(text);
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a request");
    }
    memcpy(zmq_msg_data(&frame), text, strlen(text));
    free(text);
    int err = exchange_send(client, &frame, 1, deadline, fault);
    while (!err) {
        int control;
        uint64_t id;
        err = exchange_receive(client, deadline, &control, fault);
        if (!err && control && control_peek_id(zmq_msg_data(&client->frame[0]), zmq_msg_size(&client->frame[0]), &id) == 0 &&
            id == request->id)
            return 0;
    }
    return err;
}

static int say_hello(struct attnd_client *client, struct fault *fault)
{
    uint64_t id;
    struct control_request *request = calloc(1, sizeof *request);
    if (!request)
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a request");
    request->op = CONTROL_HELLO;
    request->version = WIRE_VERSION;
    int err = control_call(client, request, fault);
    free(request);
    if (err)
        return err;
    err = control_decode_hello(zmq_msg_data(&client->frame[0]), zmq_msg_size(&client->frame[0]), &id, &client->hello, fault);
    if (!err && client->hello.protocol != WIRE_VERSION)
        err = fault_set(fault, ERR_VERSION, "the daemon speaks protocol %u, this client %d", client->hello.protocol,
                        WIRE_VERSION);
    return err;
}

int attnd_connect(struct attnd_client **out, const char *endpoint, void *zmq_context, struct fault *fault)
{
    *out = NULL;
    struct attnd_client *client = calloc(1, sizeof *client);
    if (!client)
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a client");
    client->timeout = connect_seconds;
    client->spin = spin_seconds;
    int err = exchange_create(client, fault);
    if (!err)
        err = find_endpoint(client, endpoint, zmq_context, fault);
    if (!err)
        err = open_socket(client, zmq_context, fault);
    if (!err)
        err = say_hello(client, fault);
    if (err) {
        attnd_disconnect(client);
        return err;
    }
    int linger = LINGER_MS;
    zmq_setsockopt(client->socket, ZMQ_LINGER, &linger, sizeof linger);
    client->timeout = timeout_seconds;
    client->credit = (size_t)client->hello.credit_bytes;
    *out = client;
    return 0;
}

void attnd_disconnect(struct attnd_client *client)
{
    if (!client)
        return;
    exchange_destroy(client);
    credit_leave_client(client);
    if (client->socket)
        zmq_close(client->socket);
    if (client->owns_context && client->context)
        zmq_ctx_term(client->context);
    free(client);
}

const struct control_hello *attnd_hello(const struct attnd_client *client)
{
    return &client->hello;
}

void attnd_set_timeout(struct attnd_client *client, double seconds)
{
    client->timeout = seconds > 0 ? seconds : 0;
}

void attnd_set_spin(struct attnd_client *client, double seconds)
{
    client->spin = seconds > 0 ? seconds : 0;
}

void attnd_set_past_credit(struct attnd_client *client, bool past)
{
    client->past_credit = past;
}

size_t attnd_in_flight(const struct attnd_client *client)
{
    return client->in_flight;
}

void attnd_forget(struct attnd_stream *stream)
{
    free(stream->shape);
    free(stream->next);
    credit_leave_stream(stream->account);
    memset(stream, 0, sizeof *stream);
}

static int request_open(struct control_request *request, const char *name, const struct shape *shape, const char *profile,
                        bool resume, struct fault *fault)
{
    request->op = CONTROL_OPEN;
    request->resume = resume;
    request->shape = *shape;
    if (!profile)
        profile = "full";
    if (strlen(name) >= sizeof request->name)
        return fault_set(fault, ERR_INVALID, "a stream's name has at most %zu bytes", sizeof request->name - 1);
    if (strlen(profile) >= sizeof request->profile)
        return fault_set(fault, ERR_INVALID, "a profile with its overrides has at most %zu bytes", sizeof request->profile - 1);
    memcpy(request->name, name, strlen(name) + 1);
    memcpy(request->profile, profile, strlen(profile) + 1);
    return shape_check(shape, fault);
}

static int take_open(struct attnd_client *client, struct attnd_stream *stream, const struct shape *shape,
                     const struct control_open *open, struct fault *fault)
{
    size_t n = shape->n_layers;
    if (open->n_layers != n)
        return fault_set(fault, ERR_MALFORMED, "the daemon opened %zu layers, asked were %zu", open->n_layers, n);
    stream->id = open->stream;
    stream->shape = malloc(sizeof *stream->shape);
    stream->next = malloc(n * sizeof *stream->next);
    stream->account = credit_account(client, open->stream, shape, open->next_token);
    if (!stream->shape || !stream->next || !stream->account)
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a stream of %zu layers", n);
    *stream->shape = *shape;
    memcpy(stream->next, open->next_token, n * sizeof *stream->next);
    stream->confirmed = stream->account->confirmed;
    return 0;
}

int attnd_open(struct attnd_client *client, const char *name, const struct shape *shape, const char *profile, bool resume,
               struct attnd_stream *stream, struct fault *fault)
{
    uint64_t id;
    memset(stream, 0, sizeof *stream);
    struct control_request *request = calloc(1, sizeof *request);
    struct control_open *open = malloc(sizeof *open);
    int err = ERR_NO_MEMORY;
    if (!request || !open) {
        fault_set(fault, err, "no memory for a request");
        goto out;
    }
    err = request_open(request, name, shape, profile, resume, fault);
    if (!err)
        err = control_call(client, request, fault);
    if (!err)
        err = control_decode_open(zmq_msg_data(&client->frame[0]), zmq_msg_size(&client->frame[0]), &id, open, fault);
    if (!err)
        err = take_open(client, stream, shape, open, fault);
out:
    if (err)
        attnd_forget(stream);
    free(request);
    free(open);
    return err;
}

int attnd_confirm(struct attnd_client *client, struct attnd_stream *stream, struct fault *fault)
{
    uint64_t id;
    struct control_confirm answer;
    struct control_request *request = calloc(1, sizeof *request);
    if (!request)
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a request");
    for (uint32_t l = 0; l < stream->account->n_layers; l++) {
        credit_received(client, stream->account, l, stream->next[l]);
        credit_told(client, stream->account, l);
    }
    credit_request(request, stream->account);
    int err = control_call(client, request, fault);
    free(request);
    return err ? err
               : control_decode_confirm(zmq_msg_data(&client->frame[0]), zmq_msg_size(&client->frame[0]), &id, &answer, fault);
}

static bool in_flight_on(const struct ticket *ticket, const struct attnd_stream *stream)
{
    for (size_t i = 0; ticket->state == TICKET_SENT && i < ticket->n_parts; i++)
        if (ticket->parts[i].stream == stream)
            return true;
    return false;
}

/* Reads replies until nothing of the stream is in flight. Afterwards no ticket points to it, even when time ran out. */
static int settle(struct attnd_client *client, const struct attnd_stream *stream, struct fault *fault)
{
    double deadline = deadline_of(client);
    int err = 0;
    for (size_t i = 0; i < client->n_tickets; i++) {
        while (!err && in_flight_on(&client->tickets[i], stream)) {
            int control;
            err = exchange_receive(client, deadline, &control, fault);
        }
        if (in_flight_on(&client->tickets[i], stream))
            ticket_release(client, &client->tickets[i]);
    }
    return err;
}

int attnd_close(struct attnd_client *client, struct attnd_stream *stream, struct control_close *last, struct fault *fault)
{
    uint64_t id;
    struct control_close ignored;
    struct control_request *request = calloc(1, sizeof *request);
    int err = settle(client, stream, fault);
    if (!request) {
        fault_set(fault, ERR_NO_MEMORY, "no memory for a request");
        err = ERR_NO_MEMORY;
    } else if (!err) {
        request->op = CONTROL_CLOSE;
        request->stream = stream->id;
        err = control_call(client, request, fault);
    }
    if (!err)
        err = control_decode_close(zmq_msg_data(&client->frame[0]), zmq_msg_size(&client->frame[0]), &id,
                                   last ? last : &ignored, fault);
    free(request);
    attnd_forget(stream);
    return err;
}

int attnd_status(struct attnd_client *client, uint64_t stream, char **json, struct fault *fault)
{
    uint64_t id;
    struct fault why = {0};
    *json = NULL;
    struct control_request *request = calloc(1, sizeof *request);
    if (!request)
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a request");
    request->op = CONTROL_STATUS;
    request->stream = stream;
    int err = control_call(client, request, &why);
    free(request);
    if (!err) {
        *json = control_decode_status(zmq_msg_data(&client->frame[0]), zmq_msg_size(&client->frame[0]), &id, &why);
        err = *json ? 0 : why.err;
    }
    if (err && fault)
        *fault = why;
    return err;
}

int attnd_reload(struct attnd_client *client, const char *config, const char *file, struct control_reload *out,
                 struct fault *fault)
{
    uint64_t id;
    struct control_request *request = calloc(1, sizeof *request);
    if (!request)
        return fault_set(fault, ERR_NO_MEMORY, "no memory for a request");
    request->op = CONTROL_RELOAD;
    request->config = config ? strdup(config) : NULL;
    snprintf(request->file, sizeof request->file, "%s", file ? file : "config");
    int err = config && !request->config ? fault_set(fault, ERR_NO_MEMORY, "no memory for the configuration")
                                         : control_call(client, request, fault);
    free(request->config);
    free(request);
    if (!err)
        err = control_decode_reload(zmq_msg_data(&client->frame[0]), zmq_msg_size(&client->frame[0]), &id, out, fault);
    return err;
}
