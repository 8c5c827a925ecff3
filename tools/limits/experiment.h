/* Experiments: a theorem of the papers, run on the caches of the daemon. Each is a subcommand of `attn limits` in a file of its own;
 * it fills rows, says in a sentence what the theorem predicts, and ends here: a table or JSON, and a drawing where one is asked for.
 *
 *     {"experiment": "covering", "predicts": "...", "rows": [{...}, ...]} */
#ifndef ATTND_TOOLS_LIMITS_EXPERIMENT_H
#define ATTND_TOOLS_LIMITS_EXPERIMENT_H

#include "tools/command.h"

/* One panel of the drawing, out of the rows: y over x, one line for each combination of the values of `by`. Rows where x or y is no
 * number are left out. */
struct experiment_panel {
    const char *title, *x, *y;
    const char *theory; /* a key that is drawn dashed: one line for all; NULL: none */
    const char *by[3];
    bool x_log, y_log;
    bool theory_each;      /* a dashed line for each combination */
    bool marks;            /* points without lines between */
    const char *only, *is; /* rows where the text of key `only` is this; NULL: all */
};

struct experiment {
    const char *who;      /* "attn limits covering" */
    const char *name;     /* "covering" */
    const char *predicts; /* a sentence */
    json_t *rows;         /* objects with the same keys in the same order */
    json_t *more;         /* an object of further keys of the answer; may be NULL */
    const char *tables;   /* a key: a table for each of its values; NULL: one for all */
    const struct experiment_panel *panels;
    size_t n_panels;
};

/* --plot and --json, to be read with the experiment's own options. */
struct experiment_options {
    const char *plot;
    bool json;
};
extern const struct command_option experiment_option_table[];
extern const size_t n_experiment_options;

/* Takes rows and more. err, fault: of the experiment; then nothing is shown but the fault. The exit code. */
int experiment_end(struct experiment *x, const struct experiment_options *options, int err, struct fault *fault);

/* Adds a row; NULL (no memory, or a number that is not finite) is ERR_NO_MEMORY. */
int experiment_add(struct experiment *x, json_t *row, struct fault *fault);
json_t *experiment_real(double x); /* null when it is not finite */

/* A policy that cannot take part under these settings: told on stderr, and no error. */
void experiment_left_out(const struct experiment *x, const char *what, const char *reason);

/* The subcommands. */
int limits_index(int argc, char **argv);
int limits_sparsity(int argc, char **argv);
int limits_covering(int argc, char **argv);
int limits_clusterability(int argc, char **argv);
int limits_tradeoff(int argc, char **argv);
int limits_nonadaptive(int argc, char **argv);
int limits_window(int argc, char **argv);

#endif
