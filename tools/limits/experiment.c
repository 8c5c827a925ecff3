#include "tools/limits/experiment.h"

#include "tools/eval/table.h"
#include "tools/plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINES_MAX = 48, LABEL_BYTES = 96 };

const struct command_option experiment_option_table[] = {
    {"--plot", "FILE.svg", OPTION_TEXT, offsetof(struct experiment_options, plot), 0, 0, false, "draw it too (gnuplot)"},
    {"--json", NULL, OPTION_SWITCH, offsetof(struct experiment_options, json), 0, 0, false, "one JSON object, no table"},
};
const size_t n_experiment_options = sizeof experiment_option_table / sizeof *experiment_option_table;

json_t *experiment_real(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

int experiment_add(struct experiment *x, json_t *row, struct fault *fault)
{
    return row && json_array_append_new(x->rows, row) == 0 ? 0 : fault_set(fault, ERR_NO_MEMORY, "a row of the experiment");
}

void experiment_left_out(const struct experiment *x, const char *what, const char *reason)
{
    fprintf(stderr, "%s: %s is left out: %s\n", x->who, what, reason);
}

/* ---- drawing */

/* The lines of one panel. Points lie in x and y one line after the other. */
struct lines {
    char label[LINES_MAX][LABEL_BYTES];
    size_t n_points[LINES_MAX], n;
    bool theory[LINES_MAX];
    double *x, *y; /* (LINES_MAX, n_rows) */
};

static void label_row(const json_t *row, const struct experiment_panel *p, char label[LABEL_BYTES])
{
    size_t at = 0;
    label[0] = '\0';
    for (size_t i = 0; i < 3 && p->by[i] && at < LABEL_BYTES; i++) {
        const json_t *value = json_object_get(row, p->by[i]);
        const char *gap = at ? " " : "";
        int wrote = 0;
        if (json_is_string(value))
            wrote = snprintf(label + at, LABEL_BYTES - at, "%s%s", gap, json_string_value(value));
        else if (json_is_number(value))
            wrote = snprintf(label + at, LABEL_BYTES - at, "%s%s %.4g", gap, p->by[i], json_number_value(value));
        at += wrote > 0 ? (size_t)wrote : 0;
    }
}

static void add_point(struct lines *l, size_t n_rows, const char *label, bool theory, const json_t *x, const json_t *y)
{
    size_t i = 0;
    if (!json_is_number(x) || !json_is_number(y))
        return;
    while (i < l->n && (l->theory[i] != theory || strcmp(l->label[i], label) != 0))
        i++;
    if (i == l->n) {
        if (i == LINES_MAX)
            return;
        snprintf(l->label[i], LABEL_BYTES, "%s", label);
        l->theory[i] = theory;
        l->n++;
    }
    size_t at = i * n_rows + l->n_points[i]++;
    l->x[at] = json_number_value(x);
    l->y[at] = json_number_value(y);
}

/* A line's points from left to right. They are few: by insertion. */
static void order_points(double *x, double *y, size_t n)
{
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0 && x[j] < x[j - 1]; j--) {
            double left_x = x[j], left_y = y[j];
            x[j] = x[j - 1];
            y[j] = y[j - 1];
            x[j - 1] = left_x;
            y[j - 1] = left_y;
        }
}

static bool belongs(const json_t *row, const struct experiment_panel *p)
{
    const char *text = p->only ? json_string_value(json_object_get(row, p->only)) : NULL;
    return !p->only || (text && strcmp(text, p->is) == 0);
}

static int make_panel(const struct experiment *e, const struct experiment_panel *p, struct lines *l, struct plot_series *series,
                      struct plot_panel *out)
{
    size_t n_rows = json_array_size(e->rows);
    char label[LABEL_BYTES], dashed[LABEL_BYTES + 16];
    *l = (struct lines){.x = calloc(LINES_MAX * n_rows + 1, sizeof *l->x), .y = calloc(LINES_MAX * n_rows + 1, sizeof *l->y)};
    if (!l->x || !l->y)
        return ERR_NO_MEMORY;
    for (size_t r = 0; r < n_rows; r++) {
        const json_t *row = json_array_get(e->rows, r);
        if (!belongs(row, p))
            continue;
        label_row(row, p, label);
        add_point(l, n_rows, label, false, json_object_get(row, p->x), json_object_get(row, p->y));
        snprintf(dashed, sizeof dashed, "%.70s%s%s", p->theory_each ? label : "", p->theory_each && *label ? ": " : "",
                 p->theory ? p->theory : "");
        if (p->theory)
            add_point(l, n_rows, dashed, true, json_object_get(row, p->x), json_object_get(row, p->theory));
    }
    for (size_t i = 0; i < l->n; i++) {
        order_points(l->x + i * n_rows, l->y + i * n_rows, l->n_points[i]);
        series[i] = (struct plot_series){l->label[i], l->n_points[i], l->x + i * n_rows, l->y + i * n_rows,
                                         l->theory[i] ? PLOT_DASHED
                                         : p->marks   ? PLOT_MARKS
                                                      : PLOT_MARKED};
    }
    *out = (struct plot_panel){p->title, p->x, p->y, p->x_log, p->y_log, series, l->n};
    return 0;
}

static int draw(const struct experiment *e, const char *path, struct fault *fault)
{
    struct lines *lines = calloc(e->n_panels, sizeof *lines);
    struct plot_series *series = calloc(e->n_panels, LINES_MAX * sizeof *series);
    struct plot_panel *panels = calloc(e->n_panels, sizeof *panels);
    int err = lines && series && panels ? 0 : ERR_NO_MEMORY;
    for (size_t i = 0; i < e->n_panels && !err; i++)
        err = make_panel(e, &e->panels[i], &lines[i], series + i * LINES_MAX, &panels[i]);
    err = err ? fault_set(fault, err, "a drawing") : plot_write(path, panels, e->n_panels, 2, fault);
    for (size_t i = 0; lines && i < e->n_panels; i++) {
        free(lines[i].x);
        free(lines[i].y);
    }
    free(lines);
    free(series);
    free(panels);
    return err;
}

/* ---- the answer */

static void print_tables(const struct experiment *x)
{
    size_t n = json_array_size(x->rows);
    json_t *left = json_copy(x->rows); /* the same rows in a list of its own */
    while (json_array_size(left)) {
        const json_t *first = json_array_get(left, 0);
        json_t *which = x->tables ? json_incref(json_object_get(first, x->tables)) : NULL;
        json_t *part = json_array();
        for (size_t i = 0; i < json_array_size(left);) {
            json_t *row = json_array_get(left, i);
            if (which && !json_equal(json_object_get(row, x->tables), which)) {
                i++;
                continue;
            }
            json_array_append(part, row);
            json_array_remove(left, i);
        }
        table_print(stdout, part, NULL, 0);
        json_decref(part);
        json_decref(which);
        if (json_array_size(left))
            fputc('\n', stdout);
    }
    json_decref(left);
    printf("%sPredicted: %s\n", n ? "\n" : "", x->predicts);
    const char *key;
    json_t *value;
    json_object_foreach(x->more, key, value)
    {
        char *text = json_dumps(value, JSON_ENCODE_ANY);
        printf("%s: %s\n", key, text ? text : "");
        free(text);
    }
}

static json_t *answer_of(const struct experiment *x)
{
    json_t *answer = json_pack("{s:s, s:s, s:O}", "experiment", x->name, "predicts", x->predicts, "rows", x->rows);
    if (answer && x->more)
        json_object_update(answer, x->more);
    return answer;
}

int experiment_end(struct experiment *x, const struct experiment_options *options, int err, struct fault *fault)
{
    if (!err && json_array_size(x->rows) == 0)
        err = fault_set(fault, ERR_INVALID, "nothing that was asked for could be measured");
    if (!err && options->plot)
        err = draw(x, options->plot, fault);
    int code = COMMAND_DONE;
    if (err)
        code = command_failed(x->who, fault);
    else if (options->json)
        code = command_print_json(x->who, answer_of(x));
    else
        print_tables(x);
    json_decref(x->rows);
    json_decref(x->more);
    x->rows = x->more = NULL;
    return code;
}
