#include "tools/top/board.h"

#include "base/err.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ what is shown */

static const struct board_column pool_columns[] = {
    {"tok/s", "tokens_total", CELL_COUNT, true, NULL, "tokens of one kv head and layer, per second"},
    {"threads", "threads", CELL_COUNT, false, NULL, "threads of the pool"},
    {"busy", "busy_seconds_total", CELL_NUMBER, true, NULL, "threads at work, on average"},
    {"queued", "queued_tasks", CELL_COUNT, false, NULL, "tasks that wait for a thread"},
    {"wait99", "queue_wait_seconds.p99", CELL_SECONDS, false, NULL, "99 % of tasks waited less"},
    {"att50", "attend_seconds.p50", CELL_SECONDS, false, NULL, "half of the tasks attended faster"},
    {"att99", "attend_seconds.p99", CELL_SECONDS, false, NULL, "99 % of the tasks did"},
    {"bytes", "memory_allocated_bytes", CELL_BYTES, false, NULL, "bytes of the caches"},
    {"of full", "memory_kept_fraction", CELL_FRACTION, false, NULL, "of what full caches in bf16 would take"},
};

static const struct board_column profile_columns[] = {
    {"tok/s", "tokens_total", CELL_COUNT, true, NULL, "tokens of one kv head and layer, per second"},
    {"streams", "streams_open", CELL_COUNT, false, NULL, "streams open under it"},
    {"bytes", "memory_allocated_bytes", CELL_BYTES, false, NULL, "bytes of the caches"},
    {"of full", "memory_kept_fraction", CELL_FRACTION, false, NULL, "of what full caches in bf16 would take"},
    {"bits", "memory_bits_per_coordinate", CELL_NUMBER, false, NULL, "per number of keys and values that was appended"},
    {"app99", "append_seconds.p99", CELL_SECONDS, false, NULL, "99 % of the tasks appended faster"},
    {"att99", "attend_seconds.p99", CELL_SECONDS, false, NULL, "99 % of the tasks attended faster"},
    {"error", "audited_relative_error.mean", CELL_NUMBER, false, NULL, "mean relative error of audited heads"},
    {"err99", "audited_relative_error.p99", CELL_NUMBER, false, NULL, "99 % of their errors are less"},
};

static const struct board_column stream_columns[] = {
    {"tok/s", "tokens_total", CELL_COUNT, true, NULL, "tokens per second, of its longest layer"},
    {"tokens", "tokens_total", CELL_COUNT, false, NULL, "tokens of its longest layer"},
    {"bytes", "memory_allocated_bytes", CELL_BYTES, false, NULL, "bytes of its caches"},
    {"of full", "memory_kept_fraction", CELL_FRACTION, false, NULL, "of what full caches in bf16 would take"},
    {"bits", "memory_bits_per_coordinate", CELL_NUMBER, false, NULL, "per number of keys and values that was appended"},
    {"att/tok", "attend_seconds_total", CELL_SECONDS, true, "tokens_total", "attention per token, of all heads and layers"},
    {"app/tok", "append_seconds_total", CELL_SECONDS, true, "tokens_total", "appending per token, of all heads and layers"},
    {"error", "audited_relative_error.mean", CELL_NUMBER, false, NULL, "mean relative error of its audited heads"},
};

static const struct board_column layer_columns[] = {
    {"tok/s", "tokens_total", CELL_COUNT, true, NULL, "tokens per second"},
    {"tokens", "tokens_total", CELL_COUNT, false, NULL, "tokens appended"},
    {"bytes", "memory_allocated_bytes", CELL_BYTES, false, NULL, "bytes of its heads' caches"},
    {"of full", "memory_kept_fraction", CELL_FRACTION, false, NULL, "of what full caches in bf16 would take"},
};

#define TABLE(columns) columns, sizeof columns / sizeof *columns

static const struct {
    const char *title, *array, *note; /* note: the member's key for it, or NULL */
    const struct board_column *columns;
    size_t n_columns;
} tables[N_BOARD_TABLES] = {
    [BOARD_POOLS] = {"pools", "pools", NULL, TABLE(pool_columns)},
    [BOARD_PROFILES] = {"profiles", "profiles", NULL, TABLE(profile_columns)},
    [BOARD_STREAMS] = {"streams", "streams", "profile", TABLE(stream_columns)},
    [BOARD_LAYERS] = {"layers", "layers", "attention", TABLE(layer_columns)},
};

size_t board_n_columns(enum board_table table)
{
    return tables[table].n_columns;
}

const struct board_column *board_columns(enum board_table table)
{
    return tables[table].columns;
}

const char *board_title(enum board_table table)
{
    return tables[table].title;
}

/* ------------------------------------------------------------------ rows */

/* The number at "a" or "a.b"; NAN when it is not there. */
static double number_at(const json_t *object, const char *path)
{
    char key[64];
    const char *dot = strchr(path, '.');
    if (dot) {
        size_t n = (size_t)(dot - path);
        memcpy(key, path, n);
        key[n] = '\0';
        return number_at(json_object_get(object, key), dot + 1);
    }
    const json_t *value = json_object_get(object, path);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static void forget_numbers(double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = NAN;
}

/* Drops the oldest for x. */
static void push(double history[BOARD_HISTORY], double x)
{
    memmove(history, history + 1, (BOARD_HISTORY - 1) * sizeof *history);
    history[BOARD_HISTORY - 1] = x;
}

static struct board_row *row_of(struct board *b, enum board_table table, const char *name)
{
    for (size_t i = 0; i < b->n_rows[table]; i++)
        if (strcmp(b->row[table][i].name, name) == 0)
            return &b->row[table][i];
    if (b->n_rows[table] == b->room[table]) {
        size_t room = b->room[table] ? 2 * b->room[table] : 16;
        struct board_row *grown = realloc(b->row[table], room * sizeof *grown);
        if (!grown)
            return NULL;
        b->row[table] = grown;
        b->room[table] = room;
    }
    struct board_row *row = &b->row[table][b->n_rows[table]++];
    memset(row, 0, sizeof *row);
    strncpy(row->name, name, sizeof row->name - 1);
    forget_numbers(row->value, BOARD_COLUMNS_MAX);
    forget_numbers(row->last, BOARD_COLUMNS_MAX);
    forget_numbers(row->last_over, BOARD_COLUMNS_MAX);
    forget_numbers(row->history, BOARD_HISTORY);
    return row;
}

static void take_value(struct board_row *row, size_t c, const struct board_column *column, const json_t *member, double seconds)
{
    double now = number_at(member, column->path);
    if (!column->rate) {
        row->value[c] = now;
        return;
    }
    double grown = now - row->last[c], by = seconds;
    if (column->over) {
        double over = number_at(member, column->over);
        by = over - row->last_over[c];
        row->last_over[c] = over;
    }
    row->last[c] = now;
    row->value[c] = by > 0 ? grown / by : NAN;
}

static int take_member(struct board *b, enum board_table table, const json_t *member, double seconds)
{
    const char *name = json_string_value(json_object_get(member, "name"));
    const char *note = tables[table].note ? json_string_value(json_object_get(member, tables[table].note)) : NULL;
    struct board_row *row = row_of(b, table, name ? name : "?");
    if (!row)
        return ERR_NO_MEMORY;
    row->seen = true;
    row->id = (uint64_t)json_integer_value(json_object_get(member, "stream"));
    strncpy(row->note, note ? note : "", sizeof row->note - 1);
    for (size_t c = 0; c < tables[table].n_columns; c++)
        take_value(row, c, &tables[table].columns[c], member, seconds);
    push(row->history, row->value[0]);
    return 0;
}

static void drop_unseen(struct board *b, enum board_table table)
{
    size_t kept = 0;
    for (size_t i = 0; i < b->n_rows[table]; i++)
        if (b->row[table][i].seen)
            b->row[table][kept++] = b->row[table][i];
    b->n_rows[table] = kept;
}

static int take_table(struct board *b, enum board_table table, const json_t *array, double seconds)
{
    int err = 0;
    for (size_t i = 0; i < b->n_rows[table]; i++)
        b->row[table][i].seen = false;
    for (size_t i = 0; i < json_array_size(array) && !err; i++)
        err = take_member(b, table, json_array_get(array, i), seconds);
    if (!err)
        drop_unseen(b, table);
    return err;
}

/* ------------------------------------------------------------------ the board */

void board_init(struct board *b)
{
    memset(b, 0, sizeof *b);
    forget_numbers(b->history, BOARD_HISTORY);
    b->last_tokens = b->tokens_per_second = b->time = b->stream_time = NAN;
    board_show(b, BOARD_PROFILES);
}

void board_free(struct board *b)
{
    for (size_t t = 0; t < N_BOARD_TABLES; t++)
        free(b->row[t]);
    free(b->shown);
    memset(b, 0, sizeof *b);
}

int board_update(struct board *b, const json_t *status)
{
    const json_t *daemon = json_object_get(status, "daemon"), *streams = json_object_get(status, "streams");
    if (!daemon) { /* of one stream: its layers */
        const json_t *stream = json_array_get(streams, 0);
        double now = number_at(status, "time_seconds"), seconds = now - b->stream_time;
        b->stream_time = now;
        return take_table(b, BOARD_LAYERS, json_object_get(stream, "layers"), seconds);
    }
    double now = number_at(status, "time_seconds"), seconds = now - b->time, tokens = number_at(daemon, "tokens_total");
    int err = 0;
    b->tokens_per_second = seconds > 0 ? (tokens - b->last_tokens) / seconds : NAN;
    b->last_tokens = tokens;
    push(b->history, b->tokens_per_second);
    for (int t = 0; t < BOARD_LAYERS && !err; t++)
        err = take_table(b, (enum board_table)t, json_object_get(status, tables[t].array), seconds);
    b->time = now;
    return err;
}

void board_show(struct board *b, enum board_table table)
{
    b->table = table;
    b->sort_column = table == BOARD_LAYERS ? BOARD_COLUMNS_MAX : 0;
    b->ascending = table == BOARD_LAYERS;
    b->n_shown = 0;
}

static bool passes(const struct board *b, const struct board_row *row)
{
    if (b->table == BOARD_STREAMS && b->profile[0] && strcmp(row->note, b->profile) != 0)
        return false;
    return !b->filter[0] || strstr(row->name, b->filter) || strstr(row->note, b->filter);
}

/* Numbers before NAN, as sorted; equal ones by name, digits in it as numbers. */
static int order(const void *left, const void *right, void *board)
{
    const struct board *b = board;
    const struct board_row *x = &b->row[b->table][*(const size_t *)left], *y = &b->row[b->table][*(const size_t *)right];
    if (b->sort_column < BOARD_COLUMNS_MAX) {
        double p = x->value[b->sort_column], q = y->value[b->sort_column];
        if (isnan(p) != isnan(q))
            return isnan(p) ? 1 : -1;
        if (p < q || p > q)
            return (p < q) == b->ascending ? -1 : 1;
        return strverscmp(x->name, y->name);
    }
    return b->ascending ? strverscmp(x->name, y->name) : strverscmp(y->name, x->name);
}

int board_arrange(struct board *b)
{
    size_t n = b->n_rows[b->table];
    size_t *shown = realloc(b->shown, (n + 1) * sizeof *shown);
    if (!shown)
        return ERR_NO_MEMORY;
    b->shown = shown;
    b->n_shown = 0;
    for (size_t i = 0; i < n; i++)
        if (passes(b, &b->row[b->table][i]))
            shown[b->n_shown++] = i;
    qsort_r(shown, b->n_shown, sizeof *shown, order, b);
    return 0;
}

const struct board_row *board_at(const struct board *b, size_t line)
{
    return line < b->n_shown ? &b->row[b->table][b->shown[line]] : NULL;
}
