#include "tools/eval/table.h"

#include <math.h>
#include <string.h>

enum { CELL_BYTES = 64, COLUMNS_MAX = 32 };

static void write_cell(const json_t *value, char text[CELL_BYTES])
{
    if (json_is_string(value))
        snprintf(text, CELL_BYTES, "%s", json_string_value(value));
    else if (json_is_integer(value))
        snprintf(text, CELL_BYTES, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        snprintf(text, CELL_BYTES, "%.4g", json_real_value(value));
    else if (json_is_boolean(value))
        snprintf(text, CELL_BYTES, "%s", json_is_true(value) ? "yes" : "no");
    else
        snprintf(text, CELL_BYTES, "-");
}

void table_print(FILE *to, const json_t *rows, const char *const *keys, size_t n_keys)
{
    const char *column[COLUMNS_MAX];
    size_t width[COLUMNS_MAX], n = 0;
    if (keys) {
        for (; n < n_keys && n < COLUMNS_MAX; n++)
            column[n] = keys[n];
    } else {
        json_t *first = json_array_get(rows, 0);
        for (void *at = json_object_iter(first); at && n < COLUMNS_MAX; at = json_object_iter_next(first, at))
            column[n++] = json_object_iter_key(at);
    }
    char cell[CELL_BYTES];
    for (size_t c = 0; c < n; c++) {
        width[c] = strlen(column[c]);
        for (size_t r = 0; r < json_array_size(rows); r++) {
            write_cell(json_object_get(json_array_get(rows, r), column[c]), cell);
            width[c] = strlen(cell) > width[c] ? strlen(cell) : width[c];
        }
    }
    for (size_t r = 0; r <= json_array_size(rows); r++) { /* row 0 is the head */
        for (size_t c = 0; c < n; c++) {
            const json_t *first = json_object_get(json_array_get(rows, 0), column[c]);
            const char *text = column[c];
            if (r > 0) {
                write_cell(json_object_get(json_array_get(rows, r - 1), column[c]), cell);
                text = cell;
            }
            fprintf(to, json_is_string(first) ? "%s%-*s" : "%s%*s", c ? "  " : "", (int)width[c], text);
        }
        fputc('\n', to);
    }
}
