#include "tools/bench/child.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const double START_SECONDS = 10, STOP_SECONDS = 5;

static int path_beside(const char *name, char path[PATH_MAX], struct fault *fault)
{
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);
    size_t folder = n > 0 ? (size_t)n : 0;
    while (folder > 0 && path[folder - 1] != '/')
        folder--;
    if (folder == 0 || folder + strlen(name) >= PATH_MAX)
        return fault_set(fault, ERR_IO, "where this program lies cannot be told");
    memcpy(path + folder, name, strlen(name) + 1);
    if (access(path, X_OK) != 0)
        return fault_set(fault, ERR_NOT_FOUND, "%s: %s (it lies beside this program when both are built)", path,
                         strerror(errno));
    return 0;
}

static void become(const char *path, const char *const argv[], int out, pid_t parent)
{
    setpgid(0, 0); /* Ctrl-C is for the parent, which then asks it to end */
    signal(SIGPIPE, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) /* it was gone before that */
        _exit(1);
    dup2(out, STDOUT_FILENO);
    execv(path, (char *const *)argv);
    _exit(127);
}

/* The first line, byte by byte: what follows stays in the pipe. */
static int read_line(struct child *child, const char *name, char *line, size_t size, struct fault *fault)
{
    double deadline = clock_seconds() + START_SECONDS;
    for (size_t n = 0; n + 1 < size;) {
        struct pollfd ready = {.fd = child->out, .events = POLLIN};
        double left = deadline - clock_seconds();
        int polled = left > 0 ? poll(&ready, 1, (int)(left * 1e3) + 1) : 0;
        if (polled < 0 && errno == EINTR)
            continue;
        if (polled == 0)
            return fault_set(fault, ERR_TIMEOUT, "%s was not ready after %.0f seconds", name, START_SECONDS);
        if (polled < 0 || read(child->out, line + n, 1) != 1)
            return fault_set(fault, ERR_IO, "%s ended before it was ready", name);
        if (line[n] == '\n') {
            line[n] = '\0';
            return 0;
        }
        n++;
    }
    return fault_set(fault, ERR_IO, "%s said more than was expected", name);
}

int child_start(struct child *child, const char *name, const char *const argv[], char *line, size_t size, struct fault *fault)
{
    char path[PATH_MAX];
    int ends[2];
    pid_t parent = getpid();
    *child = (struct child){0};
    int err = path_beside(name, path, fault);
    if (err)
        return err;
    if (pipe2(ends, O_CLOEXEC))
        return fault_set(fault, ERR_IO, "a pipe: %s", strerror(errno));
    child->pid = fork();
    if (child->pid == 0)
        become(path, argv, ends[1], parent);
    int failed = child->pid < 0 ? errno : 0;
    close(ends[1]);
    child->out = ends[0];
    if (failed) {
        close(ends[0]);
        *child = (struct child){0};
        return fault_set(fault, ERR_IO, "%s: %s", name, strerror(failed));
    }
    err = read_line(child, name, line, size, fault);
    if (err)
        child_stop(child);
    return err;
}

static bool ended(const struct child *child)
{
    pid_t got = waitpid(child->pid, NULL, WNOHANG);
    return got == child->pid || (got < 0 && errno != EINTR);
}

void child_stop(struct child *child)
{
    if (child->pid <= 0)
        return;
    double deadline = clock_seconds() + STOP_SECONDS;
    bool insisted = false;
    kill(child->pid, SIGTERM);
    while (!ended(child)) {
        if (!insisted && clock_seconds() > deadline) {
            kill(child->pid, SIGKILL);
            insisted = true;
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    close(child->out);
    *child = (struct child){0};
}
