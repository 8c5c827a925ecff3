#include "tools/tune/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t add(struct layout *out, size_t n, struct layout layout)
{
    for (size_t i = 0; i < n; i++)
        if (out[i].pools == layout.pools && out[i].threads == layout.threads && out[i].pinned == layout.pinned)
            return n;
    if (n == LAYOUTS_MAX)
        return n;
    out[n] = layout;
    return n + 1;
}

size_t layouts_for(size_t n_cpus, struct layout out[LAYOUTS_MAX])
{
    size_t n = 0, most = n_cpus < LAYOUT_SIDE_MAX ? n_cpus : LAYOUT_SIDE_MAX;
    for (size_t t = 1; t < most; t *= 2)
        n = add(out, n, (struct layout){1, (unsigned)t, false});
    n = add(out, n, (struct layout){1, (unsigned)most, false});
    for (size_t p = 2; p < most; p *= 2)
        n = add(out, n, (struct layout){(unsigned)p, (unsigned)(most / p), false});
    n = add(out, n, (struct layout){(unsigned)most, 1, false});
    for (size_t i = 0, plain = n; i < plain; i++)
        if ((size_t)out[i].pools * out[i].threads == most)
            n = add(out, n, (struct layout){out[i].pools, out[i].threads, true});
    return n;
}

size_t layouts_parse(const char *text, struct layout out[LAYOUTS_MAX])
{
    size_t n = 0;
    while (*text && n < LAYOUTS_MAX) {
        struct layout layout = {0};
        int used = 0;
        if (sscanf(text, "%2ux%2u%n", &layout.pools, &layout.threads, &used) != 2 || !layout.pools || !layout.threads ||
            layout.pools > LAYOUT_SIDE_MAX || layout.threads > LAYOUT_SIDE_MAX)
            return 0;
        text += used;
        layout.pinned = *text == 'p';
        text += layout.pinned;
        if (*text && (*text != ',' || !text[1]))
            return 0;
        text += *text == ',';
        n = add(out, n, layout);
    }
    return *text ? 0 : n;
}

void layout_print(const struct layout *layout, char text[LAYOUT_TEXT_BYTES])
{
    snprintf(text, LAYOUT_TEXT_BYTES, "%ux%u%s", layout->pools, layout->threads, layout->pinned ? "p" : "");
}

char *layout_yaml(const struct layout *layout, const int *cpus, size_t n_cpus)
{
    char *text = NULL;
    size_t size = 0, thread = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    fputs("pools:\n", out);
    for (unsigned p = 0; p < layout->pools; p++) {
        fprintf(out, "  - {name: pool%u, threads: %u, heads: auto", p, layout->threads);
        for (unsigned t = 0; layout->pinned && n_cpus && t < layout->threads; t++, thread++)
            fprintf(out, "%s%d", t ? ", " : ", cpus: [", cpus[thread % n_cpus]);
        fputs(layout->pinned && n_cpus ? "]}\n" : "}\n", out);
    }
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}
