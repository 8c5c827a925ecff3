#include "tests/tools/capture.h"

#include "tests/test.h"

#include <stdlib.h>
#include <unistd.h>

void capture_begin(struct capture *c, FILE *stream)
{
    fflush(stream);
    c->stream = stream;
    c->saved = dup(fileno(stream));
    snprintf(c->path, sizeof c->path, "/tmp/attnd_out_XXXXXX");
    int fd = mkstemp(c->path);
    CU_ASSERT_FATAL(fd >= 0 && c->saved >= 0 && dup2(fd, fileno(stream)) >= 0);
    close(fd);
}

void capture_end(struct capture *c)
{
    fflush(c->stream);
    dup2(c->saved, fileno(c->stream));
    close(c->saved);
    FILE *f = fopen(c->path, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    c->text[fread(c->text, 1, CAPTURE_BYTES - 1, f)] = 0;
    fclose(f);
    unlink(c->path);
}
