/* Words: which of several a person probably meant. */
#ifndef ATTND_BASE_WORD_H
#define ATTND_BASE_WORD_H

#include <stddef.h>

/* The candidate that differs from word by so little that it was probably meant, or NULL: at most two letters changed, added,
 * left out or swapped with their neighbour, one in short words. */
const char *word_closest(const char *word, const char *const *candidates, size_t n);

#endif
