/* What a function prints goes into a text while it runs, so that tests can look at it. */
#ifndef ATTND_TESTS_TOOLS_CAPTURE_H
#define ATTND_TESTS_TOOLS_CAPTURE_H

#include <stdio.h>

enum { CAPTURE_BYTES = 65536 };

struct capture {
    FILE *stream;
    int saved;
    char path[32];
    char text[CAPTURE_BYTES]; /* after capture_end */
};

void capture_begin(struct capture *c, FILE *stream);
void capture_end(struct capture *c);

#endif
