/* Rows of JSON objects as a table for people: a column for each key of the first row, numbers to the right, texts to the left. */
#ifndef ATTND_TOOLS_EVAL_TABLE_H
#define ATTND_TOOLS_EVAL_TABLE_H

#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

/* keys: which columns, in this order; NULL: all of the first row. What a row has not, or has as null, is "-"; four digits of
 * numbers with a fraction. */
void table_print(FILE *to, const json_t *rows, const char *const *keys, size_t n_keys);

#endif
