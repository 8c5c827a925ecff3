#include "attention/plan.h"

static size_t segment_pieces(const struct segment *seg, size_t chunk)
{
    return seg->n ? (size_t)((seg->first + seg->n - 1) / chunk - seg->first / chunk) + 1 : 0;
}

size_t view_pieces(const struct view *view, size_t chunk, size_t *per_segment)
{
    size_t n = 0;
    *per_segment = view->n_seg ? segment_pieces(&view->seg[0], chunk) : 0;
    for (size_t i = 0; i < view->n_seg; i++) {
        size_t pieces = segment_pieces(&view->seg[i], chunk);
        if (pieces != *per_segment && (i + 1 < view->n_seg || pieces > *per_segment))
            *per_segment = 0;
        n += pieces;
    }
    return n;
}

struct segment view_piece(const struct view *view, size_t chunk, size_t per_segment, size_t index)
{
    const struct segment *seg = view->seg;
    if (per_segment) {
        seg += index / per_segment;
        index %= per_segment;
    }
    for (size_t n; index >= (n = segment_pieces(seg, chunk)); seg++)
        index -= n;
    uint64_t end = seg->first + seg->n, from = (seg->first / chunk + index) * chunk, to = from + chunk;
    from = from > seg->first ? from : seg->first;
    to = to < end ? to : end;
    struct segment piece = *seg;
    piece.row += (size_t)(from - seg->first);
    piece.n = (size_t)(to - from);
    piece.first = from;
    return piece;
}

void segment_visible(const struct segment *seg, uint64_t token, size_t *lo, size_t *hi)
{
    size_t from = 0, to = seg->n;
    if (seg->span) {
        uint64_t end = seg->first + seg->n; /* absolute, as begin */
        if (token < seg->first)
            to = 0;
        else if (token + 1 < end)
            to = (size_t)(token + 1 - seg->first);
        if (seg->span <= token && token - seg->span >= seg->first) { /* the oldest row seen is token - span + 1 */
            uint64_t begin = token - seg->span + 1;
            from = begin < end ? (size_t)(begin - seg->first) : seg->n;
        }
    }
    *lo = seg->row + min_size(from, to);
    *hi = seg->row + to;
}

bool segment_has_one_weight(const struct segment *seg)
{
    return seg->values && seg->log_den == seg->log_num;
}

bool view_has_one_weight(const struct view *view)
{
    for (size_t i = 0; i < view->n_seg; i++)
        if (!segment_has_one_weight(&view->seg[i]))
            return false;
    return true;
}

float *carve(struct carve *c, size_t n)
{
    float *at = c->at ? c->at + c->floats : NULL;
    c->floats += round_up(n, CACHE_LINE_FLOATS);
    return at;
}
