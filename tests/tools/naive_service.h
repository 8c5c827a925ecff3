/* A test double of tools/service.h: attention by its definition, in float64, over everything that was appended. */
#ifndef ATTND_TESTS_TOOLS_NAIVE_SERVICE_H
#define ATTND_TESTS_TOOLS_NAIVE_SERVICE_H

#include "tools/service.h"

/* Fails the test when memory runs out. Release with service_destroy. tokens_max: of one step. */
struct attention_service *naive_service(uint64_t tokens_max);

/* Steps that were asked of it since it was made. */
size_t naive_steps(const struct attention_service *service);

#endif
