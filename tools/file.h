/* Files that are read whole. Ownership: the caller frees the text. Threads: pure functions. */
#ifndef ATTND_TOOLS_FILE_H
#define ATTND_TOOLS_FILE_H

#include "base/err.h"

/* *text has a NUL behind its bytes. ERR_NOT_FOUND, ERR_IO, ERR_NO_MEMORY with the path. */
int file_read(const char *path, char **text, size_t *bytes, struct fault *fault);

/* A configuration: at most 1 MiB, and no NUL inside. ERR_TOO_LARGE, ERR_INVALID. */
int file_read_config(const char *path, char **text, struct fault *fault);

#endif
