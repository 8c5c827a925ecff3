#include "base/clock.h"
#include "tools/feed/line_steps.h"
#include "workers/engine.h"

#include <stdio.h>
#include <stdlib.h>

int line_create(struct line *line, const struct load *load, const struct line_options *options, struct carrier *carrier,
                size_t first, size_t step, struct fault *fault)
{
    size_t n = load->n_streams > first ? (load->n_streams - first + step - 1) / step : 0;
    *line = (struct line){.load = load, .options = options, .carrier = carrier, .first = first, .step = step, .n_streams = n};
    line->stream = calloc(n + 1, sizeof *line->stream);
    line->lane = calloc(n * load->shape.n_layers + 1, sizeof *line->lane);
    line->flight = calloc(load->in_flight, sizeof *line->flight);
    bool ok = line->stream && line->lane && line->flight;
    for (size_t i = 0; ok && i < load->in_flight; i++) {
        struct flight *f = &line->flight[i];
        f->stream = calloc(load->n_parts, sizeof *f->stream);
        f->first = calloc(load->n_parts, sizeof *f->first);
        f->part = calloc(load->n_parts, sizeof *f->part);
        f->task = calloc(load->n_parts, sizeof(struct part *));
        ok = f->stream && f->first && f->part && f->task;
    }
    return ok ? 0 : fault_set(fault, ERR_NO_MEMORY, "no memory for %zu streams", n);
}

void line_destroy(struct line *line)
{
    for (size_t i = 0; line->stream && i < line->n_streams; i++)
        attnd_forget(&line->stream[i]);
    for (size_t i = 0; line->flight && i < line->load->in_flight; i++) {
        struct flight *f = &line->flight[i];
        for (size_t p = 0; f->task && p < line->load->n_parts; p++)
            part_destroy(f->task[p]);
        free(f->stream);
        free(f->first);
        free(f->part);
        free(f->task);
        free(f->out);
    }
    free(line->stream);
    free(line->lane);
    free(line->flight);
    *line = (struct line){0};
}

int line_open_stream(struct line *line, size_t i, bool resume, struct fault *fault)
{
    char name[CONTROL_NAME_BYTES + 32];
    snprintf(name, sizeof name, "%.63s-%zu", line->options->prefix, line_number(line, i));
    return line->carrier->ops->open(line->carrier, name, &line->load->shape, line->load->profile, resume, &line->stream[i],
                                    fault);
}

int line_open(struct line *line, struct fault *fault)
{
    int err = 0;
    for (size_t i = 0; i < line->n_streams && !err; i++) {
        err = line_open_stream(line, i, line->options->resume, fault);
        if (!err && line->options->resume)
            err = line->carrier->ops->confirm(line->carrier, &line->stream[i], fault);
        for (uint32_t l = 0; l < line->load->shape.n_layers && !err; l++) {
            struct lane *lane = line_lane(line, i, l);
            lane->start = lane->answered = lane->sent = line->stream[i].next[l];
            if (lane->start > line->load->n_tokens)
                err = fault_set(fault, ERR_WRONG_INDEX, "stream %.63s-%zu holds %llu tokens, and the load has %llu",
                                line->options->prefix, line_number(line, i), (unsigned long long)lane->start,
                                (unsigned long long)line->load->n_tokens);
        }
    }
    return err;
}

/* Every stream is closed, whatever becomes of the others; the first fault is told. */
int line_close(struct line *line, bool keep, struct fault *fault)
{
    struct fault why;
    int err = 0;
    for (size_t i = 0; i < line->n_streams; i++) {
        uint64_t most = 0;
        struct control_close last;
        if (keep || !line->stream[i].shape) {
            attnd_forget(&line->stream[i]);
            continue;
        }
        for (uint32_t l = 0; l < line->load->shape.n_layers; l++)
            most = line_lane(line, i, l)->answered > most ? line_lane(line, i, l)->answered : most;
        int failed = line->carrier->ops->close(line->carrier, &line->stream[i], &last, &why);
        if (!failed && last.tokens != most)
            failed = fault_set(
                &why, ERR_WRONG_INDEX, "stream %.63s-%zu held %llu tokens at its end, and %llu were acknowledged",
                line->options->prefix, line_number(line, i), (unsigned long long)last.tokens, (unsigned long long)most);
        keep = keep || failed == ERR_TIMEOUT; /* nobody answers */
        if (failed && !err) {
            err = failed;
            if (fault)
                *fault = why;
        }
    }
    return err;
}

void line_tokens(const struct line *line, uint64_t *sent, uint64_t *answered)
{
    *sent = *answered = 0;
    for (size_t i = 0; i < line->n_streams; i++) {
        uint64_t s = UINT64_MAX, a = UINT64_MAX;
        for (uint32_t l = 0; l < line->load->shape.n_layers; l++) {
            const struct lane *lane = line_lane(line, i, l);
            s = lane->sent - lane->start < s ? lane->sent - lane->start : s;
            a = lane->answered > lane->start ? (lane->answered - lane->start < a ? lane->answered - lane->start : a) : 0;
        }
        *sent += s;
        *answered += a;
    }
}

static bool stopped(const struct line *line)
{
    return command_interrupted() || (line->options->stop && atomic_load(line->options->stop));
}

int line_run(struct line *line, uint64_t limit, double rate, struct fault *fault)
{
    int err = 0;
    line->limit = limit;
    line->rate = rate;
    line->latency = (struct latency){0};
    line->begin = line->end = line->last_heard = line->next_due = clock_seconds();
    if (rate > 0) /* lines take turns */
        line->next_due += (double)line->first / (double)line->step / rate;
    for (;;) {
        struct fault why = {0};
        enum line_wait wait = LINE_FOR_NOTHING;
        if (!stopped(line))
            err = line_send(line, &wait, &why);
        if (!err && wait == LINE_FOR_NOTHING && line->sent == line->landed)
            return 0;
        if (!err)
            err = line_receive(line, wait, &why);
        if (!err && line->lost)
            err = fault_set(&why, ERR_NOT_OWNER, "a stream is written by another connection, or not known any more");
        if (line->lost || err == ERR_TIMEOUT || err == ERR_IO)
            err = line_renew(line, &why);
        if (err) {
            if (fault)
                *fault = why;
            return err;
        }
    }
}
