/* Conform: what every policy must keep to, in one call. A test of a new policy starts with these.
 *
 *   - cutting the same tokens into messages of 1, 7, 64 and random sizes gives the same outputs to 1e-6 relative and the same
 *     state to the bit;
 *   - attend alone gives what the last token saw, and changes nothing;
 *   - an append that finds no memory has changed nothing, whatever allocation failed, and works when tried again;
 *   - odd shapes: d and e of 1, 3, 17 and 1024, groups; all storages; outputs are finite;
 *   - after every run the policy's own invariants hold, and allocated bytes are within worst_bytes and the budget. */
#ifndef ATTND_TESTS_CACHE_CONFORM_H
#define ATTND_TESTS_CACHE_CONFORM_H

#include "tests/lib/cache/drive.h"

struct conform {
    const char *choice; /* as after --profile */
    enum attention_kind kind;
    size_t n; /* tokens; the reference is not computed, so this may be large */
    uint64_t expected_tokens;
};

void conform_check(const struct conform *c);

#endif
