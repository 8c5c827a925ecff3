#include "cache/merge/neighbours.h"
#include "sketch/dot.h"

#include <math.h>
#include <string.h>

enum {
    TILE = 128, /* rows looked at together, in whole panels */
    TILE_FLOATS = PANEL * SHAPE_DIM_MAX,
    LDS = TILE + PANEL,
    QUERIES = 8,
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Places [first, end) that a row looks at. */
struct range {
    size_t first, end;
};

/* What the search has in hand: M k of the rows that ask, a tile of the rows that are asked. */
struct search {
    const struct rows *rows;
    const struct row_format *format;
    const struct metric *metric;
    struct range all;
    float asked[TILE_FLOATS], keys[TILE_FLOATS], measured[TILE_FLOATS], half[TILE];
};

/* Of the rows in [a, b], ascending. */
static struct range reach(const struct search *s, size_t a, size_t b)
{
    size_t first = a > NEIGHBOURS_REACH ? a - NEIGHBOURS_REACH : 0;
    return (struct range){larger(first, s->all.first), smaller(b + NEIGHBOURS_REACH + 1, s->all.end)};
}

static void note(struct neighbours *g, uint32_t row, float apart)
{
    size_t at = g->n < NEIGHBOURS_MAX ? g->n++ : NEIGHBOURS_MAX - 1;
    for (; at > 0 && g->apart[at - 1] > apart; at--) {
        g->apart[at] = g->apart[at - 1];
        g->near[at] = g->near[at - 1];
    }
    g->apart[at] = apart;
    g->near[at] = row;
}

/* Offers rows [row, row + n) of the tile with scores s (n,) to one row, as far as it reaches. */
static void offer(struct neighbours *g, struct range mine, size_t row, size_t n, const float *half, const float *s)
{
    float worst = g->n < NEIGHBOURS_MAX ? INFINITY : g->apart[NEIGHBOURS_MAX - 1];
    for (size_t j = larger(mine.first, row); j < smaller(mine.end, row + n); j++) {
        float apart = half[j - row] - s[j - row];
        if (apart < worst && j != g->row) {
            note(g, (uint32_t)j, apart);
            worst = g->n < NEIGHBOURS_MAX ? INFINITY : g->apart[NEIGHBOURS_MAX - 1];
        }
    }
}

/* Rows [row, row + n) into the tile. */
static void measure(struct search *s, size_t row, size_t n)
{
    size_t d = s->format->d;
    rows_read_keys(s->rows, s->format, s->metric->kernels, row, n, s->keys);
    metric_apply(s->metric, s->keys, n, s->measured);
    for (size_t j = 0; j < n; j++)
        s->half[j] = 0.5f * dot(s->keys + j * d, s->measured + j * d, d);
}

/* The tile [row, row + n) for up to QUERIES rows of `of`. */
static void ask_tile(const struct search *s, struct neighbours *of, size_t n_of, const float *asked, size_t row, size_t n)
{
    float score[QUERIES * LDS];
    size_t d = s->format->d;
    struct range group = reach(s, of[0].row, of[n_of - 1].row);
    if (group.first >= row + n || group.end <= row)
        return;
    s->metric->kernels->score[s->format->key_storage->id](asked, n_of, d, page_data(s->rows->page), row, n, score, LDS);
    for (size_t i = 0; i < n_of; i++)
        offer(&of[i], reach(s, of[i].row, of[i].row), row, n, s->half, score + i * LDS);
}

/* All neighbours of n_of rows, as many as `asked` holds. */
static void find(struct search *s, struct neighbours *of, size_t n_of)
{
    size_t d = s->format->d, step = smaller(TILE, TILE_FLOATS / d / PANEL * PANEL);
    struct range range = reach(s, of[0].row, of[n_of - 1].row);
    for (size_t i = 0; i < n_of; i++) {
        rows_read_keys(s->rows, s->format, s->metric->kernels, of[i].row, 1, s->keys);
        metric_apply(s->metric, s->keys, 1, s->asked + i * d);
        of[i].n = 0;
    }
    for (size_t row = range.first / PANEL * PANEL, n; row < range.end; row += n) {
        n = smaller(range.end - row, step);
        measure(s, row, n);
        for (size_t i = 0; i < n_of; i += QUERIES)
            ask_tile(s, of + i, smaller(n_of - i, QUERIES), s->asked + i * d, row, n);
    }
}

void neighbours_find(struct neighbours *of, size_t n_of, const struct rows *rows, const struct row_format *format,
                     const struct metric *metric, size_t first, size_t end)
{
    struct search s;
    s.rows = rows;
    s.format = format;
    s.metric = metric;
    s.all = (struct range){first, end};
    for (size_t at = 0, n; at < n_of; at += n) {
        n = smaller(n_of - at, TILE_FLOATS / format->d);
        find(&s, of + at, n);
    }
}

void neighbours_pop(struct neighbours *g)
{
    g->n--;
    memmove(g->near, g->near + 1, g->n * sizeof *g->near);
    memmove(g->apart, g->apart + 1, g->n * sizeof *g->apart);
}
