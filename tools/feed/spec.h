/* Spec: a synthetic stream in one word: KIND,tokens=N,key_dim=D,heads=H,kv_heads=G,... */
#ifndef ATTND_TOOLS_FEED_SPEC_H
#define ATTND_TOOLS_FEED_SPEC_H

#include "tools/feed/synthetic.h"

struct spec {
    struct shape shape;         /* all but the element */
    struct synthetic synthetic; /* all but seed and period */
    uint64_t n_tokens;
};

/* COMMAND_GO_ON, or COMMAND_USAGE after the key that is wrong was named. */
int spec_read(struct spec *spec, const char *who, const char *text);

#endif
