/* Slots: independent uniform (or weighted) samples of one row each, kept as rows stream by.
 *
 * A slot takes the row that comes with probability w / W, W the weight of all rows so far, this one included; what it holds is
 * then a row drawn with probability proportional to weight. Which slots take is a coin each:
 *
 *     slot j takes  <=>  coin(seed, lane, token, j) * W < w                      (the product rounded to double)
 *
 * A coin is a whole number of 2^-53 and the rounded product grows with it, so the test is one comparison of whole numbers with a
 * limit that all slots share. Threads: pure functions. */
#ifndef ATTND_SKETCH_SLOTS_H
#define ATTND_SKETCH_SLOTS_H

#include <stddef.h>
#include <stdint.h>

enum { SLOTS_AT_ONCE = 64 };

struct slots_draw {
    uint64_t word;  /* what seed, lane and token come to */
    uint64_t limit; /* a slot takes when the upper 53 bits of its hash are below */
};

/* One draw of any number of slots. total > 0, weight >= 0. */
struct slots_draw slots_draw(uint64_t seed, uint64_t lane, uint64_t token, double total, double weight);

/* Bit j: slot first + j takes; j < n <= SLOTS_AT_ONCE. */
uint64_t slots_taking(const struct slots_draw *draw, uint64_t first, size_t n);

#endif
