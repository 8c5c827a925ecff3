/* Levels: which rows are halved when there is no room, so that a fixed number of rows stands for any number of tokens.
 *
 * A row of level l weighs 2^l. Rows lie in the order of their tokens, and their levels never rise from old to new:
 *
 *     level        L L L L L L L | L-1 ... L-1 | L-2 ... | ... | 0 ...
 *     halved at once:         2 h           2 h        h        from h / 4 on
 *
 * Of the lowest level that has a group the oldest rows are halved, the group being 2 h rows in the two highest levels, half as
 * many in each level below, down to a quarter of h. So new rows rise through small groups, and all but those few rows are of the
 * two highest levels, where nearly all of the error is made; rows of nearly one weight are the best that so many rows can do.
 * (The tree of BalanceKV, arXiv 2502.07861, has blocks of one size at every level, so each level has the same share of the rows.
 * Groups that shrink downwards are those of Karnin, Lang, Liberty: Optimal quantile approximation in streams, arXiv 1603.05346.)
 *
 * Where no level has a group: of the lowest level that has two rows, all pairs. Where all rows are of different levels: the
 * lowest, of level j, takes part with probability 2^(j - i) in a fair choice between itself and the next, of level i; the row
 * chosen is of level i + 1. Else it goes and the next stays as it is. Either row's expected weight stays what it was. So there is
 * always a row to drop, whatever the number of rows and of tokens. */
#ifndef ATTND_CACHE_BALANCE_LEVELS_H
#define ATTND_CACHE_BALANCE_LEVELS_H

#include <stdbool.h>
#include <stddef.h>

/* Log weight of a level, and back. */
float level_log_weight(unsigned level);
unsigned level_of(float log_weight);

/* Rows [first, first + n), of which n / 2 go. uneven: two rows of different levels. */
struct halving {
    size_t first, n;
    bool uneven;
};

/* What is halved next of n >= 2 rows with these log weights, half being h >= 1. */
struct halving levels_next(const float *log_weight, size_t n, size_t half);

#endif
