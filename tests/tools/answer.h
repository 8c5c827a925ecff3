/* What a subcommand answers: its exit code, its standard output as JSON, its errors as text. */
#ifndef ATTND_TESTS_TOOLS_ANSWER_H
#define ATTND_TESTS_TOOLS_ANSWER_H

#include "tests/tools/capture.h"

#include <jansson.h>

struct answer {
    int code;
    json_t *json;               /* NULL when the output was empty */
    char output[CAPTURE_BYTES]; /* text that is no JSON */
    char errors[CAPTURE_BYTES];
};

/* Runs command with the words of args, which spaces part. Lists its output when that is neither JSON nor asked for as text. */
void answer_get(struct answer *a, int (*command)(int argc, char **argv), const char *args);
void answer_drop(struct answer *a);

/* Fields of an object, which must be there with that type. */
double answer_number(const json_t *object, const char *key);
const char *answer_text(const json_t *object, const char *key);

#endif
