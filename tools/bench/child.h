/* Child: a program that runs beside this one until it is told to end, and ends by itself when this one is gone. */
#ifndef ATTND_TOOLS_BENCH_CHILD_H
#define ATTND_TOOLS_BENCH_CHILD_H

#include "base/err.h"

#include <sys/types.h>

struct child {
    pid_t pid; /* 0: none */
    int out;   /* its standard output */
};

/* Starts `name`, which lies in the folder of the running program, with these arguments (argv[0] included, NULL at the end), and
 * waits, for at most 10 seconds, for the first line that it prints: into line, without its end. ERR_IO, ERR_NOT_FOUND, ERR_TIMEOUT. */
int child_start(struct child *child, const char *name, const char *const argv[], char *line, size_t size, struct fault *fault);

/* Asks it to end, waits for that, and insists after 5 seconds. A zeroed struct is allowed. */
void child_stop(struct child *child);

#endif
