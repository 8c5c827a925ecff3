#include "daemon/replies.h"

#include <stdlib.h>
#include <string.h>

size_t replies_keep(struct replies *replies, uint64_t first, uint64_t n, struct buffer *buffer, size_t out_at, size_t n_out,
                    size_t lse_at, size_t n_lse)
{
    struct reply *reply = malloc(sizeof *reply);
    bool share = n_out + n_lse == buffer->n;
    struct buffer *held = !reply ? NULL : share ? buffer_share(buffer) : buffer_create(buffer->shelf, n_out + n_lse);
    if (!held) {
        free(reply);
        return 0;
    }
    *reply = (struct reply){.first = first, .n = n, .buffer = held, .out_at = out_at, .lse_at = n_lse ? lse_at : SIZE_MAX};
    if (!share) {
        memcpy(held->data, buffer->data + out_at, n_out * sizeof(float));
        memcpy(held->data + n_out, buffer->data + lse_at, n_lse * sizeof(float));
        reply->out_at = 0;
        reply->lse_at = n_lse ? n_out : SIZE_MAX;
    }
    reply->bytes = held->n * sizeof(float);
    if (replies->last)
        replies->last->next = reply;
    else
        replies->first = reply;
    replies->last = reply;
    return reply->bytes;
}

size_t replies_drop_oldest(struct replies *replies)
{
    struct reply *reply = replies->first;
    if (!reply)
        return 0;
    size_t bytes = reply->bytes;
    replies->first = reply->next;
    if (!replies->first)
        replies->last = NULL;
    buffer_release(reply->buffer);
    free(reply);
    return bytes;
}

size_t replies_confirm(struct replies *replies, uint64_t confirmed)
{
    size_t bytes = 0;
    while (replies->first && replies->first->first + replies->first->n <= confirmed)
        bytes += replies_drop_oldest(replies);
    return bytes;
}

bool replies_copy(const struct replies *replies, uint64_t first, uint64_t n, size_t out_width, float *out, size_t lse_width,
                  float *lse)
{
    uint64_t at = first, end = first + n;
    for (const struct reply *r = replies->first; r && at < end; r = r->next) {
        if (at < r->first)
            return false; /* a hole: those tokens were appended without attending */
        if (at >= r->first + r->n)
            continue;
        if (lse && r->lse_at == SIZE_MAX)
            return false;
        uint64_t skip = at - r->first, take = r->n - skip < end - at ? r->n - skip : end - at;
        memcpy(out + (at - first) * out_width, r->buffer->data + r->out_at + skip * out_width, take * out_width * sizeof *out);
        if (lse)
            memcpy(lse + (at - first) * lse_width, r->buffer->data + r->lse_at + skip * lse_width,
                   take * lse_width * sizeof *lse);
        at += take;
    }
    return at == end;
}
