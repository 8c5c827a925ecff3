/* Rewriting a configuration: the `pools` section of a YAML file replaced, everything else byte for byte. */
#ifndef ATTND_TOOLS_TUNE_REWRITE_H
#define ATTND_TOOLS_TUNE_REWRITE_H

#include "base/err.h"

/* text with `pools` (whole lines) where its own section was, or at the end; malloc'd in *out. name: what errors call text. */
int rewrite_pools(char **out, const char *name, const char *text, const char *pools, struct fault *fault);

#endif
