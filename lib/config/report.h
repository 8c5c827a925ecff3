/* Reporting: every error of a configuration as `file:line: key: reason`, counted, none stops the reading of the rest. */
#ifndef ATTND_CONFIG_REPORT_H
#define ATTND_CONFIG_REPORT_H

#include "config/config.h"

struct reporter {
    const char *file;
    config_report *report;
    void *context;
    size_t n_errors;
    bool no_memory;
};

/* Where a value lies: places on the stack, from the value up to the root (NULL). */
struct place {
    const struct place *parent;
    char step[PROFILE_NAME_BYTES + 2]; /* "pools", "[0]", "[mixed]" */
};

struct place place_key(const struct place *parent, const char *key);
struct place place_index(const struct place *parent, size_t index);
struct place place_name(const struct place *parent, const char *name);

/* key: the last step, or NULL when place is already the whole of it. */
void report_error(struct reporter *r, int line, const struct place *place, const char *key, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

#endif
