/* What a subcommand answers: its exit code, its standard output, as JSON where it is that, and its errors. */
#ifndef ATTND_TESTS_TOOLS_ANSWER_H
#define ATTND_TESTS_TOOLS_ANSWER_H

#include <jansson.h>

struct answer {
    int code;
    json_t *json;          /* NULL when the output is no object */
    char *output, *errors; /* texts of any length */
};

/* Runs command with the words of args, which spaces part. Frees what the struct held before, so start from zeros. */
void answer_get(struct answer *a, int (*command)(int argc, char **argv), const char *args);
void answer_drop(struct answer *a);

/* Fields of an object, which must be there with that type. */
double answer_number(const json_t *object, const char *key);
const char *answer_text(const json_t *object, const char *key);

#endif
