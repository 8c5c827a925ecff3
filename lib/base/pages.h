/* Pages: the only way a cache takes memory. Reference counted, with one write point and an account.
 *
 * A page is a block of 64-byte aligned bytes, zeroed. Bytes, budgets, copies and freeing all derive from it:
 *   - `allocated` of an account is the sum of its pages' sizes, `resident` the part of them that was ever written, rounded up to
 *     the system's page size (memory that was never written costs no RAM when the page is large; a small page is zeroed by
 *     hand, so it counts as written whole).
 *   - page_share gives a second owner the same bytes; whoever writes first through page_write gets a copy (copy on write).
 *   - pages of at least PAGE_MAP_BYTES come from the account's slabs (base/slabs.h: huge pages), or from mmap if it has none, and
 *     go back to the system when released; smaller ones from malloc.
 *   - `resident` holds what was written. The system may keep up to the rest of a slab in RAM on top for each size of page, which
 *     all heads share and no account shows.
 *   - each owner's account counts the page whole, shared or not, so that a copy on write never changes `allocated`.
 * Threads: an account and its pages belong to whoever holds the head's turn; counters may be read by anyone (atomic). Owners
 * of the same bytes may be on different threads. */
#ifndef ATTND_BASE_PAGES_H
#define ATTND_BASE_PAGES_H

#include "base/err.h"
#include <stdatomic.h>
#include <stddef.h>

enum { PAGE_ALIGNMENT = 64, PAGE_MAP_BYTES = 128 * 1024 };

struct page_account {
    atomic_size_t allocated, resident; /* bytes */
    size_t limit;                      /* `allocated` never passes it: page_create answers ERR_NO_MEMORY instead; 0: no limit */
    struct slabs *slabs;               /* for the pages from now on; outlives them. NULL: a mapping for each */
};

struct page;

/* A new zeroed page of at least `bytes` (rounded up to 64). ERR_NO_MEMORY. */
int page_create(struct page **out, struct page_account *account, size_t bytes);

/* Drops one reference; the last one frees. NULL is allowed. Sets *page to NULL. */
void page_release(struct page **page);

/* Another reference to the same bytes, counted on `account`. */
int page_share(struct page **out, struct page *page, struct page_account *account);

const void *page_data(const struct page *page);
size_t page_bytes(const struct page *page);

/* What a page of `bytes` is counted with: the size rounded up to 64. For worst-case estimates. */
size_t page_rounded(size_t bytes);

/* The write point: the page's bytes for writing within [0, end). Copies first when the page is shared, which can fail: NULL.
 * Never fails for a page that has one owner. */
void *page_write(struct page **page, size_t end);

#endif
