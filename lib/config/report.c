#include "config/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 256, REASON_BYTES = 512, MESSAGE_BYTES = 2048 };

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
