/* A producer in a process of its own: the test program starts itself again with a role in its environment, because a process with
 * threads cannot fork one that makes threads. */
#ifndef ATTND_TESTS_E2E_PRODUCER_H
#define ATTND_TESTS_E2E_PRODUCER_H

#include <stddef.h>
#include <sys/types.h>

/* The profiles that producers ask for, as YAML. */
extern const char producer_profiles[];

/* Starts producer number `index`: it opens `streams` streams, sends `tokens` tokens of each layer of each, in random batches and
 * random parts, several messages ahead, checks that every token was acknowledged once and that every output has the bits of the
 * same attention in process, closes its streams and leaves with 0. */
pid_t producer_start(const char *endpoint, int index, size_t streams, size_t tokens);

/* Its exit status; -1 when it was killed. */
int producer_wait(pid_t producer);

#endif
