/* Walk: halves a block of rows of one weight so that what goes is like what stays (self-balancing walk: Alweiss, Liu, Sawhney,
 * Discrepancy minimization via a self-balancing walk, arXiv 2006.14009; on rows of keys and values: BalanceKV, arXiv 2502.07861).
 *
 * Row i of n stands for a vector y_i of which only products are needed, k^ the keys less their mean over the block:
 *
 *     <y_i, y_j> = e^(scale <k^_i, k^_j> - max) (<v_i, v_j> + b)        b = mean |v|^2, max = the largest scale |k^_i|^2
 *     sign_i     = +1 with probability 1/2 - <y_i, w> / (2 c R^2), clipped to [0, 1], else -1
 *     w          = sum_(j < i) sign_j y_j,  R^2 = max_i |y_i|^2
 *
 * The first factor is the inner product of e^(<q, k>) as functions of q, the second that of values beside sqrt(b), so that a short
 * w makes the sums of e^(<q, k>) v and of e^(<q, k>) over the rows + and over the rows - alike for every q. b weighs both sums
 * alike whatever the size of values.
 *
 * Once half of the rows have one sign, the others get the other. So the classes are equal, and since turning all signs changes
 * no probability, each row is + with probability exactly 1/2: twice the sum over + is an unbiased estimate of the sum over all.
 *
 * <y_i, w> = <v_i, a> + b sum_j p_j with p_j = sign_j e^(...), a = sum_j p_j v_j: an attention step with k^_i as the query, by the
 * same kernels, O(n^2 (d + e)) in all and no room but the stack.
 * Threads: pure functions on what they are given. */
#ifndef ATTND_CACHE_BALANCE_WALK_H
#define ATTND_CACHE_BALANCE_WALK_H

#include "cache/rows.h"

#include <stdbool.h>

enum { WALK_ROWS_MAX = 512 };

struct walk {
    const struct kernels *kernels;
    const struct row_format *format;
    float scale;
    double constant;      /* c */
    uint64_t seed, token; /* of the coins: slot i on LANE_BALANCE is row i's */
};

/* plus[i]: whether row first + i has sign +1, i < n; n / 2 of them do. n is even, at most WALK_ROWS_MAX.
 * Returns |w|^2 / sum |y_i|^2 over all rows: near 1 where rows have nothing in common, so that no sign is better than another;
 * small where the signs balance. 0 when all y are 0. */
double walk_signs(const struct walk *walk, const struct rows *rows, size_t first, size_t n, bool *plus);

#endif
