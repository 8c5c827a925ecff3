/* attn status: what a daemon holds and does now. Prints whatever metrics the daemon sends; the suffix of a name (_bytes, _seconds)
 * tells its unit, so new metrics need nothing here. */
#include "client/attnd_client.h"
#include "tools/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char who[] = "attn status";

struct options {
    const char *endpoint;
    uint64_t stream;
    bool json;
};

#define PLACE(field) offsetof(struct options, field)

static const struct command_option table[] = {
    {"--endpoint", "EP", OPTION_TEXT, PLACE(endpoint), 0, 0, false, "the daemon's ingest endpoint (default: your own daemon)"},
    {"--stream", "N", OPTION_COUNT, PLACE(stream), 1, 0x1p53, false, "only the stream of this number"},
    {"--json", NULL, OPTION_SWITCH, PLACE(json), 0, 0, false, "the daemon's answer as one JSON object"},
};

enum {
    CELL_BYTES = 128,
    NAME_WIDTH = 30,
    LINE_WIDTH = 110,
    MEMBERS_MAX = 12, /* columns shown of a long list, such as streams; --json has all */
};

static bool has_suffix(const char *name, const char *suffix)
{
    size_t n = strlen(name), m = strlen(suffix);
    return n >= m && strcmp(name + n - m, suffix) == 0;
}

/* "1.5 MiB", "12.3 us", "0.125", by what the name says it is. */
static void print_number(const char *name, const json_t *json, char cell[CELL_BYTES])
{
    static const char *const byte_units[] = {"B", "KiB", "MiB", "GiB", "TiB"}, *const second_units[] = {"s", "ms", "us", "ns"};
    double x = json_number_value(json);
    size_t unit = 0;
    if (has_suffix(name, "_bytes") || has_suffix(name, "_bytes_total")) {
        for (; x >= 1024 && unit < 4; unit++)
            x /= 1024;
        snprintf(cell, CELL_BYTES, unit ? "%.1f %s" : "%.0f %s", x, byte_units[unit]);
    } else if (has_suffix(name, "_seconds") || has_suffix(name, "_seconds_total")) {
        for (; x != 0 && x < 1 && unit < 3; unit++)
            x *= 1000;
        snprintf(cell, CELL_BYTES, "%.3g %s", x, second_units[unit]);
        if (x >= 1000)
            snprintf(cell, CELL_BYTES, "%.0f s", x);
    } else if (json_is_integer(json)) {
        snprintf(cell, CELL_BYTES, "%lld", (long long)json_integer_value(json));
    } else {
        snprintf(cell, CELL_BYTES, "%.4g", x);
    }
}

static void print_value(const char *name, const json_t *json, char cell[CELL_BYTES]);

/* Quantiles of a histogram, or counts by reason: the members one after the other. */
static void print_members(const char *name, const json_t *object, char cell[CELL_BYTES])
{
    const bool histogram = json_object_get(object, "p50") != NULL;
    size_t at = 0;
    const char *key;
    json_t *value;
    cell[0] = 0;
    json_object_foreach((json_t *)object, key, value)
    {
        char member[CELL_BYTES];
        const bool quantile = histogram && key[0] == 'p';
        if (histogram && !quantile)
            continue;
        print_value(quantile ? name : key, value, member);
        at += (size_t)snprintf(cell + at, CELL_BYTES - at, "%s%s %s", at ? ", " : "", key, member);
        if (at >= CELL_BYTES)
            return;
    }
    if (at == 0)
        snprintf(cell, CELL_BYTES, "-");
}

static void print_value(const char *name, const json_t *json, char cell[CELL_BYTES])
{
    if (json_is_number(json))
        print_number(name, json, cell);
    else if (json_is_object(json))
        print_members(name, json, cell);
    else if (json_is_string(json))
        snprintf(cell, CELL_BYTES, "%.*s", (int)strcspn(json_string_value(json), "\n"), json_string_value(json));
    else if (json_is_boolean(json))
        snprintf(cell, CELL_BYTES, "%s", json_is_true(json) ? "yes" : "no");
    else
        snprintf(cell, CELL_BYTES, "-");
}

static void print_object(const char *title, const json_t *object)
{
    const char *key;
    json_t *value;
    printf("%s\n", title);
    json_object_foreach((json_t *)object, key, value)
    {
        char cell[CELL_BYTES];
        print_value(key, value, cell);
        printf("  %-*s %s\n", NAME_WIDTH, key, cell);
    }
}

/* Width of a member's column: its widest cell. */
static size_t column_width(const json_t *member)
{
    const char *key;
    json_t *value;
    size_t width = 0;
    json_object_foreach((json_t *)member, key, value)
    {
        char cell[CELL_BYTES];
        print_value(key, value, cell);
        width = strlen(cell) > width ? strlen(cell) : width;
    }
    return width;
}

/* What a member holds as a list of its own: one line per element, its members one after the other. */
static void print_lists(const json_t *member)
{
    const char *key;
    json_t *list;
    json_object_foreach((json_t *)member, key, list)
    {
        const char *name = json_string_value(json_object_get(member, "name"));
        for (size_t i = 0; i < json_array_size(list); i++) {
            char cell[CELL_BYTES];
            print_members(key, json_array_get(list, i), cell);
            printf("  %s of %s: %s\n", key, name ? name : json_string_value(json_object_get(member, "profile")), cell);
        }
    }
}

/* Members first..end-1 side by side, one metric per line; the first one's metrics give the lines. */
static void print_columns(const json_t *array, size_t first, size_t end)
{
    const char *key;
    json_t *ignored;
    json_object_foreach(json_array_get(array, first), key, ignored)
    {
        if (json_is_array(ignored))
            continue;
        printf("  %-*s", NAME_WIDTH, key);
        for (size_t i = first; i < end; i++) {
            const json_t *member = json_array_get(array, i);
            char cell[CELL_BYTES];
            print_value(key, json_object_get(member, key), cell);
            printf(" %-*s", (int)column_width(member), cell);
        }
        putchar('\n');
    }
}

/* An array of objects, as many columns beside each other as fit a line. */
static void print_array(const char *title, const json_t *array)
{
    const size_t n = json_array_size(array), shown = n < MEMBERS_MAX ? n : MEMBERS_MAX;
    printf("%s (%zu)\n", title, n);
    for (size_t first = 0, end; first < shown; first = end) {
        size_t width = NAME_WIDTH + 2;
        for (end = first; end < shown; end++) {
            width += column_width(json_array_get(array, end)) + 1;
            if (end > first && width > LINE_WIDTH)
                break;
        }
        if (first > 0)
            putchar('\n');
        print_columns(array, first, end);
        for (size_t i = first; i < end; i++)
            print_lists(json_array_get(array, i));
    }
    if (shown < n)
        printf("  ... and %zu more (--json shows all)\n", n - shown);
}

static int print_table(const char *text)
{
    json_error_t error;
    json_t *root = json_loads(text, 0, &error);
    const char *key;
    json_t *value;
    if (!json_is_object(root)) {
        struct fault fault;
        fault_set(&fault, ERR_MALFORMED, "the daemon's status: %.120s", root ? "not an object" : error.text);
        json_decref(root);
        return command_failed(who, &fault);
    }
    json_object_foreach(root, key, value)
    {
        if (json_is_object(value)) {
            print_object(key, value);
        } else if (json_is_array(value)) {
            print_array(key, value);
        } else {
            char cell[CELL_BYTES];
            print_value(key, value, cell);
            printf("%-*s %s\n", NAME_WIDTH + 2, key, cell);
        }
    }
    json_decref(root);
    return fflush(stdout) == 0 ? COMMAND_DONE : COMMAND_FAILED;
}

int command_status(int argc, char **argv)
{
    struct options o = {0};
    const struct option_group group = {table, sizeof table / sizeof *table, &o};
    int code = command_parse(who, "Prints what a daemon holds and does now: memory, time, flow, per pool, profile and stream.",
                             &group, 1, argc, argv);
    if (code != COMMAND_GO_ON)
        return code;

    struct attnd_client *client;
    struct fault fault = {0};
    char *text = NULL;
    int err = attnd_connect(&client, o.endpoint, NULL, &fault);
    if (!err) {
        err = attnd_status(client, o.stream, &text, &fault);
        attnd_disconnect(client);
    }
    if (err)
        return command_failed(who, &fault);
    if (o.json)
        code = puts(text) >= 0 && fflush(stdout) == 0 ? COMMAND_DONE : COMMAND_FAILED;
    else
        code = print_table(text);
    free(text);
    return code;
}
