#include "wire/json_fields.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct field *field_find(const struct field *fields, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(fields[i].name, name) == 0)
            return &fields[i];
    return NULL;
}

static int refuse_unknown(const json_t *object, const char *what, const struct field *fields, size_t n, struct fault *fault)
{
    for (void *it = json_object_iter((json_t *)object); it; it = json_object_iter_next((json_t *)object, it)) {
        const char *key = json_object_iter_key(it);
        if (field_find(fields, n, key))
            continue;
        char known[160] = "";
        for (size_t i = 0, used = 0; i < n && used < sizeof known; i++)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", fields[i].name);
        return fault_set(fault, ERR_MALFORMED, "%s: unknown key \"%.40s\"; known are %s", what, key, known);
    }
    return 0;
}

static int read_count(const json_t *value, const char *what, const struct field *f, uint64_t *out, struct fault *fault)
{
    if (!json_is_integer(value))
        return fault_set(fault, ERR_MALFORMED, "%s: \"%s\" must be a whole number", what, f->name);
    json_int_t x = json_integer_value(value);
    if (x < 0 || (uint64_t)x < f->min || (uint64_t)x > f->max)
        return fault_set(fault, ERR_INVALID, "%s: \"%s\" must be from %llu to %llu, not %lld", what, f->name,
                         (unsigned long long)f->min, (unsigned long long)f->max, (long long)x);
    *out = (uint64_t)x;
    return 0;
}

static int read_text(const json_t *value, const char *what, const struct field *f, char *out, struct fault *fault)
{
    if (!json_is_string(value))
        return fault_set(fault, ERR_MALFORMED, "%s: \"%s\" must be text", what, f->name);
    size_t bytes = json_string_length(value);
    if (bytes < f->min || bytes >= f->max)
        return fault_set(fault, ERR_INVALID, "%s: \"%s\" must have from %llu to %llu bytes, not %zu", what, f->name,
                         (unsigned long long)f->min, (unsigned long long)f->max - 1, bytes);
    memcpy(out, json_string_value(value), bytes);
    out[bytes] = '\0';
    return 0;
}

static int read_string(const json_t *value, const char *what, const struct field *f, const char **out, struct fault *fault)
{
    if (!json_is_string(value))
        return fault_set(fault, ERR_MALFORMED, "%s: \"%s\" must be text", what, f->name);
    if (json_string_length(value) < f->min || json_string_length(value) > f->max)
        return fault_set(fault, ERR_INVALID, "%s: \"%s\" must have from %llu to %llu bytes, not %zu", what, f->name,
                         (unsigned long long)f->min, (unsigned long long)f->max, json_string_length(value));
    *out = json_string_value(value);
    return 0;
}

static int read_field(json_t *value, const char *what, const struct field *f, void *at, struct fault *fault)
{
    switch (f->type) {
    case FIELD_COUNT: return read_count(value, what, f, at, fault);
    case FIELD_NUMBER:
        if (!json_is_number(value))
            return fault_set(fault, ERR_MALFORMED, "%s: \"%s\" must be a number", what, f->name);
        *(double *)at = json_number_value(value);
        return 0;
    case FIELD_SWITCH:
        if (!json_is_boolean(value))
            return fault_set(fault, ERR_MALFORMED, "%s: \"%s\" must be true or false", what, f->name);
        *(bool *)at = json_is_true(value);
        return 0;
    case FIELD_TEXT: return read_text(value, what, f, at, fault);
    case FIELD_STRING: return read_string(value, what, f, at, fault);
    case FIELD_OBJECT:
        if (!json_is_object(value))
            return fault_set(fault, ERR_MALFORMED, "%s: \"%s\" must be an object", what, f->name);
        *(json_t **)at = value;
        return 0;
    case FIELD_ARRAY:
        if (!json_is_array(value))
            return fault_set(fault, ERR_MALFORMED, "%s: \"%s\" must be an array", what, f->name);
        if (json_array_size(value) < f->min || json_array_size(value) > f->max)
            return fault_set(fault, ERR_INVALID, "%s: \"%s\" must have from %llu to %llu elements, not %zu", what, f->name,
                             (unsigned long long)f->min, (unsigned long long)f->max, json_array_size(value));
        *(json_t **)at = value;
        return 0;
    case FIELD_IGNORE: break;
    }
    return 0;
}

int fields_read(const json_t *object, const char *what, const struct field *fields, size_t n, int strict, void *target,
                struct fault *fault)
{
    int err = strict == FIELDS_STRICT ? refuse_unknown(object, what, fields, n, fault) : 0;
    for (size_t i = 0; i < n && !err; i++) {
        json_t *value = json_object_get(object, fields[i].name);
        if (value)
            err = read_field(value, what, &fields[i], (char *)target + fields[i].offset, fault);
        else if (fields[i].required)
            err = fault_set(fault, ERR_MALFORMED, "%s: \"%s\" is missing", what, fields[i].name);
    }
    return err;
}

int fields_parse(const void *text, size_t bytes, size_t max_bytes, json_t **out, struct fault *fault)
{
    *out = NULL;
    if (bytes > max_bytes)
        return fault_set(fault, ERR_TOO_LARGE, "%zu bytes of JSON, at most %zu are read", bytes, max_bytes);
    json_error_t error;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return json_error_code(&error) == json_error_out_of_memory
                   ? fault_set(fault, ERR_NO_MEMORY, "no memory to read %zu bytes of JSON", bytes)
                   : fault_set(fault, ERR_MALFORMED, "JSON, line %d column %d: %s", error.line, error.column, error.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return fault_set(fault, ERR_MALFORMED, "a control message is one JSON object");
    }
    *out = root;
    return 0;
}

json_t *fields_text(const char *text)
{
    json_t *string = json_string(text);
    if (string)
        return string;
    char plain[1024];
    size_t n = 0;
    for (; n < sizeof plain - 1 && text[n]; n++)
        plain[n] = text[n];
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)plain[i] >= 0x80)
            plain[i] = '?';
    plain[n] = '\0';
    return json_string(plain);
}

char *fields_dump(json_t *object)
{
    if (!object)
        return NULL;
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    return text;
}
