#include "workers/scratch.h"

#include <stdlib.h>

void *scratch_get(struct scratch *scratch, size_t bytes)
{
    if (bytes > scratch->bytes) {
        size_t rounded = (bytes + 4095) & ~(size_t)4095;
        free(scratch->data);
        scratch->data = aligned_alloc(64, rounded);
        scratch->bytes = scratch->data ? rounded : 0;
    }
    return scratch->data;
}

void scratch_free(struct scratch *scratch)
{
    free(scratch->data);
    scratch->data = NULL;
    scratch->bytes = 0;
}
