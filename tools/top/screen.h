/* Screen: draws a board with curses. Threads: one; curses is global, so there is one screen. */
#ifndef ATTND_TOOLS_TOP_SCREEN_H
#define ATTND_TOOLS_TOP_SCREEN_H

#include "tools/top/board.h"

struct screen {
    size_t cursor, first;      /* the marked line, and the first one that is drawn, of the board's lines */
    bool paused, help, typing; /* typing: a filter is being entered */
    char message[256];         /* at the bottom; "": the keys */
    double seconds;            /* between two looks */
    const char *endpoint;
};

void screen_open(void);
void screen_close(void);

/* status: the last one of the daemon, or NULL. Moves the cursor into what is there. */
void screen_draw(struct screen *screen, const struct board *board, const json_t *status);

/* Waits so many seconds for a key; ERR (of curses) when none came. */
int screen_key(double seconds);

#endif
