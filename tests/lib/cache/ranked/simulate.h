/* Simulate: a policy that keeps some rows, once more in float64 and in the plainest way, beside the policy itself. After every
 * token the two must hold the same tokens' rows. For the tests of policies made of cache/ranked/selection.h. */
#ifndef ATTND_TESTS_CACHE_SIMULATE_H
#define ATTND_TESTS_CACHE_SIMULATE_H

#include "tests/lib/cache/drive.h"

struct simulation {
    /* The test's. */
    const char *choice; /* with rows, sink_tokens, recent_tokens and interval as here; storage f32 */
    size_t limit, sinks, recent, interval;
    void (*learn)(struct simulation *s, size_t token); /* after `token` came; or NULL */
    void (*rank)(struct simulation *s, double *rank);  /* (n,): the lowest candidates go */

    /* What it works on. */
    const struct tokens *t;
    size_t n;      /* rows held */
    size_t *held;  /* (n,) their tokens, ascending */
    double *score; /* (t->n,) by token, 0 at first: the test's */
};

/* p (s->n,): the sum over the group of token's probabilities for each row held. */
void simulate_probabilities(const struct simulation *s, size_t token, double *p);

/* Runs both over random tokens (group 2, d, e as given) and asserts that they agree. */
void simulate(const struct simulation *rule, size_t n, size_t d, uint64_t seed);

#endif
