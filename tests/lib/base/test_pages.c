#include "base/pages.h"
#include "base/slabs.h"
#include "tests/test.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t system_page(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static void pages_are_aligned_zeroed_and_counted(void)
{
    static const size_t sizes[] = {
        0, 1, 63, 64, 65, 4096, PAGE_MAP_BYTES - 64, PAGE_MAP_BYTES - 1, PAGE_MAP_BYTES, PAGE_MAP_BYTES + 1};
    enum { N = sizeof sizes / sizeof *sizes };
    struct page_account account = {0};
    struct page *page[N];
    size_t sum = 0;
    for (size_t i = 0; i < N; i++) {
        CU_ASSERT_EQUAL_FATAL(page_create(&page[i], &account, sizes[i]), 0);
        CU_ASSERT_EQUAL((uintptr_t)page_data(page[i]) % PAGE_ALIGNMENT, 0);
        CU_ASSERT(page_bytes(page[i]) >= sizes[i] && page_bytes(page[i]) < sizes[i] + 2 * PAGE_ALIGNMENT);
        if (sizes[i] > 0)
            CU_ASSERT_EQUAL(page_bytes(page[i]), page_rounded(sizes[i]));
        const unsigned char *bytes = page_data(page[i]);
        for (size_t b = 0; b < page_bytes(page[i]); b++)
            CU_ASSERT_FATAL(bytes[b] == 0);
        sum += page_bytes(page[i]);
        CU_ASSERT_EQUAL(account.allocated, sum);
    }
    for (size_t i = 0; i < N; i++) {
        page_release(&page[i]);
        CU_ASSERT_PTR_NULL(page[i]);
    }
    CU_ASSERT_EQUAL(account.allocated, 0);
    CU_ASSERT_EQUAL(account.resident, 0);
    struct page *none = NULL;
    page_release(&none);
}

static void resident_is_the_high_water_mark_of_writes(void)
{
    struct page_account account = {0};
    struct page *large, *small;
    CU_ASSERT_EQUAL_FATAL(page_create(&large, &account, PAGE_MAP_BYTES), 0);
    CU_ASSERT_EQUAL(account.resident, 0);
    CU_ASSERT_PTR_NOT_NULL(page_write(&large, 1));
    CU_ASSERT_EQUAL(account.resident, system_page());
    CU_ASSERT_PTR_NOT_NULL(page_write(&large, system_page() + 1));
    CU_ASSERT_EQUAL(account.resident, 2 * system_page());
    CU_ASSERT_PTR_NOT_NULL(page_write(&large, 1));
    CU_ASSERT_EQUAL(account.resident, 2 * system_page());
    CU_ASSERT_EQUAL(account.allocated, PAGE_MAP_BYTES);

    CU_ASSERT_EQUAL_FATAL(page_create(&small, &account, 100), 0); /* zeroed by hand: in memory at once */
    CU_ASSERT_EQUAL(account.resident, 2 * system_page() + 128);
    page_release(&large);
    page_release(&small);
    CU_ASSERT_EQUAL(account.resident, 0);
}

static void a_shared_page_is_copied_by_whoever_writes_first(void)
{
    static const size_t sizes[] = {256, 2 * PAGE_MAP_BYTES};
    for (size_t i = 0; i < 2; i++) {
        struct page_account mine = {0}, yours = {0};
        struct page *a, *b, *c;
        CU_ASSERT_EQUAL_FATAL(page_create(&a, &mine, sizes[i]), 0);
        memset(page_write(&a, 100), 7, 100);
        CU_ASSERT_EQUAL_FATAL(page_share(&b, a, &yours), 0);
        CU_ASSERT_EQUAL_FATAL(page_share(&c, a, &mine), 0);
        CU_ASSERT_PTR_EQUAL(page_data(a), page_data(b));
        CU_ASSERT_EQUAL(yours.allocated, sizes[i]);
        CU_ASSERT_EQUAL(mine.allocated, 2 * sizes[i]);

        unsigned char *bytes = page_write(&b, 200);
        CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
        CU_ASSERT_PTR_NOT_EQUAL(page_data(a), page_data(b));
        CU_ASSERT_PTR_EQUAL(page_data(a), page_data(c));
        CU_ASSERT(bytes[0] == 7 && bytes[99] == 7 && bytes[100] == 0);
        bytes[0] = 8;
        CU_ASSERT_EQUAL(((const unsigned char *)page_data(a))[0], 7);
        CU_ASSERT_EQUAL(yours.allocated, sizes[i]);

        /* The last owner writes in place. */
        const void *before = page_data(c);
        page_release(&a);
        CU_ASSERT_PTR_EQUAL(page_write(&c, 1), before);
        page_release(&b);
        page_release(&c);
        CU_ASSERT_EQUAL(mine.allocated + yours.allocated + mine.resident + yours.resident, 0);
    }
}

static size_t resident_now(void)
{
    unsigned long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f) {
        if (fscanf(f, "%lu %lu", &total, &resident) != 2)
            resident = 0;
        fclose(f);
    }
    return resident * system_page();
}

static void large_pages_go_back_to_the_system(void)
{
    enum { BYTES = 32 << 20 };
    struct page_account account = {0};
    struct page *page;
    size_t before = resident_now();
    CU_ASSERT_EQUAL_FATAL(page_create(&page, &account, BYTES), 0);
    CU_ASSERT(resident_now() < before + BYTES / 4); /* nothing written yet */
    memset(page_write(&page, BYTES), 1, BYTES);
    CU_ASSERT(resident_now() > before + BYTES / 4 * 3);
    void *address = (void *)(uintptr_t)page_data(page);
    page_release(&page);
    CU_ASSERT(resident_now() < before + BYTES / 4);
    CU_ASSERT(msync(address, system_page(), MS_ASYNC) == -1 && errno == ENOMEM); /* unmapped */
}

static void an_account_may_have_a_limit(void)
{
    struct page_account account = {.limit = 200};
    struct page *a, *b, *c;
    CU_ASSERT_EQUAL_FATAL(page_create(&a, &account, 128), 0);
    CU_ASSERT_EQUAL(page_create(&b, &account, 128), ERR_NO_MEMORY);
    CU_ASSERT_PTR_NULL(b);
    CU_ASSERT_EQUAL(page_share(&b, a, &account), ERR_NO_MEMORY);
    CU_ASSERT_EQUAL(account.allocated, 128);
    CU_ASSERT_EQUAL_FATAL(page_create(&c, &account, 64), 0);
    page_release(&a);
    page_release(&c);
    CU_ASSERT_EQUAL(account.allocated, 0);
}

static void impossible_sizes_are_refused(void)
{
    struct page_account account = {0};
    struct page *page;
    CU_ASSERT_EQUAL(page_create(&page, &account, SIZE_MAX), ERR_NO_MEMORY);
    CU_ASSERT_EQUAL(page_create(&page, &account, SIZE_MAX / 2), ERR_NO_MEMORY);
    CU_ASSERT_PTR_NULL(page);
    CU_ASSERT_EQUAL(account.allocated, 0);
}

/* The same steps with and without slabs; what the accounts say after each. */
static void steps(struct slabs *slabs, size_t bytes, size_t numbers[16])
{
    struct page_account mine = {.slabs = slabs}, yours = {.slabs = slabs};
    struct page *a, *b;
    size_t n = 0;
    CU_ASSERT_EQUAL_FATAL(page_create(&a, &mine, bytes), 0);
    numbers[n++] = mine.allocated;
    numbers[n++] = mine.resident;
    memset(page_write(&a, bytes / 2), 7, bytes / 2);
    numbers[n++] = mine.resident;
    CU_ASSERT_EQUAL_FATAL(page_share(&b, a, &yours), 0);
    numbers[n++] = yours.resident;
    unsigned char *copy = page_write(&b, bytes);
    CU_ASSERT_PTR_NOT_NULL_FATAL(copy);
    CU_ASSERT_PTR_NOT_EQUAL(copy, page_data(a));
    CU_ASSERT(copy[0] == 7 && copy[bytes / 2 - 1] == 7 && copy[bytes / 2] == 0 && copy[bytes - 1] == 0);
    copy[0] = 8;
    CU_ASSERT_EQUAL(*(const unsigned char *)page_data(a), 7);
    numbers[n++] = yours.allocated;
    numbers[n++] = yours.resident;
    page_release(&a);
    numbers[n++] = mine.allocated;
    numbers[n++] = mine.resident;
    page_release(&b);
    numbers[n++] = yours.allocated;
    numbers[n++] = yours.resident;
}

static void slabs_change_no_number_and_no_byte(void)
{
    static const size_t sizes[] = {4096, PAGE_MAP_BYTES, PAGE_MAP_BYTES + 64, 512 << 10, 1 << 20, 3 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct slabs *slabs;
        size_t with[16] = {0}, without[16] = {0};
        CU_ASSERT_EQUAL_FATAL(slabs_create(&slabs), 0);
        steps(slabs, sizes[i], with);
        steps(NULL, sizes[i], without);
        CU_ASSERT_EQUAL(memcmp(with, without, sizeof with), 0);
        CU_ASSERT_EQUAL(slabs_mapped(slabs), 0);
        slabs_destroy(slabs);
    }
}

static void a_page_goes_back_to_where_it_came_from(void)
{
    struct slabs *slabs;
    struct page_account account = {0};
    struct page *before, *small, *within;
    CU_ASSERT_EQUAL_FATAL(slabs_create(&slabs), 0);
    CU_ASSERT_EQUAL_FATAL(page_create(&before, &account, PAGE_MAP_BYTES), 0);
    account.slabs = slabs; /* as an engine does once a cache is there */
    CU_ASSERT_EQUAL_FATAL(page_create(&small, &account, 100), 0);
    CU_ASSERT_EQUAL(slabs_mapped(slabs), 0);
    CU_ASSERT_EQUAL_FATAL(page_create(&within, &account, PAGE_MAP_BYTES), 0);
    CU_ASSERT_EQUAL(slabs_mapped(slabs), SLAB_HUGE);
    account.slabs = NULL;
    page_release(&before);
    CU_ASSERT_EQUAL(slabs_mapped(slabs), SLAB_HUGE);
    page_release(&within);
    CU_ASSERT_EQUAL(slabs_mapped(slabs), 0);
    page_release(&small);
    CU_ASSERT_EQUAL(account.allocated + account.resident, 0);
    slabs_destroy(slabs);
}

TEST_SUITE("lib/base/pages", TEST(pages_are_aligned_zeroed_and_counted), TEST(resident_is_the_high_water_mark_of_writes),
           TEST(a_shared_page_is_copied_by_whoever_writes_first), TEST(large_pages_go_back_to_the_system),
           TEST(an_account_may_have_a_limit), TEST(impossible_sizes_are_refused), TEST(slabs_change_no_number_and_no_byte),
           TEST(a_page_goes_back_to_where_it_came_from))
