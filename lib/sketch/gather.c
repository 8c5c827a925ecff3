#include "sketch/gather.h"

void gather(uint32_t *from, uint32_t *needed, size_t n, size_t n_rows, void (*copy)(void *context, size_t to, size_t source),
            void *context)
{
    for (size_t i = 0; i < n_rows; i++)
        needed[i] = 0;
    for (size_t i = 0; i < n; i++)
        needed[from[i]] += from[i] != i;
    /* A place is open while its source is another row. Writing one may free its source, which is then written at once. */
    for (size_t i = 0; i < n; i++)
        for (size_t to = i; to < n && from[to] != to && needed[to] == 0;) {
            size_t source = from[to];
            copy(context, to, source);
            from[to] = (uint32_t)to;
            needed[source]--;
            to = source;
        }
    /* Each open place is needed now, and there are as many needs as open places: once each. */
    for (size_t i = 0; i < n; i++) {
        if (from[i] == i)
            continue;
        copy(context, GATHER_SPARE, i);
        size_t to = i;
        while (from[to] != i) {
            size_t source = from[to];
            copy(context, to, source);
            from[to] = (uint32_t)to;
            to = source;
        }
        copy(context, to, GATHER_SPARE);
        from[to] = (uint32_t)to;
    }
}
