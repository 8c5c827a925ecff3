/* Scene: a daemon, a raw connection, and streams with tokens in them, whose state can be compared bit by bit. */
#ifndef ATTND_TESTS_E2E_SCENE_H
#define ATTND_TESTS_E2E_SCENE_H

#include "tests/e2e/raw.h"

enum { SCENE_HELD = 10, SCENE_TOKENS = 600 }; /* tokens appended at first; tokens there are */

struct scene {
    struct house house;
    struct raw raw;
    struct shape shape;
    struct tokens tokens; /* of layer 0 */
    uint64_t stream;
    struct raw_reply before; /* what queries see */
};

/* yaml: as house_open. The stream has one softmax layer, or a tensor one, and holds SCENE_HELD tokens. */
bool scene_open(struct scene *scene, const char *yaml, enum attention_kind kind, const char *profile);
void scene_close(struct scene *scene);

/* Sends one part of the scene's tokens and receives the reply; returns its error. */
int scene_step(struct scene *scene, struct raw_reply *reply, uint64_t first, size_t n, unsigned flags, uint64_t confirmed);
/* The same where the reply is of no interest. */
int scene_send(struct scene *scene, uint64_t first, size_t n, unsigned flags, uint64_t confirmed);

/* Whether queries see to the bit what they saw when `held` tokens were held. */
bool scene_unchanged(struct scene *scene, uint64_t held);
/* Takes the present state as the one to compare with. */
void scene_remember(struct scene *scene, uint64_t held);

#endif
