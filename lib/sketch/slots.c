#include "sketch/slots.h"

#include "base/coins.h"

#include <math.h>

static const uint64_t COINS = UINT64_C(1) << 53; /* values that a coin has */

/* The smallest coin, in 2^-53, whose product with total is not below weight; COINS when there is none. The quotient is off by a
 * rounding or two, and the exact answer is next to it. */
static uint64_t limit_of(double total, double weight)
{
    double guess = ceil(weight / total * 0x1p53);
    uint64_t limit = guess < 0x1p53 ? (uint64_t)guess : COINS;
    while (limit > 0 && (double)(limit - 1) * 0x1p-53 * total >= weight)
        limit--;
    while (limit < COINS && (double)limit * 0x1p-53 * total < weight)
        limit++;
    return limit;
}

struct slots_draw slots_draw(uint64_t seed, uint64_t lane, uint64_t token, double total, double weight)
{
    return (struct slots_draw){mix(mix(mix(seed) ^ lane) ^ token), limit_of(total, weight)};
}

/* As mix in base/coins.h, here to be inlined: a token may take hundreds. */
static inline uint64_t mixed(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

uint64_t slots_taking(const struct slots_draw *draw, uint64_t first, size_t n)
{
    uint64_t bits = 0;
    for (size_t j = 0; j < n; j++)
        bits |= (uint64_t)(mixed(draw->word ^ (first + j)) >> 11 < draw->limit) << j;
    return bits;
}
