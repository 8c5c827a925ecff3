/* A connection that is lost, and made anew. */
#include "base/clock.h"
#include "tools/feed/line_steps.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

static const double pause_least = 0.1, pause_most = 2; /* seconds between two attempts */

/* Where the stream goes on: at what has no outputs yet, and before that where the daemon knows less than it acknowledged. */
static void go_on(struct line *line, size_t i)
{
    uint64_t gone = 0;
    for (uint32_t l = 0; l < line->load->shape.n_layers; l++) {
        struct lane *lane = line_lane(line, i, l);
        uint64_t *next = &line->stream[i].next[l];
        lane->in_flight = 0;
        lane->stalled = false;
        if (*next < lane->answered) {
            gone += lane->answered - *next;
            atomic_fetch_sub(&line->progress, lane->answered - *next);
            lane->answered = *next;
            lane->start = lane->start < *next ? lane->start : *next;
        }
        *next = lane->answered;
    }
    if (gone)
        fprintf(stderr, "%s: stream %.63s-%zu has lost what it held; it is fed again from there\n", line->options->who,
                line->options->prefix, line_number(line, i));
}

static int try_again(struct line *line, struct fault *fault)
{
    int err = line->carrier->ops->renew(line->carrier, fault);
    for (size_t i = 0; i < line->n_streams && !err; i++) {
        attnd_forget(&line->stream[i]);
        err = line_open_stream(line, i, true, fault);
    }
    for (size_t i = 0; i < line->n_streams && !err; i++) {
        go_on(line, i);
        err = line->carrier->ops->confirm(line->carrier, &line->stream[i], fault);
    }
    return err;
}

int line_renew(struct line *line, struct fault *fault)
{
    double deadline = clock_seconds() + line->options->retry, pause = pause_least;
    if (!line->carrier->ops->renew || line->options->retry <= 0)
        return fault->err;
    fprintf(stderr, "%s: the connection is lost (%.160s); connecting again\n", line->options->who, fault->text);
    for (size_t i = 0; i < line->load->in_flight; i++)
        line->flight[i].used = false;
    line->landed = line->sent;
    int err;
    while ((err = try_again(line, fault)) && clock_seconds() < deadline &&
           !(line->options->stop && atomic_load(line->options->stop)) && !command_interrupted()) {
        struct timespec t = {.tv_sec = (time_t)pause, .tv_nsec = (long)(fmod(pause, 1) * 1e9)};
        nanosleep(&t, NULL);
        pause = fmin(2 * pause, pause_most);
    }
    if (err)
        return err;
    line->lost = false;
    line->reconnects++;
    line->hold = line->hold_until = 0;
    line->last_heard = clock_seconds();
    return 0;
}
