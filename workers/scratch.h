/* Scratch: one thread's working memory, grown to the largest need so far, so that the steady path allocates nothing.
 * Threads: each belongs to one thread. */
#ifndef ATTND_WORKERS_SCRATCH_H
#define ATTND_WORKERS_SCRATCH_H

#include <stddef.h>

struct scratch {
    void *data; /* 64-byte aligned */
    size_t bytes;
};

/* At least this many bytes, contents undefined; NULL when memory is out. Earlier pointers into it are gone when it grows. */
void *scratch_get(struct scratch *scratch, size_t bytes);
void scratch_free(struct scratch *scratch);

#endif
