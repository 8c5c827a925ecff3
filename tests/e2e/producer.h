/* A producer on the calling thread, or in a process of its own: the test program then starts itself again with a role in its
 * environment, because a process with threads cannot fork one that makes threads. */
#ifndef ATTND_TESTS_E2E_PRODUCER_H
#define ATTND_TESTS_E2E_PRODUCER_H

#include <stddef.h>
#include <sys/types.h>

/* The profiles that producers ask for, as YAML. */
extern const char producer_profiles[];

/* Producer number `index`: opens `streams` streams, sends `tokens` tokens of each layer of each, in random batches and random parts,
 * several messages ahead, checks that every token was acknowledged once and that every output has the bits of the same attention in
 * process, and closes its streams. 0 when all was as it should be. context: as attnd_connect. */
int producer_run(const char *endpoint, void *context, int index, size_t streams, size_t tokens);

/* The same in a process, which leaves with that. */
pid_t producer_start(const char *endpoint, int index, size_t streams, size_t tokens);

/* Its exit status; -1 when it was killed. */
int producer_wait(pid_t producer);

#endif
