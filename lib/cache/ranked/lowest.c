#include "cache/ranked/lowest.h"

#include <assert.h>
#include <string.h>

void lowest_init(struct lowest *lowest, size_t wanted)
{
    assert(wanted <= LOWEST_MAX);
    lowest->wanted = wanted;
    lowest->n = 0;
}

/* Whether entry a goes later than entry b. */
static bool later(const struct lowest *l, size_t a, size_t b)
{
    return l->rank[a] > l->rank[b] || (l->rank[a] == l->rank[b] && l->row[a] > l->row[b]);
}

static void swap(struct lowest *l, size_t a, size_t b)
{
    float rank = l->rank[a];
    uint32_t row = l->row[a];
    l->rank[a] = l->rank[b];
    l->row[a] = l->row[b];
    l->rank[b] = rank;
    l->row[b] = row;
}

static void sift_down(struct lowest *l, size_t at)
{
    for (size_t child; (child = 2 * at + 1) < l->n; at = child) {
        if (child + 1 < l->n && later(l, child + 1, child))
            child++;
        if (!later(l, child, at))
            return;
        swap(l, child, at);
    }
}

void lowest_offer(struct lowest *l, float rank, size_t row)
{
    if (l->n < l->wanted) {
        size_t at = l->n++;
        l->rank[at] = rank;
        l->row[at] = (uint32_t)row;
        for (size_t parent; at > 0 && later(l, at, parent = (at - 1) / 2); at = parent)
            swap(l, at, parent);
        return;
    }
    if (l->wanted == 0 || rank > l->rank[0] || (rank == l->rank[0] && row > l->row[0]))
        return;
    l->rank[0] = rank;
    l->row[0] = (uint32_t)row;
    sift_down(l, 0);
}

void lowest_rows(struct lowest *l, uint32_t *rows)
{
    assert(l->n == l->wanted);
    memcpy(rows, l->row, l->n * sizeof *rows);
    rows_sort(rows, l->n);
}

/* By insertion: a few hundred at most, and mostly in order already. */
void rows_sort(uint32_t *rows, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        uint32_t row = rows[i];
        size_t at = i;
        for (; at > 0 && rows[at - 1] > row; at--)
            rows[at] = rows[at - 1];
        rows[at] = row;
    }
}
