#include "base/key.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const struct key *key_find(const struct key *keys, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

void key_set_defaults(const struct key *keys, size_t n, void *target)
{
    for (size_t i = 0; i < n; i++)
        key_set(&keys[i], target, keys[i].initial, NULL);
}

static const struct {
    const char *name;
    unsigned shift;
} multiples[] = {{"", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};

enum { N_MULTIPLES = sizeof multiples / sizeof *multiples };

static bool is_bytes(const struct key *key)
{
    return key->unit && strcmp(key->unit, "bytes") == 0;
}

/* A bound; of bytes in the largest multiple that divides it. */
static void print_bound(const struct key *key, double bound, char *text, size_t size)
{
    size_t multiple = 0;
    while (key->type == KEY_COUNT && is_bytes(key) && bound > 0 && multiple + 1 < N_MULTIPLES && fmod(bound, 1024) == 0) {
        bound /= 1024;
        multiple++;
    }
    snprintf(text, size, "%.15g%s%s", bound, multiple ? " " : "", multiples[multiple].name);
}

/* "a whole number from 1 to 1024 tokens"; the largest count stands for no upper bound. */
static void describe_bounds(const struct key *key, const char *what, char *text, size_t size)
{
    const char *unit = key->unit ? key->unit : "";
    const char *space = *unit ? " " : "";
    char min[40], max[40];
    print_bound(key, key->min, min, sizeof min);
    print_bound(key, key->max, max, sizeof max);
    if (key->max >= 0x1p63 || isinf(key->max))
        snprintf(text, size, "%s of at least %s%s%s", what, min, space, unit);
    else if (key->type == KEY_COUNT && is_bytes(key))
        snprintf(text, size, "a number of bytes from %s to %s", min, max);
    else
        snprintf(text, size, "%s from %s to %s%s%s", what, min, max, space, unit);
}

static void describe_choices(const struct key *key, char *text, size_t size)
{
    snprintf(text, size, "one of");
    for (size_t i = 0; key->choices[i]; i++) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, "%s%s", i ? ", " : " ", key->choices[i]);
    }
}

void key_describe(const struct key *key, char *text, size_t size)
{
    switch (key->type) {
    case KEY_COUNT: describe_bounds(key, "a whole number", text, size); return;
    case KEY_NUMBER: describe_bounds(key, "a number", text, size); return;
    case KEY_SWITCH: snprintf(text, size, "true or false"); return;
    case KEY_CHOICE: describe_choices(key, text, size); return;
    case KEY_TEXT:
        if (key->choices)
            describe_choices(key, text, size);
        else
            snprintf(text, size, "a text of at most %d bytes", KEY_TEXT_BYTES - 1);
        return;
    case KEY_PAIR: describe_bounds(key, "one or two whole numbers like 512x32, each", text, size); return;
    }
}

static int refuse(const struct key *key, const char *text, struct fault *fault)
{
    char what[160];
    key_describe(key, what, sizeof what);
    return fault_set(fault, ERR_INVALID, "must be %s, not '%.63s'", what, text);
}

/* A whole number; where the unit is bytes also "256 MiB". *end is where reading stopped. */
static bool read_count(const char *text, bool allow_multiple, uint64_t *value, const char **end)
{
    if (*text < '0' || *text > '9')
        return false;
    char *stop;
    errno = 0;
    unsigned long long number = strtoull(text, &stop, 10);
    if (errno)
        return false;
    *value = number;
    *end = stop;
    if (!allow_multiple || *stop == '\0')
        return true;
    while (*stop == ' ')
        stop++;
    for (size_t i = 1; i < N_MULTIPLES; i++)
        if (strcmp(stop, multiples[i].name) == 0) {
            if (number > UINT64_MAX >> multiples[i].shift)
                return false;
            *value = (uint64_t)number << multiples[i].shift;
            *end = stop + strlen(stop);
            return true;
        }
    return true;
}

static bool within(const struct key *key, double value)
{
    return value >= key->min && value <= key->max;
}

static int set_count(const struct key *key, void *at, const char *text, struct fault *fault)
{
    uint64_t value;
    const char *end;
    if (!read_count(text, is_bytes(key), &value, &end) || *end || !within(key, (double)value))
        return refuse(key, text, fault);
    memcpy(at, &value, sizeof value);
    return 0;
}

static int set_number(const struct key *key, void *at, const char *text, struct fault *fault)
{
    /* strtod also reads "nan", "inf" and hexadecimal, which nobody means. */
    char *end;
    bool plain = *text && strspn(text, "0123456789+-.eE") == strlen(text);
    double value = plain ? strtod(text, &end) : 0;
    if (!plain || *end || !isfinite(value) || !within(key, value))
        return refuse(key, text, fault);
    memcpy(at, &value, sizeof value);
    return 0;
}

static int set_switch(const struct key *key, void *at, const char *text, struct fault *fault)
{
    static const char *const words[][2] = {{"false", "true"}, {"no", "yes"}, {"off", "on"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        for (int on = 0; on < 2; on++)
            if (strcasecmp(text, words[i][on]) == 0) {
                bool value = on;
                memcpy(at, &value, sizeof value);
                return 0;
            }
    return refuse(key, text, fault);
}

/* The index of text among the choices, or -1. */
static int choice_of(const struct key *key, const char *text)
{
    for (int i = 0; key->choices[i]; i++)
        if (strcmp(text, key->choices[i]) == 0)
            return i;
    return -1;
}

static int set_choice(const struct key *key, void *at, const char *text, struct fault *fault)
{
    int choice = choice_of(key, text);
    if (choice < 0)
        return refuse(key, text, fault);
    memcpy(at, &choice, sizeof choice);
    return 0;
}

static int set_text(const struct key *key, void *at, const char *text, struct fault *fault)
{
    size_t length = strlen(text);
    if (length >= KEY_TEXT_BYTES || (key->choices && choice_of(key, text) < 0))
        return refuse(key, text, fault);
    memcpy(at, text, length + 1);
    return 0;
}

static int set_pair(const struct key *key, void *at, const char *text, struct fault *fault)
{
    uint64_t pair[2];
    const char *end;
    bool good = read_count(text, false, &pair[0], &end);
    if (good && *end == '\0')
        pair[1] = pair[0];
    else
        good = good && *end == 'x' && read_count(end + 1, false, &pair[1], &end) && *end == '\0';
    if (!good || !within(key, (double)pair[0]) || !within(key, (double)pair[1]))
        return refuse(key, text, fault);
    memcpy(at, pair, sizeof pair);
    return 0;
}

static int (*const set_by_type[])(const struct key *, void *, const char *, struct fault *) = {
    [KEY_COUNT] = set_count,   [KEY_NUMBER] = set_number, [KEY_SWITCH] = set_switch,
    [KEY_CHOICE] = set_choice, [KEY_TEXT] = set_text,     [KEY_PAIR] = set_pair,
};

int key_set(const struct key *key, void *target, const char *text, struct fault *fault)
{
    return set_by_type[key->type](key, (char *)target + key->offset, text, fault);
}

/* The shortest decimal that reads back as the same number. */
static void print_number(double value, char *text, size_t size)
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, size, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            return;
    }
}

void key_print(const struct key *key, const void *source, char *text, size_t size)
{
    const void *at = (const char *)source + key->offset;
    switch (key->type) {
    case KEY_COUNT: {
        uint64_t value;
        memcpy(&value, at, sizeof value);
        snprintf(text, size, "%llu", (unsigned long long)value);
        return;
    }
    case KEY_NUMBER: {
        double value;
        memcpy(&value, at, sizeof value);
        print_number(value, text, size);
        return;
    }
    case KEY_SWITCH: {
        bool value;
        memcpy(&value, at, sizeof value);
        snprintf(text, size, "%s", value ? "true" : "false");
        return;
    }
    case KEY_CHOICE: {
        int value;
        memcpy(&value, at, sizeof value);
        snprintf(text, size, "%s", key->choices[value]);
        return;
    }
    case KEY_TEXT: snprintf(text, size, "%s", (const char *)at); return;
    case KEY_PAIR: {
        uint64_t pair[2];
        memcpy(pair, at, sizeof pair);
        snprintf(text, size, "%llux%llu", (unsigned long long)pair[0], (unsigned long long)pair[1]);
        return;
    }
    }
}
