#include "tools/bench/results.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kernel_numbers[] = {"heads",  "kv_heads", "key_dim", "value_dim",
                                             "tokens", "threads",  "seconds", "fraction_of_limit"};

static bool is_kernel(const json_t *line)
{
    for (size_t i = 0; i < sizeof kernel_numbers / sizeof *kernel_numbers; i++)
        if (!json_is_number(json_object_get(line, kernel_numbers[i])))
            return false;
    return json_is_string(json_object_get(line, "kernel")) && json_is_string(json_object_get(line, "key_storage")) &&
           json_is_string(json_object_get(line, "value_storage")) && results_number(line, "seconds") > 0;
}

static bool is_pipeline(const json_t *line)
{
    return json_is_string(json_object_get(line, "transport")) && json_is_number(json_object_get(line, "in_flight")) &&
           json_is_number(json_object_get(line, "ratio_p50"));
}

static int add_line(struct results *results, const char *text, const char *path, size_t number, struct fault *fault)
{
    json_t *line = json_loads(text, 0, NULL), *array = NULL;
    if (is_kernel(line))
        array = results->kernels;
    else if (is_pipeline(line))
        array = results->pipeline;
    if (!array) {
        json_decref(line);
        return fault_set(fault, ERR_INVALID, "%s:%zu: no line of attn bench kernels or pipeline", path, number);
    }
    return json_array_append_new(array, line) ? fault_set(fault, ERR_NO_MEMORY, "%s", path) : 0;
}

int results_read(struct results *results, const char *path, struct fault *fault)
{
    *results = (struct results){json_array(), json_array()};
    if (!results->kernels || !results->pipeline)
        return fault_set(fault, ERR_NO_MEMORY, "%s", path);
    FILE *file = fopen(path, "r");
    if (!file)
        return fault_set(fault, ERR_IO, "%s: %s", path, strerror(errno));
    char *text = NULL;
    size_t size = 0;
    int err = 0;
    for (size_t number = 1; !err && getline(&text, &size, file) >= 0; number++)
        if (text[strspn(text, " \t\r\n")])
            err = add_line(results, text, path, number, fault);
    if (!err && ferror(file))
        err = fault_set(fault, ERR_IO, "%s: %s", path, strerror(errno));
    free(text);
    fclose(file);
    return err;
}

void results_free(struct results *results)
{
    json_decref(results->kernels);
    json_decref(results->pipeline);
    *results = (struct results){0};
}

double results_number(const json_t *line, const char *key)
{
    return json_number_value(json_object_get(line, key));
}

void results_name(const json_t *line, char name[RESULTS_NAME])
{
    const char *key = json_string_value(json_object_get(line, "key_storage")),
               *value = json_string_value(json_object_get(line, "value_storage"));
    bool same = strcmp(key, value) == 0;
    const char *by = json_string_value(json_object_get(line, "implementation"));
    const char *compute = json_string_value(json_object_get(line, "compute"));
    bool other = by && strcmp(by, "attnd") != 0, window = json_object_get(line, "window_tokens");
    snprintf(name, RESULTS_NAME, "%s %s%s%s %.0f/%.0f d%.0f n%.0f t%.0f%s%s%s%s",
             json_string_value(json_object_get(line, "kernel")), key, same ? "" : "+", same ? "" : value,
             results_number(line, "heads"), results_number(line, "kv_heads"), results_number(line, "key_dim"),
             results_number(line, "tokens"), results_number(line, "threads"), window ? " window" : "", other ? " " : "",
             other ? by : "", compute && strcmp(compute, "bf16") == 0 ? " in bf16" : "");
}
