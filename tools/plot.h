/* Plots: lines of points as an SVG file, drawn by gnuplot, which is started for it. */
#ifndef ATTND_TOOLS_PLOT_H
#define ATTND_TOOLS_PLOT_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

enum plot_style {
    PLOT_MARKED, /* a line through marked points */
    PLOT_LINE,
    PLOT_MARKS,
    PLOT_DASHED, /* what theory says, beside what was measured */
};

struct plot_series {
    const char *name;
    size_t n;
    const double *x, *y; /* points that are not finite, or not positive on a logarithmic axis, are left out */
    enum plot_style style;
};

struct plot_panel {
    const char *title, *x_label, *y_label;
    bool x_log, y_log;
    const struct plot_series *series;
    size_t n_series;
};

/* Panels beside one another, `columns` to a row. ERR_IO without gnuplot, when it fails, or when the file cannot be written; a file
 * that was there before is only replaced by a whole drawing. */
int plot_write(const char *path, const struct plot_panel *panels, size_t n_panels, size_t columns, struct fault *fault);

#endif
