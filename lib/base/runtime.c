#include "base/runtime.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char placeholder[] = "${runtime}";
static const char ipc[] = "ipc://";

enum { SOCKET_PATH_MAX = sizeof((struct sockaddr_un *)0)->sun_path - 1 };

static int fits(int n, size_t size)
{
    return n >= 0 && (size_t)n < size ? 0 : ERR_TOO_LARGE;
}

int runtime_folder(char *path, size_t size)
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    if (xdg && *xdg == '/') /* the XDG specification: a relative path is to be ignored */
        return fits(snprintf(path, size, "%s/attnd", xdg), size);
    return fits(snprintf(path, size, "/tmp/attnd-%lu", (unsigned long)geteuid()), size);
}

int runtime_expand(const char *text, char *out, size_t size)
{
    char folder[PATH_MAX];
    int err = runtime_folder(folder, sizeof folder);
    if (err)
        return err;
    size_t used = 0;
    while (*text) {
        const char *piece = text;
        size_t n = 1;
        if (strncmp(text, placeholder, sizeof placeholder - 1) == 0) {
            piece = folder;
            n = strlen(folder);
            text += sizeof placeholder - 1;
        } else {
            text++;
        }
        if (n >= size - used)
            return ERR_TOO_LARGE;
        memcpy(out + used, piece, n);
        used += n;
    }
    if (used >= size)
        return ERR_TOO_LARGE;
    out[used] = '\0';
    return 0;
}

/* Creates path and the folders above it where they are missing, for this user alone. */
static int create_folders(char *path)
{
    for (char *slash = path + 1;; slash++) {
        if (*slash && *slash != '/')
            continue;
        char end = *slash;
        *slash = '\0';
        int failed = mkdir(path, 0700) != 0 && errno != EEXIST;
        *slash = end;
        if (failed)
            return ERR_IO;
        if (!end)
            return 0;
    }
}

/* The fallback folder lies in /tmp, where anybody could have made it first and then own our sockets. */
static int check_owner(const char *folder, struct fault *fault)
{
    struct stat s;
    if (lstat(folder, &s) != 0)
        return fault_set(fault, ERR_IO, "%s: %s", folder, strerror(errno));
    if (!S_ISDIR(s.st_mode))
        return fault_set(fault, ERR_IO, "%s is not a folder", folder);
    if (s.st_uid != geteuid() || (s.st_mode & (S_IWGRP | S_IWOTH)))
        return fault_set(fault, ERR_IO, "%s must belong to this user and be writable by nobody else", folder);
    return 0;
}

int runtime_prepare(const char *endpoint, struct fault *fault)
{
    if (strncmp(endpoint, ipc, sizeof ipc - 1) != 0)
        return 0;
    const char *socket_path = endpoint + sizeof ipc - 1;
    if (*socket_path == '@' || *socket_path == '*') /* abstract, or a name that ZeroMQ chooses */
        return 0;
    if (strlen(socket_path) > SOCKET_PATH_MAX)
        return fault_set(fault, ERR_TOO_LARGE, "%s: the path of an ipc socket has at most %d bytes", endpoint, SOCKET_PATH_MAX);
    char folder[SOCKET_PATH_MAX + 1], own[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", socket_path);
    char *slash = strrchr(folder, '/');
    if (!slash || slash == folder)
        return 0;
    *slash = '\0';
    if (create_folders(folder))
        return fault_set(fault, ERR_IO, "%s cannot be created: %s", folder, strerror(errno));
    if (runtime_folder(own, sizeof own) == 0 && strcmp(own, folder) == 0)
        return check_owner(folder, fault);
    struct stat s;
    if (stat(folder, &s) != 0 || !S_ISDIR(s.st_mode))
        return fault_set(fault, ERR_IO, "%s is not a folder", folder);
    return 0;
}

int runtime_ingest(char *endpoint, size_t size)
{
    return runtime_expand("ipc://${runtime}/ingest.sock", endpoint, size);
}
