#include "daemon/buffer.h"

#include <stdlib.h>
#include <string.h>

enum { COPY_BYTES = 4096 };

struct buffer *buffer_create(size_t n_floats)
{
    size_t head = (sizeof(struct buffer) + 63) & ~(size_t)63;
    struct buffer *buffer = aligned_alloc(64, (head + n_floats * sizeof(float) + 63) & ~(size_t)63);
    if (buffer) {
        atomic_init(&buffer->refs, 1);
        buffer->n = n_floats;
        buffer->data = (float *)(void *)((char *)buffer + head);
    }
    return buffer;
}

struct buffer *buffer_share(struct buffer *buffer)
{
    atomic_fetch_add(&buffer->refs, 1);
    return buffer;
}

void buffer_release(struct buffer *buffer)
{
    if (buffer && atomic_fetch_sub(&buffer->refs, 1) == 1)
        free(buffer);
}

static void release(void *data, void *hint)
{
    (void)data;
    buffer_release(hint);
}

int buffer_frame(struct buffer *buffer, size_t from, size_t n, zmq_msg_t *frame)
{
    size_t bytes = n * sizeof(float);
    if (bytes <= COPY_BYTES) {
        if (zmq_msg_init_size(frame, bytes))
            return -1;
        if (bytes)
            memcpy(zmq_msg_data(frame), buffer->data + from, bytes);
        return 0;
    }
    if (zmq_msg_init_data(frame, buffer->data + from, bytes, release, buffer_share(buffer))) {
        buffer_release(buffer);
        return -1;
    }
    return 0;
}
