/* Neighbours: which rows of a block are nearest to some of them under a metric, by matrix products.
 *
 *     D^2(k, l) / 2 = l^T M l / 2 - (M k)^T l + what is the same for all l
 *
 * so a row asks the others the query M k, eight rows at a time. Only rows within NEIGHBOURS_REACH places are looked at: a search
 * takes the same time however many rows are held, and where positions are in the keys, near places are near keys. Of rows that are
 * equally near the lower comes first. */
#ifndef ATTND_CACHE_NEIGHBOURS_H
#define ATTND_CACHE_NEIGHBOURS_H

#include "cache/merge/metric.h"
#include "cache/rows.h"

enum { NEIGHBOURS_MAX = 3, NEIGHBOURS_REACH = 512 };

struct neighbours {
    uint32_t row; /* whose they are */
    uint32_t n, near[NEIGHBOURS_MAX];
    float apart[NEIGHBOURS_MAX]; /* half of D^2, but for what is the same for all; ascending */
};

/* Fills the neighbours of n_of rows, in ascending order of their rows, among rows [first, end) other than themselves. */
void neighbours_find(struct neighbours *of, size_t n_of, const struct rows *rows, const struct row_format *format,
                     const struct metric *metric, size_t first, size_t end);

/* Forgets the nearest. */
void neighbours_pop(struct neighbours *g);

#endif
