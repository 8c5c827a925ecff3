#include "base/slabs.h"
#include "tests/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KIB = 1 << 10, MIB = 1 << 20 };

static size_t system_page(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static bool zero(const void *data, size_t bytes)
{
    const unsigned char *b = data;
    return b[0] == 0 && memcmp(b, b + 1, bytes - 1) == 0;
}

static bool is_mapped(void *data)
{
    return msync(data, system_page(), MS_ASYNC) == 0 || errno != ENOMEM;
}

static struct slabs *open_slabs(void)
{
    struct slabs *slabs = NULL;
    CU_ASSERT_EQUAL_FATAL(slabs_create(&slabs), 0);
    return slabs;
}

static void blocks_are_aligned_and_zeroed_again_when_reused(void)
{
    static const size_t sizes[] = {SLAB_BLOCK_MIN, 136 * KIB,      256 * KIB,           300 * KIB + 64, 512 * KIB,
                                   700 * KIB,      SLAB_BLOCK_MAX, SLAB_BLOCK_MAX + 64, 3 * MIB};
    struct slabs *slabs = open_slabs();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct slab_block first = slabs_get(slabs, sizes[i]), second = slabs_get(slabs, sizes[i]);
        CU_ASSERT_FATAL(first.data && second.data && first.data != second.data);
        CU_ASSERT_EQUAL((first.slab == NULL), (sizes[i] > SLAB_BLOCK_MAX));
        if (first.slab || sizes[i] >= SLAB_HUGE)
            CU_ASSERT_EQUAL((uintptr_t)first.data % SLAB_HUGE, 0);
        CU_ASSERT_EQUAL((uintptr_t)second.data % system_page(), 0);
        CU_ASSERT(zero(first.data, sizes[i]) && zero(second.data, sizes[i]));
        memset(first.data, 0xff, sizes[i]);
        memset(second.data, 0x55, sizes[i]);
        void *hole = first.data;
        slabs_put(slabs, first, sizes[i]);
        first = slabs_get(slabs, sizes[i]);
        CU_ASSERT_PTR_NOT_NULL_FATAL(first.data);
        CU_ASSERT(!first.slab || first.data == hole); /* a hole is used before anything else */
        CU_ASSERT(zero(first.data, sizes[i]));
        CU_ASSERT_EQUAL(*(unsigned char *)second.data, 0x55);
        CU_ASSERT(memcmp(second.data, (char *)second.data + 1, sizes[i] - 1) == 0);
        slabs_put(slabs, first, sizes[i]);
        slabs_put(slabs, second, sizes[i]);
        CU_ASSERT_EQUAL(slabs_mapped(slabs), 0);
    }
    slabs_destroy(slabs);
    slabs_destroy(NULL);
}

static void whatever_the_size_a_slabs_rest_is_at_most_an_eighth(void)
{
    struct slabs *slabs = open_slabs();
    for (size_t bytes = SLAB_BLOCK_MIN; bytes <= SLAB_BLOCK_MAX; bytes += 4 * KIB) {
        struct slab_block block[64];
        size_t n = 0, mapped;
        block[n++] = slabs_get(slabs, bytes);
        mapped = slabs_mapped(slabs);
        CU_ASSERT(mapped >= SLAB_HUGE && mapped <= 4 * (size_t)SLAB_HUGE && mapped % SLAB_HUGE == 0);
        while (n < 64 && (n + 1) * bytes <= mapped) {
            block[n++] = slabs_get(slabs, bytes);
            CU_ASSERT(block[n - 1].slab == block[0].slab);
        }
        CU_ASSERT_EQUAL(slabs_mapped(slabs), mapped);
        CU_ASSERT(mapped - n * bytes <= mapped / 8);
        struct slab_block more = slabs_get(slabs, bytes);
        CU_ASSERT(more.slab && more.slab != block[0].slab);
        slabs_put(slabs, more, bytes);
        while (n > 0)
            slabs_put(slabs, block[--n], bytes);
        CU_ASSERT_EQUAL_FATAL(slabs_mapped(slabs), 0);
    }
    slabs_destroy(slabs);
}

/* A head's first page grows by doubling: what it outgrew must not keep slabs alive that later pages sit in. */
static void outgrown_pages_leave_no_slabs_behind(void)
{
    enum { N = 32 };
    struct slabs *slabs = open_slabs();
    struct slab_block small[N], large[N];
    for (size_t i = 0; i < N; i++)
        small[i] = slabs_get(slabs, 128 * KIB);
    CU_ASSERT_EQUAL(slabs_mapped(slabs), N * 128 * KIB);
    for (size_t i = 0; i < N; i++) {
        large[i] = slabs_get(slabs, 256 * KIB);
        slabs_put(slabs, small[i], 128 * KIB);
    }
    CU_ASSERT_EQUAL(slabs_mapped(slabs), N * 256 * KIB);
    for (size_t i = 0; i < N; i++)
        slabs_put(slabs, large[i], 256 * KIB);
    slabs_destroy(slabs);
}

/* Bytes of a range that are in RAM. Of the process as a whole this cannot be told: sanitizers keep shadows of what was freed. */
static size_t resident(void *data, size_t bytes)
{
    static unsigned char in_core[4 * MIB / 4096];
    size_t n = 0;
    if (bytes / system_page() > sizeof in_core || mincore(data, bytes, in_core))
        return SIZE_MAX;
    for (size_t i = 0; i < bytes / system_page(); i++)
        n += in_core[i] & 1;
    return n * system_page();
}

static void what_is_given_back_leaves_memory_at_once(void)
{
    enum { N = 64, BYTES = 256 * KIB, IN_SLAB = SLAB_HUGE / BYTES };
    struct slabs *slabs = open_slabs();
    struct slab_block block[N];
    for (size_t i = 0; i < N; i++) {
        block[i] = slabs_get(slabs, BYTES);
        CU_ASSERT_PTR_NOT_NULL_FATAL(block[i].data);
        memset(block[i].data, 1, BYTES);
        CU_ASSERT_EQUAL(resident(block[i].data, BYTES), BYTES);
    }
    for (size_t i = 0; i < N; i += 2)
        slabs_put(slabs, block[i], BYTES);
    CU_ASSERT_EQUAL(slabs_mapped(slabs), N * BYTES); /* every slab has blocks still */
    for (size_t i = 0; i < N; i += IN_SLAB)
        CU_ASSERT_EQUAL(resident(block[i].data, SLAB_HUGE), SLAB_HUGE / 2);
    for (size_t i = 1; i < N; i += 2) {
        CU_ASSERT_EQUAL(*(unsigned char *)block[i].data, 1);
        CU_ASSERT(memcmp(block[i].data, (char *)block[i].data + 1, BYTES - 1) == 0);
        slabs_put(slabs, block[i], BYTES);
    }
    CU_ASSERT_EQUAL(slabs_mapped(slabs), 0);
    for (size_t i = 0; i < N; i += IN_SLAB)
        CU_ASSERT_FALSE(is_mapped(block[i].data));
    slabs_destroy(slabs);
}

static void larger_blocks_have_mappings_of_their_own(void)
{
    struct slabs *slabs = open_slabs();
    struct slab_block block = slabs_get(slabs, 2 * MIB + 64);
    CU_ASSERT_PTR_NOT_NULL_FATAL(block.data);
    CU_ASSERT_PTR_NULL(block.slab);
    CU_ASSERT_EQUAL(slabs_mapped(slabs), 0);
    memset(block.data, 1, 2 * MIB + 64);
    CU_ASSERT(is_mapped(block.data));
    slabs_put(slabs, block, 2 * MIB + 64);
    CU_ASSERT_FALSE(is_mapped(block.data));
    slabs_destroy(slabs);
}

/* In a child that may have no more addresses: sanitizers cannot live like that. */
static int without_memory(struct slabs *slabs)
{
    struct rlimit limit = {0, 0};
    struct slab_block block = slabs_get(slabs, 512 * KIB);
    if (!block.data || setrlimit(RLIMIT_AS, &limit))
        return 1;
    size_t mapped = slabs_mapped(slabs);
    for (size_t i = 1; i < SLAB_HUGE / (512 * KIB); i++)
        if (!slabs_get(slabs, 512 * KIB).data)
            return 2; /* there is room */
    if (slabs_get(slabs, 512 * KIB).data || slabs_get(slabs, 256 * KIB).data || slabs_get(slabs, 3 * MIB).data)
        return 3;
    if (slabs_mapped(slabs) != mapped)
        return 4;
    slabs_put(slabs, block, 512 * KIB);
    return slabs_get(slabs, 512 * KIB).data == block.data ? 0 : 5;
}

static void without_memory_there_is_no_block_and_no_harm(void)
{
    struct slabs *slabs = open_slabs();
    CU_ASSERT_PTR_NULL(slabs_get(slabs, SIZE_MAX).data);
    CU_ASSERT_PTR_NULL(slabs_get(slabs, SIZE_MAX / 2).data);
    CU_ASSERT_PTR_NULL(slabs_get(slabs, SIZE_MAX / 2 + 1).data);
#if !defined __SANITIZE_ADDRESS__ && !defined __clang__
    int status = -1;
    pid_t child = fork();
    if (child == 0)
        _exit(without_memory(slabs));
    CU_ASSERT_FATAL(child > 0 && waitpid(child, &status, 0) == child);
    CU_ASSERT_TRUE(WIFEXITED(status));
    CU_ASSERT_EQUAL(WEXITSTATUS(status), 0);
#else
    (void)without_memory;
#endif
    slabs_destroy(slabs);
}

/* ------------------------------------------------------------------ threads */

struct user {
    struct slabs *slabs;
    unsigned char id;
    size_t n_wrong;
};

static void *use(void *context)
{
    static const size_t sizes[] = {128 * KIB, 136 * KIB, 256 * KIB, 516 * KIB, 3 * MIB};
    enum { HELD = 8, ROUNDS = 400 };
    struct user *u = context;
    struct slab_block held[HELD] = {{0}};
    size_t bytes[HELD] = {0};
    uint32_t random = u->id * 2654435761u;
    for (size_t i = 0; i < ROUNDS + HELD; i++) {
        random = random * 1664525u + 1013904223u;
        size_t h = i < ROUNDS ? random >> 29 : i - ROUNDS; /* in the end all go back */
        if (held[h].data) {
            const unsigned char *b = held[h].data;
            u->n_wrong += b[0] != u->id || b[bytes[h] / 2] != u->id || b[bytes[h] - 1] != u->id;
            slabs_put(u->slabs, held[h], bytes[h]);
            held[h].data = NULL;
        } else if (i < ROUNDS) {
            bytes[h] = sizes[(random >> 16) % (sizeof sizes / sizeof *sizes)];
            held[h] = slabs_get(u->slabs, bytes[h]);
            unsigned char *b = held[h].data;
            if (!b) {
                u->n_wrong++;
                continue;
            }
            u->n_wrong += b[0] != 0 || b[bytes[h] / 2] != 0 || b[bytes[h] - 1] != 0;
            b[0] = b[bytes[h] / 2] = b[bytes[h] - 1] = u->id;
        }
    }
    return NULL;
}

static void threads_share_slabs(void)
{
    enum { N = 8 };
    struct slabs *slabs = open_slabs();
    struct user user[N];
    pthread_t thread[N];
    for (size_t i = 0; i < N; i++) {
        user[i] = (struct user){slabs, (unsigned char)(i + 1), 0};
        CU_ASSERT_EQUAL_FATAL(pthread_create(&thread[i], NULL, use, &user[i]), 0);
    }
    for (size_t i = 0; i < N; i++) {
        pthread_join(thread[i], NULL);
        CU_ASSERT_EQUAL(user[i].n_wrong, 0);
    }
    CU_ASSERT_EQUAL(slabs_mapped(slabs), 0);
    slabs_destroy(slabs);
}

TEST_SUITE("lib/base/slabs", TEST(blocks_are_aligned_and_zeroed_again_when_reused),
           TEST(whatever_the_size_a_slabs_rest_is_at_most_an_eighth), TEST(outgrown_pages_leave_no_slabs_behind),
           TEST(what_is_given_back_leaves_memory_at_once), TEST(larger_blocks_have_mappings_of_their_own),
           TEST(without_memory_there_is_no_block_and_no_harm), TEST(threads_share_slabs))
