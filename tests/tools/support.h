/* Small things that tests of the tools need: memory that is there, files that are new, floats compared by their bits. */
#ifndef ATTND_TESTS_TOOLS_SUPPORT_H
#define ATTND_TESTS_TOOLS_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>

enum { SUPPORT_PATH_BYTES = 40 };

/* n zeroed elements; ends the program without memory. free() it. */
void *support_array(size_t n, size_t element_bytes) __attribute__((returns_nonnull));

/* The path of a new file with this text; unlink it. */
void support_file(char path[SUPPORT_PATH_BYTES], const char *text);

/* Whether two arrays hold the same bits. */
bool support_same(const float *a, const float *b, size_t n);

/* numbers between -range and range that depend on seed and index only. */
void support_fill(float *x, size_t n, double range, unsigned seed);

#endif
