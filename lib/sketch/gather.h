/* Gather: row[i] <- row[from[i]] for i < n, in place, whatever the sources: any row may go to many places or to none.
 *
 * A place whose row nobody needs any more can be written; what is left then are cycles, which go through a spare row.
 * Threads: pure but for `copy`. Allocates nothing. */
#ifndef ATTND_SKETCH_GATHER_H
#define ATTND_SKETCH_GATHER_H

#include <stddef.h>
#include <stdint.h>

#define GATHER_SPARE SIZE_MAX

/* from (n,): sources below n_rows >= n, overwritten. needed (n_rows,): scratch. copy(context, to, source): one row; either may be
 * GATHER_SPARE. */
void gather(uint32_t *from, uint32_t *needed, size_t n, size_t n_rows, void (*copy)(void *context, size_t to, size_t source),
            void *context);

#endif
