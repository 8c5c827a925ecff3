#include "daemon/gateway.h"

#include "base/clock.h"
#include "daemon/egress.h"
#include "daemon/ingress.h"
#include "daemon/lease.h"
#include "daemon/reload.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

/* Messages received in a row before finished ones get their turn. */
enum { RECEIVE_BURST = 64 };

/* Turns that the gateway takes in a row before it looks at its sockets. */
enum { HELP_TURNS = 4 };

/* How long a subscription may go unseen. */
enum { SUBSCRIPTIONS_NS = 1000000 };

/* How long a drained daemon goes on refusing what comes in, rather than leaving it without an answer. */
enum { REFUSE_NS = 200000000 };

void gateway_wake(struct gateway *gateway)
{
    uint64_t one = 1;
    ssize_t written = write(gateway->wake_fd, &one, sizeof one);
    (void)written; /* EAGAIN: it is awake already */
}

void gateway_part_done(void *context, struct part *part)
{
    struct gateway *gateway = context;
    struct message *message = ((struct message_part *)part->owner)->message;
    if (atomic_fetch_sub(&message->running, 1) != 1)
        return;
    pthread_mutex_lock(&gateway->done_lock);
    message->next = NULL;
    if (gateway->done_last)
        gateway->done_last->next = message;
    else
        gateway->done_first = message;
    gateway->done_last = message;
    atomic_store(&gateway->any_done, true);
    pthread_mutex_unlock(&gateway->done_lock);
    if (atomic_load(&gateway->sleeping))
        gateway_wake(gateway);
}

static bool send_done(struct gateway *gateway)
{
    if (!atomic_load(&gateway->any_done))
        return false;
    pthread_mutex_lock(&gateway->done_lock);
    struct message *message = gateway->done_first;
    gateway->done_first = gateway->done_last = NULL;
    atomic_store(&gateway->any_done, false);
    pthread_mutex_unlock(&gateway->done_lock);
    while (message) {
        struct message *next = message->next;
        egress_complete(gateway, message);
        message = next;
    }
    return true;
}

static bool receive_some(struct gateway *gateway)
{
    size_t n = 0;
    while (n < RECEIVE_BURST && ingress_receive(gateway))
        n++;
    return n > 0;
}

/* Small work that waits, some turns of it; false when there is none. Stops when something can be sent: many answers leave together as
 * it is, for they are finished when the last head has had its turn. */
static bool help(struct gateway *gateway)
{
    size_t n = 0;
    while (n < HELP_TURNS && !atomic_load(&gateway->any_done) && engine_help(gateway->engine))
        n++;
    return n > 0;
}

/* A socket's descriptor tells once that something came, and an operation on the socket may take that away. So who sleeps on it has seen
 * the socket empty after all else that was done to it: ingest by the turn that found nothing, outputs here. */
static int descriptor(void *socket)
{
    int fd = -1;
    size_t size = sizeof fd;
    return zmq_getsockopt(socket, ZMQ_FD, &fd, &size) ? -1 : fd;
}

static void sleep_until_woken(struct gateway *gateway, int timeout_ms)
{
    struct pollfd items[] = {
        {.fd = descriptor(gateway->ingest), .events = POLLIN},
        {.fd = descriptor(gateway->outputs), .events = POLLIN},
        {.fd = gateway->wake_fd, .events = POLLIN},
    };
    if (poll(items, 3, timeout_ms) <= 0)
        return;
    gateway->look_outputs |= items[1].revents != 0;
    if (items[2].revents) {
        uint64_t count;
        ssize_t n = read(gateway->wake_fd, &count, sizeof count);
        (void)n;
    }
}

/* Sleeps until a socket or a pool has something. While messages run, spins first: a wake-up costs more than a short task. */
static void wait(struct gateway *gateway)
{
    uint64_t give_up = clock_ns() + (uint64_t)(gateway->config->spin_seconds * 1e9);
    while (gateway->in_flight && clock_ns() < give_up) {
        if (atomic_load(&gateway->any_done) || ingress_waiting(gateway))
            return;
        sched_yield();
    }
    if (gateway->used_outputs)
        egress_subscriptions(gateway);
    gateway->used_outputs = false;
    atomic_store(&gateway->sleeping, true);
    if (!atomic_load(&gateway->any_done) && !atomic_load(&gateway->stopping) && !atomic_load(&gateway->reload_asked))
        sleep_until_woken(gateway, lease_wait_ms(gateway));
    else if (atomic_load(&gateway->stopping) && !atomic_load(&gateway->any_done))
        sleep_until_woken(gateway, 10);
    atomic_store(&gateway->sleeping, false);
}

/* When they woke the gateway; and now and then, for under load it never sleeps. Each look at an empty socket is a system call. */
static void look_for_subscribers(struct gateway *gateway)
{
    if (!gateway->look_outputs && gateway->now_ns < gateway->next_subs_ns)
        return;
    gateway->look_outputs = false;
    gateway->next_subs_ns = gateway->now_ns + SUBSCRIPTIONS_NS;
    egress_subscriptions(gateway);
}

void gateway_run(struct gateway *gateway)
{
    uint64_t end = 0; /* once stopping: when to leave even though messages keep coming */
    for (;;) {
        bool stopping = atomic_load(&gateway->stopping);
        gateway->now_ns = clock_ns();
        if (stopping && !end)
            end = gateway->now_ns + REFUSE_NS;
        reload_if_asked(gateway);
        lease_tick(gateway);
        look_for_subscribers(gateway);
        bool sent = send_done(gateway), received = receive_some(gateway), helped = help(gateway),
             idle = !sent && !received && !helped;
        if (stopping && !gateway->in_flight && (idle || gateway->now_ns > end))
            return;
        if (idle)
            wait(gateway);
    }
}
