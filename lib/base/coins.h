/* Coins: the only randomness. A coin depends on nothing but its arguments: no order of calls, no thread, no batch size.
 * The mixer is the finaliser of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
 * Threads: pure functions. */
#ifndef ATTND_BASE_COINS_H
#define ATTND_BASE_COINS_H

#include <stdint.h>

/* Which random choice a coin is for: no two choices of a policy may share a lane and an index. */
enum coin_lane {
    LANE_NORMALISER_1, /* SubGen's cluster samples; stream 1 of tensor layers */
    LANE_VALUES_1,     /* SubGen's value samples */
    LANE_NORMALISER_2, /* stream 2 */
    LANE_VALUES_2,
    LANE_NORMALISER_P, /* product rows */
    LANE_VALUES_P,
    LANE_MERGE, /* + the normaliser's lane: clusters that merge. Ends below LANE_MERGE + LANE_VALUES_P + 1 */
    LANE_RESERVOIR = LANE_MERGE + LANE_VALUES_P + 1, /* uniform's rows */
    LANE_BALANCE,                                    /* signs of balance's walks */
};

/* A bijection of 64-bit words that looks random. */
uint64_t mix(uint64_t x);

/* Uniform in [0, 1), a multiple of 2^-53. token: index of the token (of the row, for product rows); slot: index within the
 * choice. */
double coin(uint64_t seed, uint64_t lane, uint64_t token, uint64_t slot);

/* The seed of one head's coins: mix(mix(mix(seed) ^ layer) ^ kv_head), seed being the profile's. */
uint64_t head_seed(uint64_t seed, uint64_t layer, uint64_t kv_head);

#endif
