#include "tools/top/screen.h"

#include <curses.h>
#include <locale.h>
#include <math.h>
#include <string.h>

enum { HEAD_LINES = 6, NAME_WIDTH = 24, NOTE_WIDTH = 14, ESCAPE_MS = 25 };

void screen_open(void)
{
    setlocale(LC_CTYPE, "");
    initscr();
    set_escdelay(ESCAPE_MS);
    cbreak();
    noecho();
    keypad(stdscr, TRUE);
    curs_set(0);
}

void screen_close(void)
{
    endwin();
}

int screen_key(double seconds)
{
    timeout(seconds > 0 ? (int)(seconds * 1000) : 0);
    return getch();
}

static double daemon_number(const json_t *status, const char *key)
{
    const json_t *value = json_object_get(json_object_get(status, "daemon"), key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static double refused(const json_t *status)
{
    const char *key;
    json_t *value;
    double sum = 0;
    json_object_foreach(json_object_get(json_object_get(status, "daemon"), "refused_total"), key, value) sum +=
        json_number_value(value);
    return sum;
}

static void put(int y, int x, const char *title, enum cell_kind kind, double value)
{
    char text[CELL_TEXT_BYTES];
    cell_print(kind, value, text);
    mvprintw(y, x, "%s ", title);
    attron(A_BOLD);
    printw("%s", text);
    attroff(A_BOLD);
}

/* The daemon as a whole. */
static void draw_head(const struct screen *s, const struct board *b, const json_t *status)
{
    char spark[SPARK_TEXT_BYTES];
    const char *version = json_string_value(json_object_get(status, "version"));
    mvprintw(0, 0, "attnd %s  %.60s", version ? version : "", s->endpoint);
    if (s->paused)
        printw("  PAUSED");
    put(1, 0, "tokens/s", CELL_COUNT, b->tokens_per_second);
    put(1, 18, "streams", CELL_COUNT, daemon_number(status, "streams_open"));
    put(1, 34, "queued", CELL_BYTES, daemon_number(status, "queued_bytes"));
    put(1, 50, "refused", CELL_COUNT, refused(status));
    put(1, 66, "up", CELL_SECONDS, daemon_number(status, "uptime_seconds"));
    put(2, 0, "caches", CELL_BYTES, daemon_number(status, "memory_allocated_bytes"));
    put(2, 18, "full", CELL_BYTES, daemon_number(status, "memory_full_bf16_bytes"));
    put(2, 34, "kept", CELL_FRACTION, daemon_number(status, "memory_kept_fraction"));
    put(2, 50, "process", CELL_BYTES, daemon_number(status, "process_resident_bytes"));
    put(2, 66, "dropped", CELL_COUNT, daemon_number(status, "outputs_dropped_total"));
    spark_print(b->history, BOARD_HISTORY, spark);
    mvprintw(3, 0, "%s", spark);
}

static void draw_tabs(const struct board *b)
{
    move(4, 0);
    for (int t = 0; t < N_BOARD_TABLES; t++) {
        if (t == BOARD_LAYERS && !b->stream)
            continue;
        attron((enum board_table)t == b->table ? A_REVERSE : A_NORMAL);
        printw(" %d %s ", t + 1, board_title((enum board_table)t));
        attroff(A_REVERSE);
    }
    if (b->table == BOARD_STREAMS && b->profile[0])
        printw("  of profile %s", b->profile);
    if (b->table == BOARD_LAYERS)
        printw("  of stream %s", b->stream_name);
    if (b->filter[0])
        printw("  filter '%s'", b->filter);
    printw("  %zu", b->n_shown);
}

static int name_width(const struct board *b)
{
    return b->table == BOARD_STREAMS || b->table == BOARD_LAYERS ? NAME_WIDTH + NOTE_WIDTH + 1 : NAME_WIDTH;
}

static void draw_titles(const struct board *b)
{
    const struct board_column *column = board_columns(b->table);
    attron(A_UNDERLINE);
    mvprintw(5, 0, "%-*s", name_width(b), b->sort_column == BOARD_COLUMNS_MAX ? (b->ascending ? "name ^" : "name v") : "name");
    for (size_t c = 0; c < board_n_columns(b->table); c++)
        printw("%*s%s", CELL_WIDTH, column[c].title, c != b->sort_column ? " " : b->ascending ? "^" : "v");
    printw("  %s", column[0].title);
    attroff(A_UNDERLINE);
}

static void draw_row(const struct board *b, int y, const struct board_row *row, int columns)
{
    const struct board_column *column = board_columns(b->table);
    char text[CELL_TEXT_BYTES], spark[SPARK_TEXT_BYTES];
    if (name_width(b) > NAME_WIDTH)
        mvprintw(y, 0, "%-*.*s %-*.*s", NAME_WIDTH, NAME_WIDTH, row->name, NOTE_WIDTH, NOTE_WIDTH, row->note);
    else
        mvprintw(y, 0, "%-*.*s", NAME_WIDTH, NAME_WIDTH, row->name);
    for (size_t c = 0; c < board_n_columns(b->table); c++) {
        cell_print(column[c].kind, row->value[c], text);
        printw("%*s ", CELL_WIDTH, text);
    }
    int room = columns - getcurx(stdscr) - 2;
    size_t n = room < 0 ? 0 : room < BOARD_HISTORY ? (size_t)room : BOARD_HISTORY;
    spark_print(row->history + BOARD_HISTORY - n, n, spark);
    printw("  %s", spark);
}

static void draw_help(const struct board *b)
{
    static const char *const keys[] = {"Tab, 1-4     the next table, or that one",
                                       "up, down     move (also k, j, PgUp, PgDn, Home, End)",
                                       "Enter        into a profile's streams, a stream's layers",
                                       "Esc          back; drops the filter",
                                       "< >          sort by the column before, after; r turns the order round",
                                       "/            show rows whose name holds a text",
                                       "+ -          look more, less often",
                                       "p            pause",
                                       "q            leave"};
    int y = HEAD_LINES + 1;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        mvprintw(y++, 2, "%s", keys[i]);
    y++;
    for (size_t c = 0; c < board_n_columns(b->table); c++)
        mvprintw(y++, 2, "%-12s %s", board_columns(b->table)[c].title, board_columns(b->table)[c].help);
}

static void draw_rows(struct screen *s, const struct board *b, int lines, int columns)
{
    size_t room = lines > HEAD_LINES + 1 ? (size_t)(lines - HEAD_LINES - 1) : 0;
    if (s->cursor >= b->n_shown)
        s->cursor = b->n_shown ? b->n_shown - 1 : 0;
    if (s->cursor < s->first)
        s->first = s->cursor;
    if (room && s->cursor >= s->first + room)
        s->first = s->cursor - room + 1;
    for (size_t i = 0; i < room && board_at(b, s->first + i); i++) {
        attron(s->first + i == s->cursor ? A_REVERSE : A_NORMAL);
        draw_row(b, HEAD_LINES + (int)i, board_at(b, s->first + i), columns);
        attroff(A_REVERSE);
    }
}

void screen_draw(struct screen *s, const struct board *b, const json_t *status)
{
    int lines, columns;
    getmaxyx(stdscr, lines, columns);
    erase();
    draw_head(s, b, status);
    draw_tabs(b);
    draw_titles(b);
    if (s->help)
        draw_help(b);
    else
        draw_rows(s, b, lines, columns);
    if (s->typing)
        mvprintw(lines - 1, 0, "filter: %s_", b->filter);
    else if (s->message[0])
        mvprintw(lines - 1, 0, "%s", s->message);
    else
        mvprintw(lines - 1, 0, "q leave  ? help  Tab table  Enter into  Esc back  < > r sort  / filter  p pause  every %.2g s",
                 s->seconds);
    refresh();
}
