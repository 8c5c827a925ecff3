#include "tools/command.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPTIONS_MAX = 64 };

/* A signal handler has nothing else to write to. */
static volatile sig_atomic_t interrupted;

static void list_commands(FILE *to, const char *who, const struct command *commands, size_t n)
{
    fprintf(to, "usage: %s SUBCOMMAND ...\n\n", who);
    for (size_t i = 0; i < n; i++)
        fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].help);
    fprintf(to, "  %-12s %s\n\n%s SUBCOMMAND --help tells its options. Exit codes: 0 done, 1 failed, 2 wrong usage.\n", "help",
            "this list", who);
}

static const struct command *find_command(const struct command *commands, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

int command_dispatch(const char *who, const struct command *commands, size_t n, int argc, char **argv)
{
    if (argc < 2) {
        list_commands(stderr, who, commands, n);
        return COMMAND_USAGE;
    }
    bool help = strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0;
    if (help && argc == 2) {
        list_commands(stdout, who, commands, n);
        return COMMAND_DONE;
    }
    const char *name = argv[help ? 2 : 1];
    const struct command *command = find_command(commands, n, name);
    if (!command) {
        fprintf(stderr, "%s: there is no subcommand '%s' (%s help lists them)\n", who, name, who);
        return COMMAND_USAGE;
    }
    if (help) {
        char ask[] = "--help", *asked[] = {argv[2], ask, NULL};
        return command->run(2, asked);
    }
    return command->run(argc - 1, argv + 1);
}

static void print_help(const char *who, const char *help, const struct option_group *groups, size_t n_groups)
{
    printf("usage: %s [OPTIONS]\n\n%s\n\n", who, help);
    for (size_t g = 0; g < n_groups; g++)
        for (size_t i = 0; i < groups[g].n; i++) {
            const struct command_option *o = &groups[g].options[i];
            char form[48];
            snprintf(form, sizeof form, "%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
            printf("  %-22s %s%s\n", form, o->help, o->required ? " (required)" : "");
        }
}

static const struct command_option *find_option(const struct option_group *groups, size_t n_groups, const char *name,
                                                size_t length, size_t *group, size_t *index)
{
    *index = 0;
    for (size_t g = 0; g < n_groups; g++)
        for (size_t i = 0; i < groups[g].n; i++, ++*index)
            if (strlen(groups[g].options[i].name) == length && strncmp(groups[g].options[i].name, name, length) == 0) {
                *group = g;
                return &groups[g].options[i];
            }
    return NULL;
}

static int set_option(const char *who, const struct command_option *o, void *target, const char *text)
{
    void *place = (char *)target + o->offset;
    char *end;
    errno = 0;
    switch (o->type) {
    case OPTION_SWITCH: *(bool *)place = true; return COMMAND_GO_ON;
    case OPTION_TEXT: *(const char **)place = text; return COMMAND_GO_ON;
    case OPTION_COUNT: {
        unsigned long long x = strtoull(text, &end, 10);
        if (*text < '0' || *text > '9' || *end || errno || (double)x < o->min || (double)x > o->max)
            return command_usage(who, "%s must be a whole number from %.0f to %.0f, not '%s'", o->name, o->min, o->max, text);
        *(uint64_t *)place = x;
        return COMMAND_GO_ON;
    }
    case OPTION_NUMBER: {
        double x = strtod(text, &end);
        if (end == text || *end || !isfinite(x) || x < o->min || x > o->max)
            return command_usage(who, "%s must be a number from %g to %g, not '%s'", o->name, o->min, o->max, text);
        *(double *)place = x;
        return COMMAND_GO_ON;
    }
    }
    return COMMAND_GO_ON;
}

int command_parse(const char *who, const char *help, const struct option_group *groups, size_t n_groups, int argc, char **argv)
{
    bool seen[OPTIONS_MAX] = {false};
    size_t group, index;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(who, help, groups, n_groups);
            return COMMAND_DONE;
        }
        if (strncmp(argv[i], "--", 2) != 0)
            return command_usage(who, "'%s' is not an option", argv[i]);
        size_t length = strcspn(argv[i], "=");
        const struct command_option *o = find_option(groups, n_groups, argv[i], length, &group, &index);
        if (!o)
            return command_usage(who, "there is no option %.*s", (int)length, argv[i]);
        assert(index < OPTIONS_MAX);
        if (seen[index])
            return command_usage(who, "%s is given twice", o->name);
        seen[index] = true;
        const char *value = argv[i][length] == '=' ? argv[i] + length + 1 : NULL;
        if (o->type == OPTION_SWITCH && value)
            return command_usage(who, "%s takes no value", o->name);
        if (o->type != OPTION_SWITCH && !value) {
            if (i + 1 == argc)
                return command_usage(who, "%s needs a value (%s)", o->name, o->value);
            value = argv[++i];
        }
        int code = set_option(who, o, groups[group].target, value);
        if (code != COMMAND_GO_ON)
            return code;
    }
    index = 0;
    for (size_t g = 0; g < n_groups; g++)
        for (size_t i = 0; i < groups[g].n; i++, index++)
            if (groups[g].options[i].required && !seen[index])
                return command_usage(who, "%s %s is required", groups[g].options[i].name, groups[g].options[i].value);
    return COMMAND_GO_ON;
}

static void note_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

void command_catch_interrupt(void)
{
    struct sigaction action = {.sa_handler = note_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

bool command_interrupted(void)
{
    return interrupted;
}

int command_failed(const char *who, const struct fault *fault)
{
    if (interrupted) {
        fprintf(stderr, "%s: interrupted\n", who);
        return COMMAND_FAILED;
    }
    fprintf(stderr, "%s: %s (%s)\n", who, fault->text, err_advice(fault->err));
    return COMMAND_FAILED;
}

int command_usage(const char *who, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", who);
    vfprintf(stderr, format, args);
    fprintf(stderr, " (%s --help tells the options)\n", who);
    va_end(args);
    return COMMAND_USAGE;
}

int command_print_json(const char *who, json_t *object)
{
    /* 12 digits are more than anything here is known to, and 0.1 stays 0.1. */
    char *text = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(object);
    if (!text) {
        fprintf(stderr, "%s: the answer is no JSON: a number is not finite, or memory ran out\n", who);
        return COMMAND_FAILED;
    }
    bool ok = puts(text) >= 0 && fflush(stdout) == 0;
    free(text);
    if (!ok)
        fprintf(stderr, "%s: stdout: %s\n", who, strerror(errno));
    return ok ? COMMAND_DONE : COMMAND_FAILED;
}

void command_progress(const char *what, size_t done, size_t total)
{
    if (!isatty(STDERR_FILENO))
        return;
    if (done == total)
        fputs("\r\033[K", stderr);
    else
        fprintf(stderr, "\r%s %zu/%zu\033[K", what, done, total);
    fflush(stderr);
}
