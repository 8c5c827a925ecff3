#include "tools/plot.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PANEL_WIDTH = 760, PANEL_HEIGHT = 480 }; /* of the drawing, in pixels */

/* Text for gnuplot in single quotes, which it doubles; line ends would end its command. */
static void write_text(FILE *to, const char *text)
{
    fputc('\'', to);
    for (; *text; text++) {
        if (*text == '\'')
            fputc('\'', to);
        fputc((unsigned char)*text < ' ' ? ' ' : *text, to);
    }
    fputc('\'', to);
}

static bool is_shown(const struct plot_panel *p, double x, double y)
{
    return isfinite(x) && isfinite(y) && (!p->x_log || x > 0) && (!p->y_log || y > 0);
}

static size_t n_shown(const struct plot_panel *p, const struct plot_series *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        n += is_shown(p, s->x[i], s->y[i]);
    return n;
}

static const char *const styles[] = {
    [PLOT_MARKED] = "linespoints linewidth 1.5 pointsize 0.7",
    [PLOT_LINE] = "lines linewidth 1.5",
    [PLOT_MARKS] = "points",
    [PLOT_DASHED] = "lines linewidth 1.5 dashtype 2",
};

static void write_panel(FILE *to, const struct plot_panel *p)
{
    for (size_t i = 0; i < p->n_series; i++) {
        const struct plot_series *s = &p->series[i];
        fprintf(to, "$data%zu << END_OF_DATA\n", i);
        for (size_t k = 0; k < s->n; k++)
            if (is_shown(p, s->x[k], s->y[k]))
                fprintf(to, "%.9g %.9g\n", s->x[k], s->y[k]);
        fprintf(to, "END_OF_DATA\n");
    }
    fprintf(to, "set title ");
    write_text(to, p->title);
    fprintf(to, " noenhanced\nset xlabel ");
    write_text(to, p->x_label);
    fprintf(to, " noenhanced\nset ylabel ");
    write_text(to, p->y_label);
    fprintf(to, " noenhanced\nunset logscale\n");
    if (p->x_log)
        fprintf(to, "set logscale x\n");
    if (p->y_log)
        fprintf(to, "set logscale y\n");
    const char *between = "plot ";
    for (size_t i = 0; i < p->n_series; i++) {
        const struct plot_series *s = &p->series[i];
        if (n_shown(p, s) == 0)
            continue;
        fprintf(to, "%s$data%zu with %s title ", between, i, styles[s->style]);
        write_text(to, s->name);
        fprintf(to, " noenhanced");
        between = ", ";
    }
    if (*between == 'p') /* nothing to show: an empty panel keeps the others in their places */
        fprintf(to, "set xrange [0:1]\nset yrange [0:1]\nunset logscale\nplot NaN notitle\nset autoscale");
    fprintf(to, "\n");
}

static int write_script(FILE *to, const struct plot_panel *panels, size_t n_panels, size_t columns)
{
    size_t rows = (n_panels + columns - 1) / columns;
    fprintf(to, "set terminal svg size %zu,%zu dynamic background 'white' font 'Helvetica,13'\n", columns * PANEL_WIDTH,
            rows * PANEL_HEIGHT);
    fprintf(to,
            "set multiplot layout %zu,%zu\nset key outside right top\nset grid\nset format x '%%.3g'\nset format y '%%.3g'\n",
            rows, columns);
    for (size_t i = 0; i < n_panels; i++)
        write_panel(to, &panels[i]);
    fprintf(to, "unset multiplot\n");
    return fflush(to) == 0 && !ferror(to) ? 0 : ERR_IO;
}

/* Two files in memory: what gnuplot reads and what it draws. No pipes, so neither side can close one too early. */
static int run_gnuplot(int script, int drawing, struct fault *fault)
{
    char name[] = "gnuplot", *argv[] = {name, NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;
    int status = 0;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, script, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, drawing, STDOUT_FILENO);
    int failed = posix_spawnp(&child, name, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed)
        return fault_set(fault, ERR_IO,
                         "a plot is drawn by gnuplot, which could not be started: %s; Debian has it as gnuplot-nox",
                         strerror(failed));
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return fault_set(fault, ERR_IO, "gnuplot failed with status %d", status);
    return 0;
}

static int copy_file(int from, const char *path, struct fault *fault)
{
    char bytes[65536];
    int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool ok = to >= 0 && lseek(from, 0, SEEK_SET) == 0;
    for (ssize_t n = 1; ok && n > 0;) {
        n = read(from, bytes, sizeof bytes);
        ok = n >= 0;
        for (ssize_t at = 0, w; ok && at < n; at += w) {
            w = write(to, bytes + at, (size_t)(n - at));
            ok = w > 0;
        }
    }
    if (to >= 0 && close(to) != 0)
        ok = false;
    return ok ? 0 : fault_set(fault, ERR_IO, "%.160s: %s", path, strerror(errno));
}

int plot_write(const char *path, const struct plot_panel *panels, size_t n_panels, size_t columns, struct fault *fault)
{
    int script = memfd_create("script", MFD_CLOEXEC), drawing = memfd_create("drawing", MFD_CLOEXEC);
    int copy = script >= 0 && drawing >= 0 ? dup(script) : -1;
    FILE *to = copy >= 0 ? fdopen(copy, "w") : NULL;
    int err = to ? write_script(to, panels, n_panels, columns) : ERR_IO;
    if (to)
        fclose(to);
    else if (copy >= 0)
        close(copy);
    if (!err && lseek(script, 0, SEEK_SET) < 0)
        err = ERR_IO;
    if (err)
        fault_set(fault, err, "a plot's script: %s", strerror(errno));
    if (!err)
        err = run_gnuplot(script, drawing, fault);
    if (!err)
        err = copy_file(drawing, path, fault);
    if (script >= 0)
        close(script);
    if (drawing >= 0)
        close(drawing);
    return err;
}
