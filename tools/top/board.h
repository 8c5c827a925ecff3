/* Board: what `attn top` shows, without a screen: tables of rows (pools, profiles, streams, the layers of one stream) with columns
 * taken from the daemon's status, rates between two of them, a history per row, sorting and a filter.
 *
 * A row is told by its name and outlives updates, so that its history does; rows that a status lacks are gone.
 * Threads: one. */
#ifndef ATTND_TOOLS_TOP_BOARD_H
#define ATTND_TOOLS_TOP_BOARD_H

#include "tools/top/cell.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum board_table { BOARD_POOLS, BOARD_PROFILES, BOARD_STREAMS, BOARD_LAYERS, N_BOARD_TABLES };

enum { BOARD_NAME_BYTES = 64, BOARD_COLUMNS_MAX = 10, BOARD_HISTORY = 40, BOARD_FILTER_BYTES = 48 };

struct board_column {
    const char *title; /* at most CELL_WIDTH - 1 characters */
    const char *path;  /* in the member's object: "tokens_total", "attend_seconds.p99" */
    enum cell_kind kind;
    bool rate;        /* what it grew by per second */
    const char *over; /* a rate is divided by that of this path, or NULL: attend_seconds_total over tokens_total */
    const char *help;
};

struct board_row {
    char name[BOARD_NAME_BYTES], note[BOARD_NAME_BYTES]; /* note: a stream's profile, a layer's kind */
    uint64_t id;                                         /* of a stream */
    double value[BOARD_COLUMNS_MAX];                     /* NAN where it is not known */
    double last[BOARD_COLUMNS_MAX], last_over[BOARD_COLUMNS_MAX];
    double history[BOARD_HISTORY]; /* of the first column, oldest first */
    bool seen;
};

struct board {
    struct board_row *row[N_BOARD_TABLES];
    size_t n_rows[N_BOARD_TABLES], room[N_BOARD_TABLES];
    size_t *shown; /* indices of the rows that pass the filter, in order: (n_shown) */
    size_t n_shown;
    enum board_table table;
    size_t sort_column; /* BOARD_COLUMNS_MAX: by name */
    bool ascending;
    char filter[BOARD_FILTER_BYTES]; /* rows whose name or note holds this */
    char profile[BOARD_NAME_BYTES];  /* streams: of this profile alone; "": all */
    uint64_t stream;                 /* whose layers are shown; 0: none */
    char stream_name[BOARD_NAME_BYTES];
    double time, stream_time; /* of the last status, of the daemon and of the stream */
    double tokens_per_second, history[BOARD_HISTORY], last_tokens;
};

void board_init(struct board *board);
void board_free(struct board *board);

/* Takes a status (attn status --json); of one stream with its layers, or of the daemon. 0, or ERR_NO_MEMORY. */
int board_update(struct board *board, const json_t *status);

/* Sorts and filters the present table into shown. 0, or ERR_NO_MEMORY. */
int board_arrange(struct board *board);

void board_show(struct board *board, enum board_table table);             /* sorted by its first column */
const struct board_row *board_at(const struct board *board, size_t line); /* of those shown; NULL beyond */

size_t board_n_columns(enum board_table table);
const struct board_column *board_columns(enum board_table table);
const char *board_title(enum board_table table);

#endif
