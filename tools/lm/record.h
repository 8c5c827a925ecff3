/* A service that notes what attention is asked on the way to another service, which answers; what it noted is written as a trace
 * (tools/eval/trace.h reads it).
 *
 *     struct attention_service *record;
 *     lm_record_create(&record, service, "tensor", &fault);       service is borrowed, and must live longer
 *     ... one stream through record, open to close; what later ones ask is passed on and not noted ...
 *     lm_record_write(record, "trace.safetensors", ELEMENT_F32, &fault);
 *     service_destroy(record);
 *
 * The layers of one kind are noted, numbered anew from 0, since a trace's metadata names one kind. Under a profile that keeps less
 * than everything later layers are asked what they make of earlier answers: a trace to judge caches on is one of `full`.
 * Threads: as every service. Memory: q, k, v of the layers noted, as f32. */
#ifndef ATTND_TOOLS_LM_RECORD_H
#define ATTND_TOOLS_LM_RECORD_H

#include "tools/service.h"

/* kind: "softmax", "tensor", or NULL: softmax where the stream has such layers, else tensor. Opening a stream without layers of
 * the kind is refused: ERR_INVALID. */
int lm_record_create(struct attention_service **out, struct attention_service *service, const char *kind, struct fault *fault);

/* 0, or ERR_IO with the reason: whether path can be written, to be asked before hours are spent on what it shall hold. */
int lm_record_check_path(const char *path, struct fault *fault);

/* element: ELEMENT_F32 or ELEMENT_BF16. ERR_INVALID when no stream was noted from open to close. */
int lm_record_write(const struct attention_service *record, const char *path, enum element element, struct fault *fault);

#endif
