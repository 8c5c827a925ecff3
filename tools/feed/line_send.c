/* Messages on their way out: which comes next, and whether it may leave yet. */
#include "base/clock.h"
#include "tools/feed/line_steps.h"

#include <stdlib.h>

/* Groups of streams times layers. */
static size_t n_pairs(const struct line *line)
{
    return (line->n_streams + line->load->n_parts - 1) / line->load->n_parts * line->load->shape.n_layers;
}

static void add_part(struct line *line, struct flight *f, size_t stream, uint64_t first, uint64_t end)
{
    const struct source *source = &line->load->source;
    const struct shape *shape = &line->load->shape;
    size_t number = line_number(line, stream), tensors = source_tensors(shape, f->layer);
    struct attnd_part *part = &f->part[f->n];
    *part = (struct attnd_part){.stream = &line->stream[stream], .n_tokens = (uint32_t)(end - first), .flags = WIRE_APPEND};
    part->flags |= first < line->load->warm_up ? WIRE_OBSERVE : WIRE_ATTEND;
    part->q = source_at(source, number, f->layer, 0, first);
    for (size_t i = 0; 1 + 2 * i < tensors; i++) {
        part->key[i] = source_at(source, number, f->layer, 1 + 2 * i, first);
        part->value[i] = source_at(source, number, f->layer, 2 + 2 * i, first);
    }
    f->stream[f->n] = stream;
    f->first[f->n++] = first;
}

/* The next batches of one layer of a group. */
static void gather(struct line *line, struct flight *f, size_t group, uint32_t layer)
{
    const struct load *load = line->load;
    size_t begin = group * load->n_parts,
           end = begin + load->n_parts < line->n_streams ? begin + load->n_parts : line->n_streams;
    f->layer = layer;
    f->n = 0;
    for (size_t s = begin; s < end; s++) {
        uint64_t next = line->stream[s].next[layer];
        if (next < line->limit && !line_lane(line, s, layer)->stalled)
            add_part(line, f, s, next, load_cut(load, line_number(line, s), next));
    }
}

/* Gives the parts room for their outputs. */
static int make_room(const struct line *line, struct flight *f, struct fault *fault)
{
    size_t numbers = line->load->shape.heads * line->load->shape.value_dim, n = 0;
    for (size_t i = 0; i < f->n; i++)
        n += f->part[i].flags & WIRE_ATTEND ? f->part[i].n_tokens * numbers : 0;
    if (n == 0)
        return 0;
    if (n > f->n_floats) {
        free(f->out);
        f->out = malloc(n * sizeof *f->out);
        f->n_floats = f->out ? n : 0;
    }
    if (!f->out)
        return fault_set(fault, ERR_NO_MEMORY, "no memory for the outputs of a message");
    float *at = f->out;
    for (size_t i = 0; i < f->n; i++)
        if (f->part[i].flags & WIRE_ATTEND) {
            f->part[i].out = at;
            at += f->part[i].n_tokens * numbers;
        }
    return 0;
}

/* Marks the parts as on their way, and counts what was on its way before. Returns tokens that leave for the first time. */
static uint64_t note_sent(struct line *line, const struct flight *f)
{
    uint64_t fresh = 0;
    for (size_t i = 0; i < f->n; i++) {
        struct lane *lane = line_lane(line, f->stream[i], f->layer);
        uint64_t end = f->first[i] + f->part[i].n_tokens, again = lane->sent > f->first[i] ? lane->sent - f->first[i] : 0;
        again = again < f->part[i].n_tokens ? again : f->part[i].n_tokens;
        lane->sent = end > lane->sent ? end : lane->sent;
        lane->in_flight++;
        line->resent += again;
        fresh += f->part[i].n_tokens - again;
    }
    return fresh;
}

static int launch(struct line *line, struct flight *f, double now, struct fault *fault)
{
    int err = make_room(line, f, fault);
    if (!err)
        err = line->carrier->ops->send(line->carrier, f, fault);
    if (err)
        return err;
    if (line->sent == line->landed)
        line->last_heard = now;
    f->used = true;
    f->begun = line->rate > 0 ? line->next_due : now;
    line->sent++;
    uint64_t fresh = note_sent(line, f);
    if (line->rate > 0)
        line->next_due += (double)fresh / (double)line->load->shape.n_layers / line->rate;
    return 0;
}

int line_send(struct line *line, enum line_wait *wait, struct fault *fault)
{
    const struct load *load = line->load;
    size_t pairs = n_pairs(line);
    for (;;) {
        double now = clock_seconds();
        struct flight *f = &line->flight[line->sent % load->in_flight];
        *wait = LINE_FOR_ANSWER;
        if (line->sent - line->landed == load->in_flight)
            return 0;
        *wait = LINE_FOR_TIME;
        if (now < line->hold_until || (line->rate > 0 && now < line->next_due))
            return 0;
        size_t tries = 0, cursor = line->cursor;
        for (f->n = 0; f->n == 0 && tries < pairs; tries++, cursor = (cursor + 1) % pairs)
            gather(line, f, cursor / load->shape.n_layers, (uint32_t)(cursor % load->shape.n_layers));
        *wait = LINE_FOR_NOTHING;
        if (f->n == 0)
            return 0;
        line->cursor = cursor;
        int err = launch(line, f, now, fault);
        if (err)
            return err;
    }
}
