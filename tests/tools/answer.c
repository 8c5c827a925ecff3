#include "tests/tools/answer.h"

#include "tests/test.h"
#include "tests/tools/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORDS_MAX = 40, ARGS_BYTES = 1024 };

/* A stream that goes to a file for a while. */
struct diversion {
    FILE *stream, *file;
    int saved;
};

static void divert(struct diversion *d, FILE *stream)
{
    fflush(stream);
    *d = (struct diversion){stream, tmpfile(), dup(fileno(stream))};
    CU_ASSERT_FATAL(d->file && d->saved >= 0 && dup2(fileno(d->file), fileno(stream)) >= 0);
}

/* What went to the file, as text of its own. */
static char *restore(struct diversion *d)
{
    fflush(d->stream);
    dup2(d->saved, fileno(d->stream));
    close(d->saved);
    CU_ASSERT_FATAL(fseek(d->file, 0, SEEK_END) == 0);
    size_t n = (size_t)ftell(d->file);
    char *text = support_array(n + 1, 1);
    rewind(d->file);
    CU_ASSERT_EQUAL(fread(text, 1, n, d->file), n);
    fclose(d->file);
    return text;
}

void answer_get(struct answer *a, int (*command)(int argc, char **argv), const char *args)
{
    struct diversion out, err;
    char text[ARGS_BYTES], program[] = "command", *argv[WORDS_MAX + 1] = {program};
    int argc = 1;
    CU_ASSERT_FATAL(strlen(args) < sizeof text);
    snprintf(text, sizeof text, "%s", args);
    for (char *rest = text, *word; argc < WORDS_MAX && (word = strtok_r(rest, " ", &rest));)
        argv[argc++] = word;
    answer_drop(a);
    divert(&out, stdout);
    divert(&err, stderr);
    a->code = command(argc, argv);
    a->errors = restore(&err);
    a->output = restore(&out);
    a->json = *a->output == '{' ? json_loads(a->output, 0, NULL) : NULL;
}

void answer_drop(struct answer *a)
{
    json_decref(a->json);
    free(a->output);
    free(a->errors);
    *a = (struct answer){0};
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
