#include "daemon/replies.h"

#include <stdlib.h>
#include <string.h>

bool replies_keep(struct replies *replies, uint64_t first, uint64_t n, struct buffer *buffer, size_t out_at, size_t lse_at)
{
    struct reply *reply = malloc(sizeof *reply);
    if (!reply)
        return false;
    *reply = (struct reply){.first = first, .n = n, .buffer = buffer_share(buffer), .out_at = out_at, .lse_at = lse_at};
    if (replies->last)
        replies->last->next = reply;
    else
        replies->first = reply;
    replies->last = reply;
    return true;
}

uint64_t replies_drop_oldest(struct replies *replies)
{
    struct reply *reply = replies->first;
    if (!reply)
        return 0;
    uint64_t n = reply->n;
    replies->first = reply->next;
    if (!replies->first)
        replies->last = NULL;
    buffer_release(reply->buffer);
    free(reply);
    return n;
}

uint64_t replies_confirm(struct replies *replies, uint64_t confirmed)
{
    uint64_t n = 0;
    while (replies->first && replies->first->first + replies->first->n <= confirmed)
        n += replies_drop_oldest(replies);
    return n;
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
