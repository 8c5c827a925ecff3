/* Lines of two files are the same case when all of identity[] and their names are equal; of a case that a file has twice the last counts. */
#include "tools/bench/compare.h"

#include "tools/bench/results.h"
#include "tools/command.h"

#include <stdio.h>
#include <string.h>

static const char *const identity[] = {"kernel",  "key_storage", "value_storage", "heads",  "kv_heads",
                                       "key_dim", "value_dim",   "tokens",        "threads"};

static bool same_case(const json_t *a, const json_t *b)
{
    for (size_t i = 0; i < sizeof identity / sizeof *identity; i++)
        if (!json_equal(json_object_get(a, identity[i]), json_object_get(b, identity[i])))
            return false;
    char name[2][RESULTS_NAME]; /* tells windows, implementations and computes apart */
    results_name(a, name[0]);
    results_name(b, name[1]);
    return strcmp(name[0], name[1]) == 0;
}

static const json_t *find_case(const struct results *results, const json_t *line)
{
    const json_t *found = NULL;
    for (size_t i = 0; i < json_array_size(results->kernels); i++)
        if (same_case(json_array_get(results->kernels, i), line))
            found = json_array_get(results->kernels, i);
    return found;
}

static int print_pair(const char *who, const json_t *before, const json_t *now)
{
    json_t *object = json_object();
    double seconds[2] = {results_number(before, "seconds"), results_number(now, "seconds")};
    for (size_t i = 0; i < sizeof identity / sizeof *identity; i++)
        json_object_set(object, identity[i], json_object_get(now, identity[i]));
    json_object_set_new(object, "old_seconds", json_real(seconds[0]));
    json_object_set_new(object, "new_seconds", json_real(seconds[1]));
    json_object_set_new(object, "speedup", json_real(seconds[0] / seconds[1]));
    json_object_set_new(object, "old_fraction_of_limit", json_real(results_number(before, "fraction_of_limit")));
    json_object_set_new(object, "new_fraction_of_limit", json_real(results_number(now, "fraction_of_limit")));
    return command_print_json(who, object);
}

static void print_row(const json_t *before, const json_t *now)
{
    char name[RESULTS_NAME];
    double seconds[2] = {results_number(before, "seconds"), results_number(now, "seconds")};
    results_name(now, name);
    printf("%-46s %10.3f %10.3f %8.2f   %.3f -> %.3f\n", name, seconds[0] * 1e3, seconds[1] * 1e3, seconds[0] / seconds[1],
           results_number(before, "fraction_of_limit"), results_number(now, "fraction_of_limit"));
}

/* On stderr, so that stdout stays a table or JSON. */
static void name_missing(const struct results *from, const struct results *in, const char *path)
{
    for (size_t i = 0; i < json_array_size(from->kernels); i++) {
        char name[RESULTS_NAME];
        results_name(json_array_get(from->kernels, i), name);
        if (!find_case(in, json_array_get(from->kernels, i)))
            fprintf(stderr, "only in %s: %s\n", path, name);
    }
}

int bench_compare(const char *who, const char *old_path, const char *new_path, bool json)
{
    struct results before = {0}, now = {0};
    struct fault fault = {0};
    int code = COMMAND_DONE;
    if (results_read(&before, old_path, &fault) || results_read(&now, new_path, &fault))
        code = command_failed(who, &fault);
    if (code == COMMAND_DONE && !json)
        printf("%-46s %10s %10s %8s   %s\n", "case", "old ms", "new ms", "speedup", "of the limit");
    for (size_t i = 0; i < json_array_size(now.kernels) && code == COMMAND_DONE; i++) {
        const json_t *line = json_array_get(now.kernels, i), *other = find_case(&before, line);
        if (!other || find_case(&now, line) != line)
            continue;
        if (json)
            code = print_pair(who, other, line);
        else
            print_row(other, line);
    }
    if (code == COMMAND_DONE) {
        name_missing(&before, &now, old_path);
        name_missing(&now, &before, new_path);
    }
    results_free(&before);
    results_free(&now);
    return code;
}
