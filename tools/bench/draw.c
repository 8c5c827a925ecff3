/* attn bench plot: the results of a run as one drawing: each kernel's share of its limit, and each pipeline's round trip beside
 * the echo's. A case is one mark, named in the legend. */
#include "tools/bench/bench.h"
#include "tools/bench/results.h"
#include "tools/command.h"
#include "tools/plot.h"

#include <stdio.h>

static const char who[] = "attn bench plot";

enum { CASES_MAX = 128 };

struct options {
    const char *results, *plot;
};

#define PLACE(field) offsetof(struct options, field)

static const struct command_option option_table[] = {
    {"--results", "FILE", OPTION_TEXT, PLACE(results), 0, 0, true, "lines of attn bench kernels and pipeline, with --json"},
    {"--plot", "FILE.svg", OPTION_TEXT, PLACE(plot), 0, 0, true, "where to draw (gnuplot)"},
};

struct drawing {
    char name[CASES_MAX][RESULTS_NAME];
    double x[CASES_MAX], y[CASES_MAX];
    struct plot_series series[CASES_MAX];
    size_t n;
};

static void add_mark(struct drawing *d, double y)
{
    d->x[d->n] = (double)(d->n + 1);
    d->y[d->n] = y;
    d->series[d->n] = (struct plot_series){d->name[d->n], 1, &d->x[d->n], &d->y[d->n], PLOT_MARKS};
    d->n++;
}

static int draw(const struct results *results, const char *path, struct fault *fault)
{
    static struct drawing kernels, pipeline; /* large; one command runs at a time */
    kernels.n = pipeline.n = 0;
    for (size_t i = 0; i < json_array_size(results->kernels) && kernels.n < CASES_MAX; i++) {
        const json_t *line = json_array_get(results->kernels, i);
        results_name(line, kernels.name[kernels.n]);
        add_mark(&kernels, results_number(line, "fraction_of_limit"));
    }
    for (size_t i = 0; i < json_array_size(results->pipeline) && pipeline.n < CASES_MAX; i++) {
        const json_t *line = json_array_get(results->pipeline, i);
        snprintf(pipeline.name[pipeline.n], RESULTS_NAME, "%s, %.0f in flight",
                 json_string_value(json_object_get(line, "transport")), results_number(line, "in_flight"));
        add_mark(&pipeline, results_number(line, "ratio_p50"));
    }
    const struct plot_panel panels[] = {
        {"kernels", "case", "share of the limit", false, false, kernels.series, kernels.n},
        {"one-token messages", "case", "daemon / raw echo, median", false, false, pipeline.series, pipeline.n},
    };
    return plot_write(path, panels, pipeline.n ? 2 : 1, 1, fault);
}

int bench_plot(int argc, char **argv)
{
    struct options o = {0};
    struct option_group group = {option_table, sizeof option_table / sizeof *option_table, &o};
    struct results results = {0};
    struct fault fault = {0};
    int code = command_parse(who, "Draws what attn bench measured.", &group, 1, argc, argv);
    if (code != COMMAND_GO_ON)
        return code;
    int err = results_read(&results, o.results, &fault);
    if (!err)
        err = draw(&results, o.plot, &fault);
    results_free(&results);
    return err ? command_failed(who, &fault) : COMMAND_DONE;
}
