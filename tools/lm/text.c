#include "tools/lm/text.h"
#include "tools/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int lm_ids_of_bytes(const void *text, size_t bytes, uint32_t **ids, struct fault *fault)
{
    *ids = malloc((bytes ? bytes : 1) * sizeof **ids);
    if (!*ids)
        return fault_set(fault, ERR_NO_MEMORY, "tokens of %zu bytes", bytes);
    for (size_t i = 0; i < bytes; i++)
        (*ids)[i] = ((const unsigned char *)text)[i];
    return 0;
}

int lm_ids_read(const char *path, size_t vocab, uint32_t **ids, size_t *n, struct fault *fault)
{
    char *text, *rest;
    size_t bytes, line = 1;
    *ids = NULL;
    *n = 0;
    int err = file_read(path, &text, &bytes, fault);
    if (err)
        return err;
    *ids = malloc((bytes / 2 + 1) * sizeof **ids); /* a line has at least a digit and its end */
    if (!*ids) {
        free(text);
        fault_set(fault, ERR_NO_MEMORY, "%.160s: token ids", path);
        return ERR_NO_MEMORY;
    }
    for (char *at = text; !err && at < text + bytes; at = rest + 1, line++) {
        rest = at + strcspn(at, "\n");
        char *end = at;
        size_t blank = strspn(at, " \t\r");
        if (at + blank >= rest)
            continue;
        errno = 0;
        unsigned long id = at[blank] >= '0' && at[blank] <= '9' ? strtoul(at + blank, &end, 10) : 0;
        if (end == at || end + strspn(end, " \t\r") < rest || errno || id >= vocab)
            err = fault_set(fault, ERR_INVALID, "%.120s:%zu: must be a token id from 0 to %zu, not '%.*s'", path, line,
                            vocab - 1, rest - at > 24 ? 24 : (int)(rest - at), at);
        else
            (*ids)[(*n)++] = (uint32_t)id;
    }
    if (!err && *n == 0)
        err = fault_set(fault, ERR_INVALID, "%.160s: it holds no token id", path);
    free(text);
    if (err) {
        free(*ids);
        *ids = NULL;
        *n = 0;
    }
    return err;
}

/* Length of the valid UTF-8 sequence at b (n bytes left), or 0. RFC 3629: no overlong forms, surrogates, or above U+10FFFF. */
static size_t sequence(const unsigned char *b, size_t n)
{
    if (b[0] < 0x80)
        return 1;
    size_t length = b[0] >= 0xC2 && b[0] <= 0xDF ? 2 : b[0] >= 0xE0 && b[0] <= 0xEF ? 3 : b[0] >= 0xF0 && b[0] <= 0xF4 ? 4 : 0;
    if (length == 0 || length > n)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((b[i] & 0xC0) != 0x80)
            return 0;
    if ((b[0] == 0xE0 && b[1] < 0xA0) || (b[0] == 0xED && b[1] > 0x9F) || (b[0] == 0xF0 && b[1] < 0x90) ||
        (b[0] == 0xF4 && b[1] > 0x8F))
        return 0;
    return length;
}

size_t lm_utf8(const unsigned char *bytes, size_t n, char *out)
{
    size_t length = 0;
    for (size_t i = 0; i < n;) {
        size_t valid = sequence(bytes + i, n - i);
        memcpy(out + length, valid ? (const char *)bytes + i : "\xEF\xBF\xBD", valid ? valid : 3);
        length += valid ? valid : 3;
        i += valid ? valid : 1;
    }
    return length;
}
