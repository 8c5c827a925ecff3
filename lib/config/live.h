/* Live: what of a configuration cannot change while the daemon runs: its sockets, and what sizes them and its tables. One list. */
#ifndef ATTND_CONFIG_LIVE_H
#define ATTND_CONFIG_LIVE_H

#include "config/config.h"

/* Copies what is fixed. */
void config_keep_fixed(struct config *to, const struct config *running);

/* ERR_INVALID with the key of the first fixed value that differs. */
int config_check_fixed(const struct config *running, const struct config *asked, struct fault *fault);

#endif
