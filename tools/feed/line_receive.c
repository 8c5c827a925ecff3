/* Answers: what they do to their streams, and how long they are waited for. */
#include "base/clock.h"
#include "tools/feed/line_steps.h"

#include <math.h>
#include <sched.h>

static const double hold_least = 1e-3, hold_most = 64e-3, look_seconds = 0.2, sleep_grain = 1.2e-3; /* seconds */

/* Unanswered messages that are looked at for later ones that are answered. */
enum { AHEAD_MAX = 64 };

static void refused_busy(struct line *line)
{
    line->busy++;
    line->hold = line->hold > 0 ? fmin(2 * line->hold, hold_most) : hold_least;
    line->hold_until = clock_seconds() + line->hold;
}

static void applied(struct line *line, struct lane *lane, uint64_t end)
{
    if (end > lane->answered) {
        atomic_fetch_add(&line->progress, end - lane->answered);
        lane->answered = end;
    }
    line->hold = line->hold_until = 0;
}

static int land_part(struct line *line, const struct flight *f, size_t i, struct fault *fault)
{
    const struct attnd_part *part = &f->part[i];
    struct lane *lane = line_lane(line, f->stream[i], f->layer);
    int err = part->fault.err;
    bool behind = err == ERR_WRONG_INDEX && lane->stalled; /* what was sent behind a refused part is refused as well */
    lane->in_flight--;
    if (err == 0) {
        applied(line, lane, f->first[i] + part->n_tokens);
        if (line->options->sink && part->out)
            line->options->sink(line->options->sink_context, line_number(line, f->stream[i]), f->layer, f->first[i],
                                part->n_tokens, part->out);
    } else if (err == ERR_NOT_KEPT) { /* applied, but its outputs are gone */
        applied(line, lane, f->first[i] + part->n_tokens);
        lane->stalled = true;
    } else if (err == ERR_BUSY || behind) {
        if (err == ERR_BUSY)
            refused_busy(line);
        lane->stalled = true;
    } else if (err == ERR_NOT_OWNER || err == ERR_UNKNOWN_STREAM || err == ERR_CLOSING) {
        line->lost = true;
        lane->stalled = true;
    } else {
        return fault_set(fault, err, "stream %.63s-%zu, layer %u, token %llu: %.120s", line->options->prefix,
                         line_number(line, f->stream[i]), f->layer, (unsigned long long)f->first[i], part->fault.text);
    }
    if (lane->in_flight == 0 && lane->stalled) {
        uint64_t *next = &line->stream[f->stream[i]].next[f->layer];
        *next = *next > lane->answered ? *next : lane->answered;
        lane->stalled = false;
    }
    return 0;
}

static int land(struct line *line, struct flight *f, struct fault *fault)
{
    bool applied_any = false;
    line->end = line->last_heard = clock_seconds();
    f->used = false;
    int err = line->carrier->ops->take(line->carrier, f, fault);
    for (size_t p = 0; p < f->n && !err; p++) {
        applied_any = applied_any || f->part[p].fault.err == 0;
        err = land_part(line, f, p, fault);
    }
    if (applied_any)
        latency_add(&line->latency, line->end - f->begun);
    return err;
}

/* Takes everything that is answered. Answers of one stream come in order, those of different streams may not. */
static int take_answers(struct line *line, struct fault *fault)
{
    size_t depth = line->load->in_flight, waiting = 0;
    int err = 0;
    for (uint64_t i = line->landed; i < line->sent && waiting < AHEAD_MAX && !err; i++) {
        struct flight *f = &line->flight[i % depth];
        if (f->used && line->carrier->ops->answered(line->carrier, f))
            err = land(line, f, fault);
        else
            waiting += f->used;
    }
    while (line->landed < line->sent && !line->flight[line->landed % depth].used)
        line->landed++;
    return err;
}

/* Sleeps are right to a millisecond only, so the rest of the way to a message that is due is spent looking. */
int line_receive(struct line *line, enum line_wait wait, struct fault *fault)
{
    double now = clock_seconds(), left = look_seconds;
    if (wait == LINE_FOR_TIME)
        left = fmin(left, fmax(line->hold_until, line->rate > 0 ? line->next_due : 0) - now);
    if (left < sleep_grain)
        sched_yield();
    int err = line->carrier->ops->receive(line->carrier, left < sleep_grain ? 0 : left - sleep_grain, fault);
    bool silent = line->sent != line->landed && clock_seconds() - line->last_heard > line->options->timeout;
    if (err == ERR_TIMEOUT && !silent)
        err = 0;
    return err ? err : take_answers(line, fault);
}
