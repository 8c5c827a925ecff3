/* Texts and token ids: in from files, out as text. A vocabulary of 256 means bytes; any other model takes and gives ids.
 * Threads: pure functions. Ownership: what a read allocates is the caller's to free. */
#ifndef ATTND_TOOLS_LM_TEXT_H
#define ATTND_TOOLS_LM_TEXT_H

#include "base/err.h"
#include <stdint.h>

enum { LM_BYTE_VOCAB = 256 };

/* The bytes of a text as tokens. */
int lm_ids_of_bytes(const void *text, size_t bytes, uint32_t **ids, struct fault *fault);

/* A file of token ids, one decimal number per line (blank lines are skipped), each below vocab. Errors say file:line. */
int lm_ids_read(const char *path, size_t vocab, uint32_t **ids, size_t *n, struct fault *fault);

/* Bytes as text that is valid UTF-8: what is none becomes U+FFFD, one per byte. Returns the length; out: room for 3 n bytes. */
size_t lm_utf8(const unsigned char *bytes, size_t n, char *out);

#endif
