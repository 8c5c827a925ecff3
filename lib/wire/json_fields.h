/* JSON objects into structs by a table of fields: name, type, bounds, place. Inside lib/wire only.
 *
 * Requests are read strictly: an unknown key, a missing one, a wrong type or a value out of bounds is refused by name. Replies are
 * read loosely: unknown keys are passed over, so that a newer daemon may say more.
 * Threads: pure functions on what they are given. */
#ifndef ATTND_WIRE_JSON_FIELDS_H
#define ATTND_WIRE_JSON_FIELDS_H

#include "base/err.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Whole numbers of control messages stay within what every JSON reader holds exactly (doubles). */
#define JSON_COUNT_MAX ((uint64_t)1 << 53)

enum field_type {
    FIELD_COUNT,  /* uint64_t, min..max */
    FIELD_NUMBER, /* double, finite (JSON knows neither NaN nor infinity) */
    FIELD_SWITCH, /* bool */
    FIELD_TEXT,   /* char[max], at least min bytes, NUL-terminated */
    FIELD_STRING, /* const char *, borrowed; min..max bytes */
    FIELD_OBJECT, /* json_t *, borrowed from the parsed text */
    FIELD_ARRAY,  /* json_t *, borrowed; min..max elements */
    FIELD_IGNORE, /* read elsewhere */
};

struct field {
    const char *name;
    enum field_type type;
    bool required; /* else its place keeps what it held */
    size_t offset;
    uint64_t min, max;
};

enum { FIELDS_STRICT = 1, FIELDS_LOOSE = 0 };

/* Reads object into target. what: "open", "shape", for sentences. ERR_MALFORMED for keys and types, ERR_INVALID for bounds. */
int fields_read(const json_t *object, const char *what, const struct field *fields, size_t n, int strict, void *target,
                struct fault *fault);

/* Parses text as one JSON object without duplicate keys; release with json_decref. ERR_TOO_LARGE, ERR_MALFORMED with the place. */
int fields_parse(const void *text, size_t bytes, size_t max_bytes, json_t **out, struct fault *fault);

/* A JSON string of text, with '?' for what is no UTF-8: sentences may be cut in the middle of a letter. NULL without memory. */
json_t *fields_text(const char *text);

/* Compact text of object, which it releases (NULL passes through); malloc'd. */
char *fields_dump(json_t *object);

#endif
