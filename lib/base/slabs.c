#include "base/slabs.h"

#include "base/err.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

/* Under the address sanitizer whatever is no block's is poisoned. */
#ifdef SANITIZED
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(data, bytes) ((void)(data), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(data, bytes) ((void)(data), (void)(bytes))
#endif

enum { SLAB_HUGE_MAX = 4, SLOTS_MAX = SLAB_HUGE_MAX * SLAB_HUGE / SLAB_BLOCK_MIN };

static_assert(SLOTS_MAX <= 64, "a bit for each slot");

/* Kept outside of its memory, so that no slot is lost to it. */
struct slab {
    char *data;
    size_t bytes, slot, n_slots;
    uint64_t free;            /* bit i: slot i */
    struct slab *prev, *next; /* while it has room */
};

struct slabs {
    pthread_mutex_t lock; /* everything below */
    struct slab *room;    /* those with a free slot */
    size_t mapped;
    size_t system_page;
};

static size_t round_up(size_t bytes, size_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

/* Zeroed memory that starts at a multiple of SLAB_HUGE, or NULL. Systems that know huge pages often place it so by themselves. */
static char *map_aligned(size_t bytes)
{
    char *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return NULL;
    if ((uintptr_t)data % SLAB_HUGE == 0)
        return data;
    munmap(data, bytes);
    data = mmap(NULL, bytes + SLAB_HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return NULL;
    size_t before = (SLAB_HUGE - (uintptr_t)data % SLAB_HUGE) % SLAB_HUGE, after = SLAB_HUGE - before;
    if (before)
        munmap(data, before);
    if (after)
        munmap(data + before + bytes, after);
    return data + before;
}

static void advise_huge(void *data, size_t bytes)
{
#ifdef MADV_HUGEPAGE
    (void)madvise(data, bytes, MADV_HUGEPAGE); /* advice */
#endif
}

static size_t slab_bytes(size_t slot)
{
    size_t best = 0, best_rest = 0;
    for (size_t n = 1; n <= SLAB_HUGE_MAX; n++) {
        size_t bytes = n * SLAB_HUGE, rest = bytes % slot;
        if (rest <= bytes / 8)
            return bytes;
        if (n == 1 || rest * best < best_rest * bytes) {
            best = bytes;
            best_rest = rest;
        }
    }
    return best;
}

static uint64_t all_slots(const struct slab *slab)
{
    return slab->n_slots == 64 ? UINT64_MAX : (UINT64_C(1) << slab->n_slots) - 1;
}

static struct slab *slab_create(size_t slot)
{
    struct slab *slab = calloc(1, sizeof *slab);
    if (!slab)
        return NULL;
    slab->bytes = slab_bytes(slot);
    slab->slot = slot;
    slab->n_slots = slab->bytes / slot;
    slab->free = all_slots(slab);
    slab->data = map_aligned(slab->bytes);
    if (!slab->data) {
        free(slab);
        return NULL;
    }
    advise_huge(slab->data, slab->bytes);
    ASAN_POISON_MEMORY_REGION(slab->data, slab->bytes);
    return slab;
}

static void slab_destroy(struct slab *slab)
{
    ASAN_UNPOISON_MEMORY_REGION(slab->data, slab->bytes);
    munmap(slab->data, slab->bytes);
    free(slab);
}

static void link_room(struct slabs *slabs, struct slab *slab)
{
    slab->prev = NULL;
    slab->next = slabs->room;
    if (slab->next)
        slab->next->prev = slab;
    slabs->room = slab;
}

static void unlink_room(struct slabs *slabs, struct slab *slab)
{
    if (slab->prev)
        slab->prev->next = slab->next;
    else
        slabs->room = slab->next;
    if (slab->next)
        slab->next->prev = slab->prev;
}

int slabs_create(struct slabs **out)
{
    struct slabs *slabs = calloc(1, sizeof *slabs);
    *out = slabs;
    if (!slabs)
        return ERR_NO_MEMORY;
    pthread_mutex_init(&slabs->lock, NULL);
    slabs->system_page = (size_t)sysconf(_SC_PAGESIZE);
    return 0;
}

void slabs_destroy(struct slabs *slabs)
{
    if (!slabs)
        return;
    assert(slabs->mapped == 0);
    pthread_mutex_destroy(&slabs->lock);
    free(slabs);
}

static struct slab_block map_large(size_t bytes)
{
    struct slab_block block = {map_aligned(bytes), NULL};
    if (block.data && bytes >= SLAB_HUGE)
        advise_huge(block.data, bytes);
    return block;
}

struct slab_block slabs_get(struct slabs *slabs, size_t bytes)
{
    assert(bytes >= SLAB_BLOCK_MIN);
    if (bytes > SLAB_BLOCK_MAX)
        return bytes <= SIZE_MAX / 2 ? map_large(round_up(bytes, slabs->system_page)) : (struct slab_block){0};
    size_t slot = round_up(bytes, slabs->system_page), i = 0;
    pthread_mutex_lock(&slabs->lock);
    struct slab *slab = slabs->room;
    while (slab && slab->slot != slot)
        slab = slab->next;
    if (!slab && (slab = slab_create(slot))) {
        slabs->mapped += slab->bytes;
        link_room(slabs, slab);
    }
    if (slab) {
        i = (size_t)__builtin_ctzll(slab->free);
        slab->free &= slab->free - 1;
        if (!slab->free)
            unlink_room(slabs, slab);
    }
    pthread_mutex_unlock(&slabs->lock);
    if (!slab)
        return (struct slab_block){0};
    ASAN_UNPOISON_MEMORY_REGION(slab->data + i * slot, bytes);
    return (struct slab_block){slab->data + i * slot, slab};
}

void slabs_put(struct slabs *slabs, struct slab_block block, size_t bytes)
{
    struct slab *slab = block.slab;
    if (!slab) {
        munmap(block.data, round_up(bytes, slabs->system_page));
        return;
    }
    /* The slot is still the caller's: no lock. Locked memory (mlockall) cannot be taken back, only zeroed. */
    if (madvise(block.data, slab->slot, MADV_DONTNEED))
        memset(block.data, 0, bytes);
    ASAN_POISON_MEMORY_REGION(block.data, slab->slot);
    size_t i = (size_t)((char *)block.data - slab->data) / slab->slot;
    pthread_mutex_lock(&slabs->lock);
    assert(!(slab->free >> i & 1));
    if (!slab->free)
        link_room(slabs, slab);
    slab->free |= UINT64_C(1) << i;
    bool empty = slab->free == all_slots(slab);
    if (empty) {
        unlink_room(slabs, slab);
        slabs->mapped -= slab->bytes;
    }
    pthread_mutex_unlock(&slabs->lock);
    if (empty)
        slab_destroy(slab);
}

size_t slabs_mapped(struct slabs *slabs)
{
    pthread_mutex_lock(&slabs->lock);
    size_t mapped = slabs->mapped;
    pthread_mutex_unlock(&slabs->lock);
    return mapped;
}
