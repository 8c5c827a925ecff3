#include "tools/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_BYTES_MAX = 1 << 20 };

int file_read(const char *path, char **text, size_t *bytes, struct fault *fault)
{
    *text = NULL;
    *bytes = 0;
    FILE *f = fopen(path, "rb");
    if (!f) {
        int err = errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
        fault_set(fault, err, "%.160s: %s", path, strerror(errno));
        return err;
    }
    size_t room = 1 << 16, n = 0;
    char *buffer = malloc(room);
    while (buffer) { /* grown as it comes: a pipe has no size */
        n += fread(buffer + n, 1, room - n, f);
        if (n < room)
            break;
        room *= 2;
        char *larger = realloc(buffer, room);
        if (!larger)
            free(buffer);
        buffer = larger;
    }
    int reason = ferror(f) ? errno : 0;
    fclose(f);
    if (!buffer) {
        fault_set(fault, ERR_NO_MEMORY, "%.160s: reading it", path);
        return ERR_NO_MEMORY;
    }
    if (reason) {
        free(buffer);
        fault_set(fault, ERR_IO, "%.160s: %s", path, strerror(reason));
        return ERR_IO;
    }
    buffer[n] = 0;
    *text = buffer;
    *bytes = n;
    return 0;
}

int file_read_config(const char *path, char **text, struct fault *fault)
{
    size_t n;
    int err = file_read(path, text, &n, fault);
    if (err)
        return err;
    if (n > CONFIG_BYTES_MAX)
        err = fault_set(fault, ERR_TOO_LARGE, "%.160s: more than %d bytes", path, CONFIG_BYTES_MAX);
    else if (strlen(*text) != n)
        err = fault_set(fault, ERR_INVALID, "%.160s: a NUL byte", path);
    if (err) {
        free(*text);
        *text = NULL;
    }
    return err;
}
