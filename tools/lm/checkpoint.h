/* The tensors of a model folder: model.safetensors, or the shards that model.safetensors.index.json lists.
 * Every tensor is taken once, with the shape that the model needs; what nobody took is an error, since a weight that is silently
 * left out gives wrong numbers.
 * Threads: one. Ownership: taken arrays are the caller's to free; the files are closed by checkpoint_close. */
#ifndef ATTND_TOOLS_LM_CHECKPOINT_H
#define ATTND_TOOLS_LM_CHECKPOINT_H

#include "base/err.h"
#include <stdbool.h>

struct checkpoint;

int checkpoint_open(struct checkpoint **out, const char *folder, struct fault *fault);
void checkpoint_close(struct checkpoint *c); /* NULL is allowed */

/* The tensor of this name as f32: shape (rows, columns), or (columns) where rows is 0. ERR_NOT_FOUND, ERR_WRONG_SHAPE,
 * ERR_UNSUPPORTED (no floating type). */
int checkpoint_take(struct checkpoint *c, const char *name, size_t rows, size_t columns, float **out, struct fault *fault);

/* Leaves a tensor out on purpose, if it is there. */
void checkpoint_skip(struct checkpoint *c, const char *name);

/* 0 when every tensor was taken or skipped, else ERR_UNSUPPORTED with the name of one that was not. */
int checkpoint_finish(const struct checkpoint *c, struct fault *fault);

#endif
