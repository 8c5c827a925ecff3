/* What the subcommands of `attn` share: tables of subcommands and of options, exit codes, how errors and answers are printed.
 *
 * A subcommand is a row {name, help, run}. run gets its own name as argv[0] and returns an exit code. Its options are tables;
 * one parser reads them, names the option that is wrong, and prints `--help`. An error looks the same everywhere:
 *     attn lm generate: what, where, why (what to do)
 * Threads: the main thread only. */
#ifndef ATTND_TOOLS_COMMAND_H
#define ATTND_TOOLS_COMMAND_H

#include "base/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { COMMAND_DONE = 0, COMMAND_FAILED = 1, COMMAND_USAGE = 2, COMMAND_GO_ON = -1 };

struct command {
    const char *name, *help;
    int (*run)(int argc, char **argv);
};

/* The subcommands of `attn`, each in a file of its own. */
int command_bench(int argc, char **argv);
int command_eval(int argc, char **argv);
int command_feed(int argc, char **argv);
int command_limits(int argc, char **argv);
int command_lm(int argc, char **argv);
int command_reload(int argc, char **argv);
int command_status(int argc, char **argv);
int command_top(int argc, char **argv);
int command_tune(int argc, char **argv);

/* Runs the row that argv[1] names. who: "attn" or "attn lm". "help", "help NAME" and "--help" list the table or ask the row. */
int command_dispatch(const char *who, const struct command *commands, size_t n, int argc, char **argv);

enum option_type {
    OPTION_SWITCH, /* bool; takes no value */
    OPTION_TEXT,   /* const char *, points into argv */
    OPTION_COUNT,  /* uint64_t, min..max */
    OPTION_NUMBER, /* double, finite, min..max */
};

struct command_option {
    const char *name;  /* "--model" */
    const char *value; /* what the help calls its value: "DIR"; NULL for a switch */
    enum option_type type;
    size_t offset; /* of the value in the target; an absent option leaves what is there */
    double min, max;
    bool required;
    const char *help;
};

/* Options that are read together into one struct. A command hands in one or more such groups. */
struct option_group {
    const struct command_option *options;
    size_t n;
    void *target;
};

/* Reads argv[1..] as `--name value`, `--name=value` or `--switch`. COMMAND_GO_ON, or the exit code after --help or wrong usage. */
int command_parse(const char *who, const char *help, const struct option_group *groups, size_t n_groups, int argc, char **argv);

/* Prints `who: text (advice)` on stderr and returns COMMAND_FAILED; `who: text (who --help)` and COMMAND_USAGE. */
int command_failed(const char *who, const struct fault *fault);
int command_usage(const char *who, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* From the first call on, the first Ctrl-C only makes command_interrupted true, so that a command can close what it opened in the
 * daemon; a second one ends the program as usual. command_failed then says that, whatever the fault. */
void command_catch_interrupt(void);
bool command_interrupted(void);

/* Takes object and prints it on stdout as one line. NULL (memory, or a number that is not finite) is an error. Exit code. */
int command_print_json(const char *who, json_t *object);

/* `what done/total` on stderr, over itself, when that is a terminal; done == total clears the line. */
void command_progress(const char *what, size_t done, size_t total);

#endif
