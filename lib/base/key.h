/* Keys: a named setting with its type, bounds, unit, default and help, and where it lies in a struct.
 *
 * The YAML file, the overrides of `--profile window,budget_fraction=0.125` and each policy's own parameters are all
 * tables of these; one parser reads them and one printer shows them. Text in, checked value out.
 * Threads: pure functions on what they are given. */
#ifndef ATTND_BASE_KEY_H
#define ATTND_BASE_KEY_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum key_type {
    KEY_COUNT,  /* uint64_t */
    KEY_NUMBER, /* double */
    KEY_SWITCH, /* bool: true or false (also yes, no, on, off) */
    KEY_CHOICE, /* int: index into `choices` */
    KEY_TEXT,   /* char[KEY_TEXT_BYTES] */
    KEY_PAIR,   /* uint64_t[2]: "512x32" in text, [512, 32] in YAML; "512" alone sets both */
};

enum { KEY_TEXT_BYTES = 64 };

struct key {
    const char *name;
    enum key_type type;
    size_t offset;       /* of the value in its struct */
    double min, max;     /* inclusive; KEY_PAIR: of each */
    const char *unit;    /* "bytes", "tokens", "seconds", "" */
    const char *initial; /* the default, as text */
    const char *help;
    const char *const *choices; /* KEY_CHOICE, and KEY_TEXT where only these will do: NULL-terminated; else NULL */
};

/* One setting as text, as the YAML or an override gave it. */
struct setting {
    char key[40];
    char value[KEY_TEXT_BYTES];
    int line; /* in its file; 0 for an override */
};

const struct key *key_find(const struct key *keys, size_t n, const char *name);

/* Writes every key's default into target. The defaults are checked by a test, so this cannot fail. */
void key_set_defaults(const struct key *keys, size_t n, void *target);

/* Parses text into target. ERR_INVALID with a reason ("must be a whole number from 1 to 1024, not 'x'") and target unchanged. */
int key_set(const struct key *key, void *target, const char *text, struct fault *fault);

/* What key_set takes: "a whole number from 1 to 1024 tokens", "one of red, green". */
void key_describe(const struct key *key, char *text, size_t size);

/* The value as text, in the form that key_set reads. */
void key_print(const struct key *key, const void *source, char *text, size_t size);

#endif
