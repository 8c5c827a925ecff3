/* Lowest: the rows of lowest rank, out of any number of rows that are offered once each, in room for the few that are wanted.
 * Of equal ranks the smaller row (the older token) goes first, so that the answer depends on ranks alone. */
#ifndef ATTND_CACHE_LOWEST_H
#define ATTND_CACHE_LOWEST_H

#include "cache/held.h"

enum { LOWEST_MAX = 2 * HELD_INTERVAL_MAX };

struct lowest {
    size_t wanted, n; /* wanted <= LOWEST_MAX */
    float rank[LOWEST_MAX];
    uint32_t row[LOWEST_MAX]; /* a heap: the last to go is at 0 */
};

void lowest_init(struct lowest *lowest, size_t wanted);
void lowest_offer(struct lowest *lowest, float rank, size_t row);

/* Their rows in ascending order, (wanted,): as many must have been offered. */
void lowest_rows(struct lowest *lowest, uint32_t *rows);

/* Ascending order, in place. */
void rows_sort(uint32_t *rows, size_t n);

#endif
