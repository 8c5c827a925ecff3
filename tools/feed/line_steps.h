/* The steps of line_run, between the files of a line only. */
#ifndef ATTND_TOOLS_FEED_LINE_STEPS_H
#define ATTND_TOOLS_FEED_LINE_STEPS_H

#include "tools/feed/line.h"

/* What comes next when no more can be sent now. */
enum line_wait {
    LINE_FOR_TIME,    /* a message is due later */
    LINE_FOR_ANSWER,  /* nothing leaves before something is answered */
    LINE_FOR_NOTHING, /* there is nothing to send, unless an answer is a refusal */
};

static inline struct lane *line_lane(const struct line *line, size_t stream, uint32_t layer)
{
    return &line->lane[stream * line->load->shape.n_layers + layer];
}

/* The number in the load of a stream of the line. */
static inline size_t line_number(const struct line *line, size_t stream)
{
    return line->first + stream * line->step;
}

int line_open_stream(struct line *line, size_t i, bool resume, struct fault *fault);

/* Sends as much as may be sent now. */
int line_send(struct line *line, enum line_wait *wait, struct fault *fault);

/* Waits for an answer, or until something can be sent, and takes what is answered. ERR_TIMEOUT and ERR_IO: the connection is
 * lost; so it is when line->lost is set. */
int line_receive(struct line *line, enum line_wait wait, struct fault *fault);

/* Connects again and takes the streams over. fault: why; when this fails, why that did. */
int line_renew(struct line *line, struct fault *fault);

#endif
