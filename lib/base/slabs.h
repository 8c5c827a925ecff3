/* Slabs: blocks of memory cut from huge pages, for row pages that are read again and again.
 *
 * A row page of a few hundred kilobytes that has a mapping of its own never gets a huge page, and attention over long caches
 * then waits for address translations. So blocks of SLAB_BLOCK_MIN..SLAB_BLOCK_MAX bytes come from slabs, whose memory starts
 * at a multiple of SLAB_HUGE and asks the system for huge pages (madvise MADV_HUGEPAGE; where that is refused, everything
 * works the same with small ones).
 *
 *     slab, 1 to 4 times SLAB_HUGE   | slot | slot | slot | ... | rest |         all slots of a slab have one size
 *
 *   - A slot is the block's size rounded up to the system's pages. The slab is the shortest whose rest is at most an eighth.
 *     One size per slab: a hole fits the next block, and first pages that are soon outgrown leave no holes among those that stay.
 *   - A block is zeroed. One that is given back leaves RAM at once (MADV_DONTNEED), an empty slab its addresses too. What is left
 *     of a huge page that was cut like this is the system's, which may wait until memory is short.
 *   - The system fills a huge page at its first touch. So beside what was written there may be in RAM: in a slab that fills up
 *     the rest of one huge page or, when several blocks are written side by side, of theirs; and the rests of full slabs.
 *   - A larger block has a mapping of its own, with huge pages from SLAB_HUGE bytes on.
 *
 * Threads: any. One mutex inside, held for a search among slabs with room and, rarely, one mmap; nothing else is locked within.
 * Slabs outlive their blocks. */
#ifndef ATTND_BASE_SLABS_H
#define ATTND_BASE_SLABS_H

#include <stddef.h>

enum { SLAB_HUGE = 2 << 20, SLAB_BLOCK_MIN = 128 << 10, SLAB_BLOCK_MAX = 1 << 20 };

struct slabs;
struct slab;

struct slab_block {
    void *data;        /* NULL: no memory */
    struct slab *slab; /* NULL: a mapping of its own */
};

/* ERR_NO_MEMORY. */
int slabs_create(struct slabs **out);
void slabs_destroy(struct slabs *slabs); /* every block was given back; NULL is allowed */

/* A zeroed block that starts at one of the system's pages. bytes >= SLAB_BLOCK_MIN. */
struct slab_block slabs_get(struct slabs *slabs, size_t bytes);

/* Gives it back; bytes: as in slabs_get. */
void slabs_put(struct slabs *slabs, struct slab_block block, size_t bytes);

/* Bytes of addresses that slabs take now (larger blocks are not in it), used or not. */
size_t slabs_mapped(struct slabs *slabs);

#endif
