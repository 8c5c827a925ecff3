#include "config/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 256, REASON_BYTES = 512, MESSAGE_BYTES = 2048, WORD_MAX = 40 };

struct place place_key(const struct place *parent, const char *key)
{
    struct place p = {.parent = parent};
    snprintf(p.step, sizeof p.step, "%s", key);
    return p;
}

struct place place_index(const struct place *parent, size_t index)
{
    struct place p = {.parent = parent};
    snprintf(p.step, sizeof p.step, "[%zu]", index);
    return p;
}

struct place place_name(const struct place *parent, const char *name)
{
    struct place p = {.parent = parent};
    snprintf(p.step, sizeof p.step, "[%.*s]", PROFILE_NAME_BYTES - 1, name);
    return p;
}

static void append_step(char *path, const char *step)
{
    size_t used = strlen(path);
    snprintf(path + used, PATH_BYTES - used, "%s%s", used && *step != '[' ? "." : "", step);
}

static void append_place(char *path, const struct place *place)
{
    if (!place)
        return;
    append_place(path, place->parent);
    append_step(path, place->step);
}

void report_error(struct reporter *r, int line, const struct place *place, const char *key, const char *format, ...)
{
    char path[PATH_BYTES] = "", reason[REASON_BYTES], message[MESSAGE_BYTES];
    append_place(path, place);
    if (key)
        append_step(path, key);
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    snprintf(message, sizeof message, "%.1024s:%d: %s: %s", r->file, line, *path ? path : "file", reason);
    /* Values are quoted in reasons; one line of a file must stay one line of a report. */
    for (char *c = message; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    r->n_errors++;
    if (r->report)
        r->report(r->context, message);
}

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Optimal string alignment distance of a (length n) and b (length m), both at most WORD_MAX. */
static size_t distance(const char *a, size_t n, const char *b, size_t m)
{
    size_t row[3][WORD_MAX + 1];
    for (size_t j = 0; j <= m; j++)
        row[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            now[j] = min3(last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < now[j])
                now[j] = before[j - 2] + 1;
        }
    }
    return row[n % 3][m];
}

const char *closest_word(const char *word, const char *const *candidates, size_t n)
{
    const char *best = NULL;
    size_t length = strlen(word), best_distance = length <= 3 ? 2 : 3;
    if (length > WORD_MAX)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        size_t candidate_length = strlen(candidates[i]);
        if (candidate_length > WORD_MAX)
            continue;
        size_t d = distance(word, length, candidates[i], candidate_length);
        if (d < best_distance) {
            best = candidates[i];
            best_distance = d;
        }
    }
    return best;
}
