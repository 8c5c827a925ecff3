#include "tools/eval/figures.h"

#include "tools/plot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Series of both panels of one trace, with the memory that they point to. */
struct figure {
    struct plot_series *error, *time; /* (n,) */
    char (*label)[128];               /* of time's series */
    double *bytes, *mean;             /* of all results */
    size_t n;
    char title[2][160];
};

static void figure_free(struct figure *f)
{
    free(f->error);
    free(f->time);
    free(f->label);
    free(f->bytes);
    free(f->mean);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The results of one trace, [0, n), as series: one for each name. */
static int figure_make(struct figure *f, const struct result *results, size_t n)
{
    *f = (struct figure){calloc(n, sizeof *f->error),
                         calloc(n, sizeof *f->time),
                         calloc(n, sizeof *f->label),
                         calloc(n, sizeof *f->bytes),
                         calloc(n, sizeof *f->mean),
                         0,
                         {"", ""}};
    if (!f->error || !f->time || !f->label || !f->bytes || !f->mean)
        return ERR_NO_MEMORY;
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i; end < n && strcmp(results[end].name, results[i].name) == 0; end++) {
            f->bytes[end] = results[end].measured.bytes;
            f->mean[end] = results[end].measured.error_mean;
        }
        const struct result *least = &results[end - 1];
        snprintf(f->label[f->n], sizeof *f->label, "%s%s%s", least->name, *least->budget ? " at " : "", least->budget);
        f->error[f->n] = (struct plot_series){results[i].name, end - i, f->bytes + i, f->mean + i, PLOT_MARKED};
        f->time[f->n] = (struct plot_series){f->label[f->n], least->measured.n_points, least->measured.position,
                                             least->measured.seconds, PLOT_LINE};
        f->n++;
    }
    const char *name = base_name(results->trace);
    snprintf(f->title[0], sizeof f->title[0], "%.100s: error against bytes", name);
    snprintf(f->title[1], sizeof f->title[1], "%.100s: time of a token, at each policy's smallest budget", name);
    return 0;
}

int figures_write(const char *path, const struct result *results, size_t n, struct fault *fault)
{
    struct figure *figure = calloc(n + 1, sizeof *figure);
    struct plot_panel *panel = calloc(n + 1, 2 * sizeof *panel);
    size_t n_figures = 0;
    int err = figure && panel ? 0 : ERR_NO_MEMORY;
    for (size_t i = 0, end; i < n && !err; i = end) {
        for (end = i; end < n && strcmp(results[end].trace, results[i].trace) == 0;)
            end++;
        struct figure *f = &figure[n_figures];
        err = figure_make(f, results + i, end - i);
        panel[2 * n_figures] =
            (struct plot_panel){f->title[0], "bytes of all heads", "mean relative error", true, true, f->error, f->n};
        panel[2 * n_figures + 1] =
            (struct plot_panel){f->title[1], "tokens before", "seconds per token and layer", false, true, f->time, f->n};
        n_figures++;
    }
    err = err ? fault_set(fault, err, "a plot") : plot_write(path, panel, 2 * n_figures, 2, fault);
    for (size_t i = 0; i < n_figures; i++)
        figure_free(&figure[i]);
    free(figure);
    free(panel);
    return err;
}
