#include "daemon/buffer.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    COPY_BYTES = 4096,
    SHELF_MAX = 64,          /* buffers on the shelf */
    SHELF_BYTES_MAX = 32768, /* of one that goes there */
};

struct buffer_shelf {
    pthread_mutex_t lock;
    struct buffer *first;
    size_t n;      /* on the shelf */
    size_t n_refs; /* buffers in use, and the creator */
};

struct buffer_shelf *buffer_shelf_create(void)
{
    struct buffer_shelf *shelf = calloc(1, sizeof *shelf);
    if (shelf) {
        pthread_mutex_init(&shelf->lock, NULL);
        shelf->n_refs = 1;
    }
    return shelf;
}

/* One reference less. */
static void let_go(struct buffer_shelf *shelf)
{
    pthread_mutex_lock(&shelf->lock);
    bool last = --shelf->n_refs == 0;
    pthread_mutex_unlock(&shelf->lock);
    if (last) {
        pthread_mutex_destroy(&shelf->lock);
        free(shelf);
    }
}

void buffer_shelf_leave(struct buffer_shelf *shelf)
{
    if (!shelf)
        return;
    pthread_mutex_lock(&shelf->lock);
    struct buffer *first = shelf->first;
    shelf->first = NULL;
    shelf->n = SHELF_MAX; /* it takes no more */
    pthread_mutex_unlock(&shelf->lock);
    for (struct buffer *next; first; first = next) {
        next = first->next;
        free(first);
    }
    let_go(shelf);
}

/* The topmost, if it is of that size; else it makes room for those that are. */
static struct buffer *take(struct buffer_shelf *shelf, size_t n_floats)
{
    pthread_mutex_lock(&shelf->lock);
    struct buffer *top = shelf->first;
    if (top) {
        shelf->first = top->next;
        shelf->n--;
    }
    shelf->n_refs++;
    pthread_mutex_unlock(&shelf->lock);
    if (top && top->n != n_floats) {
        free(top);
        top = NULL;
    }
    return top;
}

static void give(struct buffer *buffer)
{
    struct buffer_shelf *shelf = buffer->shelf;
    bool kept = false;
    pthread_mutex_lock(&shelf->lock);
    if (shelf->n < SHELF_MAX && buffer->n * sizeof(float) <= SHELF_BYTES_MAX) {
        buffer->next = shelf->first;
        shelf->first = buffer;
        shelf->n++;
        kept = true;
    }
    pthread_mutex_unlock(&shelf->lock);
    if (!kept)
        free(buffer);
    let_go(shelf);
}

struct buffer *buffer_create(struct buffer_shelf *shelf, size_t n_floats)
{
    size_t head = (sizeof(struct buffer) + 63) & ~(size_t)63;
    struct buffer *buffer = shelf ? take(shelf, n_floats) : NULL;
    if (!buffer)
        buffer = aligned_alloc(64, (head + n_floats * sizeof(float) + 63) & ~(size_t)63);
    if (!buffer) {
        if (shelf)
            let_go(shelf);
        return NULL;
    }
    atomic_init(&buffer->refs, 1);
    buffer->n = n_floats;
    buffer->data = (float *)(void *)((char *)buffer + head);
    buffer->shelf = shelf;
    return buffer;
}

struct buffer *buffer_share(struct buffer *buffer)
{
    atomic_fetch_add(&buffer->refs, 1);
    return buffer;
}

void buffer_release(struct buffer *buffer)
{
    if (!buffer || atomic_fetch_sub(&buffer->refs, 1) != 1)
        return;
    if (buffer->shelf)
        give(buffer);
    else
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
