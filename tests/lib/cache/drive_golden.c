/* Tokens from golden files. */
#include "io/safetensors.h"
#include "tests/lib/cache/drive.h"
#include "tests/test.h"

#include <stdlib.h>

static float *numbers(const struct safetensors *file, const char *name)
{
    float *x = NULL;
    const struct tensor *t = safetensors_find(file, name);
    CU_ASSERT_PTR_NOT_NULL_FATAL(t);
    CU_ASSERT_EQUAL_FATAL(tensor_to_f32(t, &x, NULL), 0);
    return x;
}

void tokens_golden(struct tokens *t, enum attention_kind kind, const char *path)
{
    static const char *const names[N_ATTENTION][4] = {{"k", "v", NULL, NULL}, {"k1", "v1", "k2", "v2"}};
    struct safetensors *file = NULL;
    CU_ASSERT_EQUAL_FATAL(safetensors_open(&file, path, NULL), 0);
    const struct tensor *q = safetensors_find(file, "q"), *v = safetensors_find(file, names[kind][1]);
    *t = (struct tokens){.kind = kind, .n = q->dim[0], .group = 1, .d = q->dim[1], .e = v->dim[1]};
    t->scale = strtof(safetensors_metadata(file, "scale"), NULL);
    t->q = numbers(file, "q");
    for (size_t i = 0; i < t->n * t->d; i++)
        t->q[i] *= t->scale;
    for (size_t s = 0; s < attention_streams(kind); s++) {
        t->key[s] = numbers(file, names[kind][2 * s]);
        t->value[s] = numbers(file, names[kind][2 * s + 1]);
    }
    safetensors_close(file);
}
