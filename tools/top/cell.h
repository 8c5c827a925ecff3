/* Cells: numbers for narrow columns, and sparklines. */
#ifndef ATTND_TOOLS_TOP_CELL_H
#define ATTND_TOOLS_TOP_CELL_H

#include <stddef.h>

enum cell_kind {
    CELL_COUNT,    /* 950, 12.3k, 4.56M */
    CELL_BYTES,    /* 512B, 1.5K, 20.1M, 3.0G: powers of 1024 */
    CELL_SECONDS,  /* 850n, 12.3u, 4.5m, 2.00s */
    CELL_FRACTION, /* 12.5% */
    CELL_NUMBER,   /* 0.0123 */
};

enum { CELL_WIDTH = 8, CELL_TEXT_BYTES = 32, SPARK_TEXT_BYTES = 256 };

/* At most CELL_WIDTH - 1 characters; "-" for NAN. */
void cell_print(enum cell_kind kind, double x, char text[CELL_TEXT_BYTES]);

/* One of eight bars per value (UTF-8), scaled to the largest; blank where there is none (NAN). n values, oldest first. */
void spark_print(const double *x, size_t n, char text[SPARK_TEXT_BYTES]);

#endif
