#include "cache/balance/balance_levels.h"

#include <assert.h>
#include <math.h>

static const double LN2 = 0.69314718055994530942;

enum { LEAST_SHARE = 8 }; /* of h: half of the smallest group */

float level_log_weight(unsigned level)
{
    return (float)(level * LN2);
}

unsigned level_of(float log_weight)
{
    return (unsigned)lround((double)log_weight / LN2);
}

/* Rows of this level that go at once. */
static size_t drop_of(size_t half, unsigned level, unsigned top)
{
    size_t least = half / LEAST_SHARE > 0 ? half / LEAST_SHARE : 1;
    unsigned below = level + 1 < top ? top - 1 - level : 0;
    size_t drop = below < 32 ? half >> below : 0;
    return drop > least ? drop : least;
}

struct halving levels_next(const float *log_weight, size_t n, size_t half)
{
    struct halving pairs = {n - 2, 2, true};
    unsigned top = level_of(log_weight[0]);
    assert(n >= 2 && half >= 1);
    for (size_t end = n, first; end > 0; end = first) {
        unsigned level = level_of(log_weight[end - 1]);
        for (first = end - 1; first > 0 && log_weight[first - 1] == log_weight[end - 1];)
            first--;
        size_t group = 2 * drop_of(half, level, top), count = end - first;
        if (count >= group)
            return (struct halving){first, group, false};
        if (pairs.uneven && count >= 2)
            pairs = (struct halving){first, count / 2 * 2, false};
    }
    return pairs;
}
