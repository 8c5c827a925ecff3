/* Output buffers: the floats that heads write, shared by the reply, the publication and the replies kept for resends.
 * Reference counted; ZeroMQ sends from them without a copy.
 *
 * A message mostly asks for as much as the one before, so a few buffers that nobody needs any more wait on a shelf for the next of
 * their size. Threads: any. */
#ifndef ATTND_DAEMON_BUFFER_H
#define ATTND_DAEMON_BUFFER_H

#include <stdatomic.h>
#include <stddef.h>
#include <zmq.h>

struct buffer_shelf;

struct buffer {
    atomic_uint refs;
    size_t n;
    float *data;                /* 64-byte aligned */
    struct buffer_shelf *shelf; /* where it goes in the end; NULL: it is freed */
    struct buffer *next;        /* on the shelf */
};

struct buffer_shelf *buffer_shelf_create(void); /* NULL when memory is out */
void buffer_shelf_leave(
    struct buffer_shelf *shelf); /* nobody creates any more; the last buffer takes it along. NULL is allowed */

struct buffer *buffer_create(struct buffer_shelf *shelf, size_t n_floats); /* NULL when memory is out; shelf: NULL is allowed */
struct buffer *buffer_share(struct buffer *buffer);
void buffer_release(struct buffer *buffer); /* NULL is allowed */

/* A frame over n floats from `from` on: small ones are copied, large ones hold a reference until ZeroMQ has sent them. */
int buffer_frame(struct buffer *buffer, size_t from, size_t n, zmq_msg_t *frame);

#endif
