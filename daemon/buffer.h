/* Output buffers: the floats that heads write, shared by the reply, the publication and the replies kept for resends.
 * Reference counted; ZeroMQ sends from them without a copy. Threads: any. */
#ifndef ATTND_DAEMON_BUFFER_H
#define ATTND_DAEMON_BUFFER_H

#include <stdatomic.h>
#include <stddef.h>
#include <zmq.h>

struct buffer {
    atomic_uint refs;
    size_t n;
    float *data; /* 64-byte aligned */
};

struct buffer *buffer_create(size_t n_floats); /* NULL when memory is out */
struct buffer *buffer_share(struct buffer *buffer);
void buffer_release(struct buffer *buffer); /* NULL is allowed */

/* A frame over n floats from `from` on: small ones are copied, large ones hold a reference until ZeroMQ has sent them. */
int buffer_frame(struct buffer *buffer, size_t from, size_t n, zmq_msg_t *frame);

#endif
