#include "tools/tune/rewrite.h"

#include "config/tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first error of a file that is no YAML. */
static void keep_first(void *context, const char *message)
{
    struct fault *fault = context;
    if (!fault->err)
        fault_set(fault, ERR_INVALID, "%s", message);
}

/* Where line `line` (from 1) begins; the end of the text when there are fewer. */
static const char *line_at(const char *text, int line)
{
    for (; line > 1 && *text; line--) {
        const char *end = strchr(text, '\n');
        text = end ? end + 1 : text + strlen(text);
    }
    return text;
}

static bool is_comment_or_blank(const char *line)
{
    line += strspn(line, " \t\r");
    return *line == '#' || *line == '\n' || *line == '\0';
}

/* Lines [*first, *end) of the section; equal where there is none. Comments above the next section stay with that. */
static void find_pools(const struct node *root, const char *text, int *first, int *end)
{
    int n_lines = 1;
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        n_lines += at[1] != '\0';
    *first = *end = n_lines + 1;
    const struct node *pools = root ? node_find(root, "pools") : NULL;
    if (!pools)
        return;
    *first = pools->line;
    for (const struct node *node = root->child; node; node = node->next)
        if (node->line > *first && node->line < *end)
            *end = node->line;
    while (*end > *first + 1 && is_comment_or_blank(line_at(text, *end - 1)))
        --*end;
}

int rewrite_pools(char **out, const char *name, const char *text, const char *pools, struct fault *fault)
{
    struct fault why = {0};
    struct reporter reporter = {.file = name, .report = keep_first, .context = &why};
    struct node *root;
    int first, end, err = tree_parse(&root, text, strlen(text), &reporter);
    *out = NULL;
    if (err || why.err) {
        tree_destroy(root);
        if (!why.err)
            fault_set(&why, err, "%s", name);
        if (fault)
            *fault = why;
        return why.err;
    }
    find_pools(root, text, &first, &end);
    tree_destroy(root);
    const char *before = line_at(text, first), *after = line_at(text, end);
    size_t n_before = (size_t)(before - text), size = strlen(text) + strlen(pools) + 2;
    char *new = malloc(size);
    if (!new)
        return fault_set(fault, ERR_NO_MEMORY, "%s", name);
    bool unfinished = n_before && text[n_before - 1] != '\n';
    snprintf(new, size, "%.*s%s%s%s", (int)n_before, text, unfinished ? "\n" : "", pools, after);
    *out = new;
    return 0;
}
