/* attn top: a daemon live in the terminal: memory against full, rates, latency and audited errors by pool, profile, stream and layer.
 * One look is one status call; nothing is asked of the caches. */
#include "client/attnd_client.h"
#include "tools/command.h"
#include "tools/top/screen.h"

#include "base/clock.h"

#include <curses.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char who[] = "attn top";

struct options {
    const char *endpoint;
    double interval;
};

#define PLACE(field) offsetof(struct options, field)

static const struct command_option table[] = {
    {"--endpoint", "EP", OPTION_TEXT, PLACE(endpoint), 0, 0, false, "the daemon's ingest endpoint (default: your own daemon)"},
    {"--interval", "SECONDS", OPTION_NUMBER, PLACE(interval), 0.1, 60, false, "between two looks (default: 1)"},
};

struct top {
    struct attnd_client *client;
    const char *endpoint; /* NULL: the user's own */
    struct board board;
    struct screen screen;
    json_t *status; /* the last one of the daemon */
    bool done;
};

/* ------------------------------------------------------------------ looking */

static json_t *ask(struct top *t, uint64_t stream, struct fault *fault)
{
    char *text = NULL;
    int err = t->client ? 0 : attnd_connect(&t->client, t->endpoint, NULL, fault);
    if (!err)
        err = attnd_status(t->client, stream, &text, fault);
    json_t *status = err ? NULL : json_loads(text, 0, NULL);
    free(text);
    if (err == ERR_TIMEOUT || err == ERR_IO) { /* it is gone: a new connection next time */
        attnd_disconnect(t->client);
        t->client = NULL;
    }
    return status;
}

static void look(struct top *t)
{
    struct fault fault = {0};
    json_t *status = ask(t, 0, &fault), *stream = NULL;
    if (status && t->board.stream) {
        stream = ask(t, t->board.stream, &fault);
        if (!stream && fault.err == ERR_UNKNOWN_STREAM) {
            t->board.stream = 0;
            board_show(&t->board, BOARD_STREAMS);
        }
    }
    int err = status ? board_update(&t->board, status) : 0;
    if (!err && stream)
        err = board_update(&t->board, stream);
    if (err)
        fault_set(&fault, err, "the board");
    snprintf(t->screen.message, sizeof t->screen.message, "%s", fault.err ? fault.text : "");
    json_decref(stream);
    if (status) {
        json_decref(t->status);
        t->status = status;
    }
}

/* ------------------------------------------------------------------ keys */

static void go_to(struct top *t, enum board_table to)
{
    if (to == BOARD_LAYERS && !t->board.stream)
        return;
    board_show(&t->board, to);
    t->screen.cursor = t->screen.first = 0;
}

static void enter(struct top *t)
{
    struct board *b = &t->board;
    const struct board_row *row = board_at(b, t->screen.cursor);
    if (!row)
        return;
    b->filter[0] = '\0';
    if (b->table == BOARD_PROFILES) {
        memcpy(b->profile, row->name, sizeof b->profile);
        go_to(t, BOARD_STREAMS);
    } else if (b->table == BOARD_STREAMS) {
        b->stream = row->id;
        memcpy(b->stream_name, row->name, sizeof b->stream_name);
        b->n_rows[BOARD_LAYERS] = 0;
        go_to(t, BOARD_LAYERS);
        look(t);
    }
}

static void back(struct top *t)
{
    struct board *b = &t->board;
    if (t->screen.help) {
        t->screen.help = false;
    } else if (b->filter[0]) {
        b->filter[0] = '\0';
    } else if (b->table == BOARD_LAYERS) {
        b->stream = 0;
        go_to(t, BOARD_STREAMS);
    } else if (b->profile[0]) {
        b->profile[0] = '\0';
        go_to(t, BOARD_PROFILES);
    }
}

static void sort_by(struct top *t, int step)
{
    struct board *b = &t->board;
    size_t n = board_n_columns(b->table) + 1; /* and the name, first */
    size_t at = b->sort_column == BOARD_COLUMNS_MAX ? 0 : b->sort_column + 1;
    at = (at + n + (size_t)step) % n; /* step -1 wraps as it should */
    b->sort_column = at ? at - 1 : BOARD_COLUMNS_MAX;
    b->ascending = !at;
}

static void type(struct top *t, int key)
{
    char *filter = t->board.filter;
    size_t n = strlen(filter);
    if (key == '\n' || key == KEY_ENTER || key == 27)
        t->screen.typing = false;
    else if ((key == KEY_BACKSPACE || key == 127 || key == '\b') && n)
        filter[n - 1] = '\0';
    else if (key > ' ' && key < 127 && n + 1 < BOARD_FILTER_BYTES)
        memcpy(filter + n, (const char[]){(char)key, '\0'}, 2);
    t->screen.cursor = 0;
}

static void move_cursor(struct screen *s, long by)
{
    s->cursor = by < 0 && (size_t)-by > s->cursor ? 0 : s->cursor + (size_t)by; /* drawing keeps it inside */
}

static void press(struct top *t, int key)
{
    struct screen *s = &t->screen;
    if (s->typing) {
        type(t, key);
        return;
    }
    switch (key) {
    case 'q': t->done = true; break;
    case '\t': {
        enum board_table last = t->board.stream ? BOARD_LAYERS : BOARD_STREAMS;
        go_to(t, t->board.table == last ? BOARD_POOLS : (enum board_table)(t->board.table + 1));
        break;
    }
    case '1':
    case '2':
    case '3':
    case '4': go_to(t, (enum board_table)(key - '1')); break;
    case KEY_UP:
    case 'k': move_cursor(s, -1); break;
    case KEY_DOWN:
    case 'j': move_cursor(s, 1); break;
    case KEY_PPAGE: move_cursor(s, -20); break;
    case KEY_NPAGE: move_cursor(s, 20); break;
    case KEY_HOME: s->cursor = 0; break;
    case KEY_END: s->cursor = t->board.n_shown; break;
    case '\n':
    case KEY_ENTER: enter(t); break;
    case 27:
    case KEY_BACKSPACE:
    case 127: back(t); break;
    case '<': sort_by(t, -1); break;
    case '>': sort_by(t, 1); break;
    case 'r': t->board.ascending = !t->board.ascending; break;
    case '/': s->typing = true; break;
    case 'p': s->paused = !s->paused; break;
    case '?': s->help = !s->help; break;
    case '+': s->seconds = s->seconds > 0.2 ? s->seconds / 2 : s->seconds; break;
    case '-': s->seconds = s->seconds < 30 ? s->seconds * 2 : s->seconds; break;
    default: break; /* a resize wakes us, too: draw again */
    }
}

static void watch(struct top *t)
{
    double next = clock_seconds();
    while (!t->done && !command_interrupted()) {
        double now = clock_seconds();
        if (now >= next) {
            if (!t->screen.paused)
                look(t);
            next = now + t->screen.seconds;
        }
        if (board_arrange(&t->board))
            return;
        screen_draw(&t->screen, &t->board, t->status);
        int key = screen_key(next - clock_seconds());
        if (key != ERR)
            press(t, key);
    }
}

int command_top(int argc, char **argv)
{
    struct options o = {.interval = 1};
    const struct option_group group = {table, sizeof table / sizeof *table, &o};
    int code =
        command_parse(who, "Watches a daemon live: memory, rates, latency and errors by pool, profile, stream and layer.",
                      &group, 1, argc, argv);
    if (code != COMMAND_GO_ON)
        return code;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return command_usage(who, "needs a terminal; attn status prints once");
    struct top top = {.endpoint = o.endpoint, .screen = {.seconds = o.interval}};
    struct fault fault = {0};
    if (attnd_connect(&top.client, o.endpoint, NULL, &fault)) /* before the screen is taken: who is not there is told plainly */
        return command_failed(who, &fault);
    attnd_set_timeout(top.client, 5);
    top.screen.endpoint = o.endpoint ? o.endpoint : "(your own daemon)";
    command_catch_interrupt();
    board_init(&top.board);
    screen_open();
    watch(&top);
    screen_close();
    attnd_disconnect(top.client);
    board_free(&top.board);
    json_decref(top.status);
    return COMMAND_DONE;
}
