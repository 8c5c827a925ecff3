/* The real program: options, exit codes, signals. ATTND_BIN names it (default build/attnd). */
#include "tests/e2e/scene.h"
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct process {
    pid_t pid;
    int out, err; /* read ends */
    char text[2][16384];
    size_t n_text[2];
};

enum { ARGUMENTS_MAX = 4 };

static bool process_start(struct process *p, const char *const arguments[ARGUMENTS_MAX])
{
    const char *program = getenv("ATTND_BIN") ? getenv("ATTND_BIN") : "build/attnd";
    int out[2], err[2];
    posix_spawn_file_actions_t actions;
    char *argv[ARGUMENTS_MAX + 2] = {(char *)(uintptr_t)program};
    for (int i = 0; i < ARGUMENTS_MAX && arguments[i]; i++)
        argv[1 + i] = (char *)(uintptr_t)arguments[i];
    memset(p, 0, sizeof *p);
    if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
        return false;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, err[1], STDERR_FILENO);
    int failed = posix_spawn(&p->pid, program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    close(err[1]);
    p->out = out[0];
    p->err = err[0];
    if (failed)
        printf("\n%s: %s", program, strerror(failed));
    CU_ASSERT(!failed);
    return !failed;
}

/* Reads what comes until `wanted` is in its output; wanted NULL: until it closes both. False after 20 seconds, or when it ends. */
static bool process_read(struct process *p, const char *wanted)
{
    struct pollfd fd[2] = {{.fd = p->out, .events = POLLIN}, {.fd = p->err, .events = POLLIN}};
    while (!(wanted && strstr(p->text[0], wanted))) {
        if (fd[0].fd < 0 && fd[1].fd < 0)
            return !wanted;
        if (poll(fd, 2, 20000) <= 0)
            return false;
        for (int i = 0; i < 2; i++) {
            size_t room = sizeof p->text[i] - 1 - p->n_text[i];
            ssize_t n = fd[i].revents ? read(fd[i].fd, p->text[i] + p->n_text[i], room) : -1;
            if (n > 0)
                p->n_text[i] += (size_t)n;
            else if (fd[i].revents)
                fd[i].fd = -1; /* poll passes over it */
        }
    }
    return true;
}

/* Its exit code; -1 when a signal ended it. */
static int process_end(struct process *p)
{
    int status = 0;
    process_read(p, NULL);
    while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR)
        ;
    close(p->out);
    close(p->err);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Runs it to its end. */
static int run(struct process *p, const char *a, const char *b, const char *c)
{
    const char *const arguments[ARGUMENTS_MAX] = {a, b, c};
    return process_start(p, arguments) ? process_end(p) : -2;
}

static char *write_config(char path[64], const char *text)
{
    strcpy(path, "/tmp/attnd-test-XXXXXX");
    FILE *file = fdopen(mkstemp(path), "w");
    CU_ASSERT_FATAL(file != NULL);
    fputs(text, file);
    fclose(file);
    return path;
}

/* ---- options */

static void version_and_help_are_printed(void)
{
    struct process p;
    CU_ASSERT_EQUAL(run(&p, "--version", NULL, NULL), 0);
    CU_ASSERT_STRING_EQUAL(p.text[0], "attnd " ATTND_VERSION "\n");
    CU_ASSERT_EQUAL(run(&p, "--help", NULL, NULL), 0);
    CU_ASSERT(strstr(p.text[0], "usage: attnd") != NULL);
    static const char *const options[] = {"--config", "--check-config", "--help-config", "--print-config", "--version"};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        CU_ASSERT(strstr(p.text[0], options[i]) != NULL);
    CU_ASSERT_EQUAL(run(&p, "--help-config", NULL, NULL), 0);
    CU_ASSERT(strstr(p.text[0], "credit_bytes") != NULL);
}

static void wrong_usage_ends_with_2(void)
{
    struct process p;
    CU_ASSERT_EQUAL(run(&p, "--frobnicate", NULL, NULL), 2);
    CU_ASSERT(strstr(p.text[1], "usage: attnd") != NULL);
    CU_ASSERT_EQUAL(run(&p, "serve", NULL, NULL), 2);
    CU_ASSERT(strstr(p.text[1], "'serve'") != NULL);
    CU_ASSERT_EQUAL(run(&p, "--config", NULL, NULL), 2);
}

static void the_built_in_configuration_is_the_file_in_config(void)
{
    struct process p;
    char file[sizeof p.text[0]] = {0};
    FILE *f = fopen("config/attnd.yaml", "r");
    CU_ASSERT_FATAL(f != NULL);
    CU_ASSERT(fread(file, 1, sizeof file - 1, f) > 0);
    fclose(f);
    CU_ASSERT_EQUAL(run(&p, "--print-config", NULL, NULL), 0);
    CU_ASSERT_STRING_EQUAL(p.text[0], file);
    CU_ASSERT_EQUAL(run(&p, "--check-config", NULL, NULL), 0);
    CU_ASSERT_EQUAL(run(&p, "--check-config", "--config", "config/attnd.yaml"), 0);
    CU_ASSERT(strstr(p.text[0], "no errors") != NULL);
}

static void all_errors_of_a_configuration_are_told_by_file_line_and_key(void)
{
    struct process p;
    char path[64], wanted[128];
    write_config(path, "limits:\n"
                       "  parts: 0\n"
                       "  streams: many\n"
                       "frobnicate: 1\n"
                       "profiles:\n"
                       "  - name: x\n"
                       "    rules:\n"
                       "      - {policy: nonesuch}\n"
                       "      - {policy: window, window_tokens: -1}\n"
                       "      - {attention: softmax, policy: two_cache}\n");
    CU_ASSERT_EQUAL(run(&p, "--check-config", "--config", path), 1);
    static const struct {
        int line;
        const char *key;
    } errors[] = {{2, "parts"}, {3, "streams"}, {4, "frobnicate"}, {8, ""}, {9, "window_tokens"}, {10, ""}};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        snprintf(wanted, sizeof wanted, "%s:%d: ", path, errors[i].line);
        const char *line = strstr(p.text[1], wanted), *end = line ? strchr(line, '\n') : NULL;
        const char *key = line ? strstr(line, errors[i].key) : NULL;
        if (!line || !key || !end || key > end)
            printf("\nno error in line %d about '%s' among:\n%s", errors[i].line, errors[i].key, p.text[1]);
        CU_ASSERT(line && key && end && key < end);
    }
    CU_ASSERT_STRING_EQUAL(p.text[0], "");
    CU_ASSERT_EQUAL(run(&p, "--config", path, NULL), 1); /* nor does it start */
    unlink(path);
    CU_ASSERT_EQUAL(run(&p, "--check-config", "--config", path), 1);
    CU_ASSERT(strstr(p.text[1], path) != NULL);
}

/* ---- a running daemon */

/* Started without arguments, in a runtime folder of its own. */
struct running {
    struct process process;
    char folder[64], ingest[128];
};

static bool running_start(struct running *r)
{
    static const char *const no_arguments[ARGUMENTS_MAX] = {NULL};
    setenv("XDG_RUNTIME_DIR", r->folder, 1);
    bool ok = process_start(&r->process, no_arguments);
    unsetenv("XDG_RUNTIME_DIR");
    if (ok && !process_read(&r->process, "ready at "))
        printf("\n%s%s", r->process.text[0], r->process.text[1]);
    ok = ok && strstr(r->process.text[0], "ready at ") && strstr(r->process.text[0], r->ingest);
    CU_ASSERT(ok);
    return ok;
}

static bool running_open(struct running *r)
{
    memset(r, 0, sizeof *r);
    strcpy(r->folder, "/tmp/attnd-test-XXXXXX");
    if (!mkdtemp(r->folder))
        return false;
    snprintf(r->ingest, sizeof r->ingest, "ipc://%s/attnd/ingest.sock", r->folder);
    return running_start(r);
}

static int running_end(struct running *r, int signal_number)
{
    kill(r->process.pid, signal_number);
    return process_end(&r->process);
}

static void running_remove(struct running *r)
{
    static const char *const names[] = {"ingest.sock", "outputs.sock", "telemetry.sock"};
    char path[192];
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/attnd/%s", r->folder, names[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/attnd", r->folder);
    rmdir(path);
    rmdir(r->folder);
}

static void it_serves_without_arguments_and_ends_with_0_on_signals(void)
{
    static const int signals[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < 2; i++) {
        struct running r;
        struct attnd_client *client = NULL;
        if (running_open(&r)) {
            struct stat s;
            char folder[128];
            snprintf(folder, sizeof folder, "%s/attnd", r.folder);
            CU_ASSERT(stat(folder, &s) == 0 && (s.st_mode & 0777) == 0700);
            CU_ASSERT_EQUAL(attnd_connect(&client, r.ingest, NULL, NULL), 0);
            CU_ASSERT(client && strcmp(attnd_hello(client)->version, ATTND_VERSION) == 0);
            attnd_disconnect(client);
            CU_ASSERT_EQUAL(running_end(&r, signals[i]), 0);
            CU_ASSERT(strstr(r.process.text[1], "stopped") != NULL);
        }
        running_remove(&r);
    }
}

static void on_sighup_it_reads_its_configuration_again(void)
{
    struct running r;
    struct attnd_client *client = NULL;
    if (UNDER_TSAN) /* a daemon started from here dies of SIGHUP then, one started by hand does not; e2e/reload reloads under it */
        return;
    if (running_open(&r)) {
        CU_ASSERT_EQUAL(attnd_connect(&client, r.ingest, NULL, NULL), 0);
        attnd_disconnect(client);
        kill(r.process.pid, SIGHUP);
        usleep(
            300000); /* until it waits again: meanwhile a thread of a sanitizer, which blocks no signal, would die of SIGTERM */
        CU_ASSERT_EQUAL(running_end(&r, SIGTERM), 0);
        CU_ASSERT(strstr(r.process.text[1], " reloaded pools=1 ") != NULL);
    }
    running_remove(&r);
}

static void on_sigterm_what_was_taken_is_answered(void)
{
    enum { N = 300, SLOW = UNDER_TSAN ? 100 : 300 };
    struct running r;
    if (running_open(&r)) {
        struct raw raw;
        struct raw_reply reply;
        struct shape shape = house_shape(0, 1, 4, 2, 16, 8);
        struct tokens tokens;
        size_t answered = 0;
        tokens_create(&tokens, &shape, 1, 0, 0, N * 2);
        CU_ASSERT_FATAL(raw_open(&raw, r.ingest));
        uint64_t id = raw_open_stream(&raw, "x", &shape, "full", false);
        for (uint64_t i = 0; i < N; i++) { /* a long one, and many behind it */
            struct raw_message message = {0};
            raw_add(&message, id, &tokens, i ? SLOW - 1 + i : 0, i ? 1 : SLOW, WIRE_APPEND | WIRE_ATTEND);
            message.at[0] = i;
            raw_send_message(&raw, &message);
        }
        CU_ASSERT(raw_ask(&raw, "{\"op\":\"status\",\"id\":1}", &reply)); /* all are taken; some may be answered */
        while (reply.text[0] == 0) {                                      /* this was an answer to one of them */
            answered += raw_error(&reply) == 0;
            raw_reply_free(&reply);
            CU_ASSERT_FATAL(raw_receive(&raw, 60, &reply));
        }
        kill(r.process.pid, SIGTERM);
        for (; answered < N && raw_receive(&raw, 60, &reply); answered++) {
            CU_ASSERT_EQUAL(raw_error(&reply), 0);
            raw_reply_free(&reply);
        }
        CU_ASSERT_EQUAL(answered, N);
        CU_ASSERT_EQUAL(process_end(&r.process), 0);
        raw_close(&raw);
        tokens_destroy(&tokens);
    }
    running_remove(&r);
}

static void a_second_daemon_on_the_same_sockets_is_refused_and_the_first_serves_on(void)
{
    struct running r;
    if (running_open(&r)) {
        struct process second;
        struct attnd_client *client = NULL;
        static const char *const names[] = {"ingest", "outputs", "telemetry"};
        setenv("XDG_RUNTIME_DIR", r.folder, 1);
        CU_ASSERT_EQUAL(run(&second, NULL, NULL, NULL), 1);
        unsetenv("XDG_RUNTIME_DIR");
        CU_ASSERT(strstr(second.text[1], r.ingest) != NULL);
        for (size_t i = 0; i < 3; i++) { /* each socket by itself: the others are elsewhere */
            char path[64], yaml[1024] = "";
            for (size_t j = 0; j < 3; j++)
                snprintf(yaml + strlen(yaml), sizeof yaml - strlen(yaml), "%s: {endpoints: [\"ipc://%s/%s%s\"]}\n", names[j],
                         r.folder, i == j ? "attnd/" : "",
                         i == j ? i == 0   ? "ingest.sock"
                                  : i == 1 ? "outputs.sock"
                                           : "telemetry.sock"
                                : names[j]);
            CU_ASSERT_EQUAL(run(&second, "--config", write_config(path, yaml), NULL), 1);
            CU_ASSERT(strstr(second.text[1], "another daemon") != NULL);
            unlink(path);
        }
        for (size_t j = 0; j < 3; j++) {
            char path[192];
            snprintf(path, sizeof path, "%s/%s", r.folder, names[j]);
            unlink(path);
        }
        CU_ASSERT_EQUAL(attnd_connect(&client, r.ingest, NULL, NULL), 0);
        attnd_disconnect(client);
        CU_ASSERT_EQUAL(running_end(&r, SIGTERM), 0);
    }
    running_remove(&r);
}

static void sockets_left_by_a_killed_daemon_do_not_hold_up_the_next(void)
{
    struct running r;
    if (running_open(&r)) {
        struct attnd_client *client = NULL;
        CU_ASSERT_EQUAL(running_end(&r, SIGKILL), -1);
        if (running_start(&r)) {
            CU_ASSERT_EQUAL(attnd_connect(&client, r.ingest, NULL, NULL), 0);
            attnd_disconnect(client);
            CU_ASSERT_EQUAL(running_end(&r, SIGTERM), 0);
        }
    }
    running_remove(&r);
}

static void what_cannot_be_bound_or_run_is_named_and_ends_with_1(void)
{
    static const struct {
        const char *yaml, *wanted;
    } wrong[] = {
        {"ingest: {endpoints: [\"tcp://192.0.2.1:5701\"]}\n", "tcp://192.0.2.1:5701"}, /* an address of nobody */
        {"ingest: {endpoints: [\"ipc:///dev/null/attnd/ingest\"]}\n", "/dev/null/attnd"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct process p;
        char path[64];
        CU_ASSERT_EQUAL(run(&p, "--config", write_config(path, wrong[i].yaml), NULL), 1);
        if (!strstr(p.text[1], wrong[i].wanted))
            printf("\n%s", p.text[1]);
        CU_ASSERT(strstr(p.text[1], wrong[i].wanted) != NULL);
        unlink(path);
    }
}

TEST_SUITE("e2e/process", TEST(version_and_help_are_printed), TEST(wrong_usage_ends_with_2),
           TEST(the_built_in_configuration_is_the_file_in_config),
           TEST(all_errors_of_a_configuration_are_told_by_file_line_and_key),
           TEST(it_serves_without_arguments_and_ends_with_0_on_signals), TEST(on_sighup_it_reads_its_configuration_again),
           TEST(on_sigterm_what_was_taken_is_answered),
           TEST(a_second_daemon_on_the_same_sockets_is_refused_and_the_first_serves_on),
           TEST(sockets_left_by_a_killed_daemon_do_not_hold_up_the_next),
           TEST(what_cannot_be_bound_or_run_is_named_and_ends_with_1))
