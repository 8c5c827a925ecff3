/* Survivor: a producer process that loses its connection again and again, or its life, and goes on where it was.
 *
 * Its memory is a file: of every layer of every stream how many tokens were answered, and their outputs. Batches depend on where
 * they begin alone, so that whoever goes on sends the same ones again. In the end every output has the bits of the same batches
 * in process. Like a producer (tests/e2e/producer.h) it runs this same program. */
#ifndef ATTND_TESTS_E2E_SURVIVOR_H
#define ATTND_TESTS_E2E_SURVIVOR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SURVIVOR_LAYERS = 2 };

/* Starts, or goes on, with the memory in this file. -1 when that fails. */
pid_t survivor_start(const char *endpoint, int index, size_t streams, size_t tokens, const char *file);

/* Tokens that it has the answers to, all layers of all streams together. */
uint64_t survivor_answered(const char *file, size_t streams, size_t tokens);

#endif
