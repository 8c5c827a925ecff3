#include "base/pages.h"
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

TEST_SUITE("lib/base/pages", TEST(pages_are_aligned_zeroed_and_counted), TEST(resident_is_the_high_water_mark_of_writes),
           TEST(a_shared_page_is_copied_by_whoever_writes_first), TEST(large_pages_go_back_to_the_system),
           TEST(an_account_may_have_a_limit), TEST(impossible_sizes_are_refused))
