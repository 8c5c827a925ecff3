#include "tests/tools/answer.h"

#include "tests/test.h"

#include <string.h>

enum { WORDS_MAX = 40, ARGS_BYTES = 1024 };

void answer_get(struct answer *a, int (*command)(int argc, char **argv), const char *args)
{
    static struct capture out, err;
    char text[ARGS_BYTES], program[] = "command", *argv[WORDS_MAX + 1] = {program};
    int argc = 1;
    CU_ASSERT_FATAL(strlen(args) < sizeof text);
    strcpy(text, args);
    for (char *rest = text, *word; argc < WORDS_MAX && (word = strtok_r(rest, " ", &rest));)
        argv[argc++] = word;
    capture_begin(&out, stdout);
    capture_begin(&err, stderr);
    a->code = command(argc, argv);
    capture_end(&err);
    capture_end(&out);
    memcpy(a->output, out.text, sizeof a->output);
    memcpy(a->errors, err.text, sizeof a->errors);
    a->json = *out.text == '{' ? json_loads(out.text, 0, NULL) : NULL;
}

void answer_drop(struct answer *a)
{
    json_decref(a->json);
    a->json = NULL;
}

double answer_number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        printf("\n%s is no number", key);
    CU_ASSERT(json_is_number(value));
    return json_number_value(value);
}

const char *answer_text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    if (!value)
        printf("\n%s is no text", key);
    CU_ASSERT_PTR_NOT_NULL(value);
    return value ? value : "";
}
