/* Layouts: how threads are dealt out to pools: so many pools of so many threads each, pinned or not. In text "2x1" (two pools of one
 * thread), "1x2p" (one of two, pinned). */
#ifndef ATTND_TOOLS_TUNE_LAYOUT_H
#define ATTND_TOOLS_TUNE_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>

enum { LAYOUTS_MAX = 64, LAYOUT_TEXT_BYTES = 32, LAYOUT_SIDE_MAX = 64 };

struct layout {
    unsigned pools, threads; /* threads of each pool */
    bool pinned;             /* thread i of all to CPU i of those usable */
};

/* What is worth trying on n CPUs: 1 pool of 1, 2, 4, ... and n threads, 2, 4, ... and n pools that share the n CPUs, and those that use
 * every CPU pinned, too. Returns their number. */
size_t layouts_for(size_t n_cpus, struct layout out[LAYOUTS_MAX]);

/* "1x2,2x1p": their number, 0 when the text is none. */
size_t layouts_parse(const char *text, struct layout out[LAYOUTS_MAX]);

void layout_print(const struct layout *layout, char text[LAYOUT_TEXT_BYTES]);

/* The `pools` section, malloc'd; cpus (n_cpus): of pinned threads, over and over. NULL without memory. */
char *layout_yaml(const struct layout *layout, const int *cpus, size_t n_cpus);

#endif
