#include "tools/top/cell.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* x over `unit` as often as it is at least that, with the letter of the step. */
static void scaled(double x, double unit, const char *letters, char text[CELL_TEXT_BYTES])
{
    size_t step = 0;
    while (fabs(x) >= unit * 0.9995 && letters[step + 1]) {
        x /= unit;
        step++;
    }
    int digits = step == 0 || fabs(x) >= 100 ? 0 : fabs(x) >= 10 ? 1 : 2;
    snprintf(text, CELL_TEXT_BYTES, "%.*f%.1s", digits, x, letters[step] == ' ' ? "" : &letters[step]);
}

static void seconds(double x, char text[CELL_TEXT_BYTES])
{
    static const char *const units[] = {"s", "m", "u", "n"};
    size_t step = 0;
    for (; x != 0 && fabs(x) < 0.9995 && step < 3; step++)
        x *= 1000;
    snprintf(text, CELL_TEXT_BYTES, "%.3g%s", x, units[step]);
    if (fabs(x) >= 999.5)
        snprintf(text, CELL_TEXT_BYTES, "%.0f%s", x, units[step]);
}

void cell_print(enum cell_kind kind, double x, char text[CELL_TEXT_BYTES])
{
    if (isnan(x)) {
        snprintf(text, CELL_TEXT_BYTES, "-");
        return;
    }
    switch (kind) {
    case CELL_COUNT: scaled(x, 1000, " kMGTP", text); break;
    case CELL_BYTES: scaled(x, 1024, "BKMGTP", text); break;
    case CELL_SECONDS: seconds(x, text); break;
    case CELL_FRACTION: snprintf(text, CELL_TEXT_BYTES, "%.*f%%", fabs(x) < 0.0995 ? 2 : 1, x * 100); break;
    case CELL_NUMBER: snprintf(text, CELL_TEXT_BYTES, "%.3g", x); break;
    }
}

void spark_print(const double *x, size_t n, char text[SPARK_TEXT_BYTES])
{
    static const char *const bars[] = {"\u2581", "\u2582", "\u2583", "\u2584", "\u2585", "\u2586", "\u2587", "\u2588"};
    double most = 0;
    size_t at = 0;
    for (size_t i = 0; i < n; i++)
        most = x[i] > most ? x[i] : most;
    text[0] = '\0';
    for (size_t i = 0; i < n && at + 4 < SPARK_TEXT_BYTES; i++) {
        size_t level = isnan(x[i]) || !(most > 0) ? 0 : (size_t)(x[i] / most * 7.999);
        const char *bar = isnan(x[i]) ? " " : bars[level < 8 ? level : 7];
        memcpy(text + at, bar, strlen(bar) + 1);
        at += strlen(bar);
    }
}
