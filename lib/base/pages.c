#include "base/pages.h"

#include "base/slabs.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The bytes themselves. `written` changes only while there is one owner. */
struct body {
    atomic_size_t owners;
    size_t bytes, written; /* written: high-water mark */
    void *data;
    struct slabs *slabs; /* where data came from; NULL: mmap or malloc */
    struct slab *slab;   /* slabs' */
};

static_assert((int)PAGE_MAP_BYTES >= (int)SLAB_BLOCK_MIN, "slabs serve every page that is not malloc's");

/* One owner's handle. */
struct page {
    struct body *body;
    struct page_account *account;
};

static size_t round_up(size_t bytes, size_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

size_t page_rounded(size_t bytes)
{
    return round_up(bytes, PAGE_ALIGNMENT);
}

static bool is_mapped(size_t bytes)
{
    return bytes >= PAGE_MAP_BYTES;
}

static size_t resident_bytes(const struct body *body)
{
    size_t touched = round_up(body->written, (size_t)sysconf(_SC_PAGESIZE));
    return touched < body->bytes ? touched : body->bytes;
}

static struct body *body_create(size_t bytes, struct slabs *slabs)
{
    struct body *body = calloc(1, sizeof *body);
    if (!body)
        return NULL;
    atomic_init(&body->owners, 1);
    body->bytes = bytes;
    if (is_mapped(bytes) && slabs) {
        struct slab_block block = slabs_get(slabs, bytes);
        body->slabs = slabs;
        body->slab = block.slab;
        body->data = block.data;
    } else if (is_mapped(bytes)) {
        body->data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (body->data == MAP_FAILED)
            body->data = NULL;
    } else {
        body->written = bytes;
        body->data = aligned_alloc(PAGE_ALIGNMENT, bytes);
        if (body->data)
            memset(body->data, 0, bytes);
    }
    if (body->data)
        return body;
    free(body);
    return NULL;
}

static void body_drop(struct body *body)
{
    if (atomic_fetch_sub_explicit(&body->owners, 1, memory_order_acq_rel) > 1)
        return;
    if (body->slabs)
        slabs_put(body->slabs, (struct slab_block){body->data, body->slab}, body->bytes);
    else if (is_mapped(body->bytes))
        munmap(body->data, body->bytes);
    else
        free(body->data);
    free(body);
}

/* A handle on body, counted; takes over the caller's ownership of body. */
static int page_attach(struct page **out, struct body *body, struct page_account *account)
{
    struct page *page = malloc(sizeof *page);
    if (!page) {
        body_drop(body);
        return ERR_NO_MEMORY;
    }
    page->body = body;
    page->account = account;
    atomic_fetch_add(&account->allocated, body->bytes);
    atomic_fetch_add(&account->resident, resident_bytes(body));
    *out = page;
    return 0;
}

static bool fits(struct page_account *account, size_t bytes)
{
    size_t allocated = atomic_load(&account->allocated);
    return account->limit == 0 || (allocated <= account->limit && bytes <= account->limit - allocated);
}

int page_create(struct page **out, struct page_account *account, size_t bytes)
{
    *out = NULL;
    if (bytes > SIZE_MAX / 2)
        return ERR_NO_MEMORY;
    bytes = page_rounded(bytes ? bytes : 1);
    struct body *body = fits(account, bytes) ? body_create(bytes, account->slabs) : NULL;
    return body ? page_attach(out, body, account) : ERR_NO_MEMORY;
}

int page_share(struct page **out, struct page *page, struct page_account *account)
{
    *out = NULL;
    if (!fits(account, page->body->bytes))
        return ERR_NO_MEMORY;
    atomic_fetch_add_explicit(&page->body->owners, 1, memory_order_relaxed);
    return page_attach(out, page->body, account);
}

void page_release(struct page **page)
{
    struct page *p = *page;
    if (!p)
        return;
    atomic_fetch_sub(&p->account->allocated, p->body->bytes);
    atomic_fetch_sub(&p->account->resident, resident_bytes(p->body));
    body_drop(p->body);
    free(p);
    *page = NULL;
}

const void *page_data(const struct page *page)
{
    return page->body->data;
}

size_t page_bytes(const struct page *page)
{
    return page->body->bytes;
}

void *page_write(struct page **page, size_t end)
{
    struct page *p = *page;
    assert(end <= p->body->bytes);
    if (atomic_load_explicit(&p->body->owners, memory_order_acquire) > 1) {
        struct body *copy = body_create(p->body->bytes, p->account->slabs);
        if (!copy)
            return NULL;
        memcpy(copy->data, p->body->data, p->body->written);
        if (copy->written < p->body->written)
            copy->written = p->body->written;
        body_drop(p->body);
        p->body = copy;
    }
    if (end > p->body->written) {
        size_t before = resident_bytes(p->body);
        p->body->written = end;
        atomic_fetch_add(&p->account->resident, resident_bytes(p->body) - before);
    }
    return p->body->data;
}
