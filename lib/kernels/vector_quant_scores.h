/* score of quantised keys, by the names that tables.h declares: include after vector_quant_keys.h or vnni_keys.h, with VECTOR_PREFIX
 * defined, what the names begin with. */
#include "kernels/tables.h"

INLINE void score_quant(enum storage_id id, const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n,
                        float *s, size_t lds)
{
    struct quant_queries queries;
    float factor[SHAPE_DIM_MAX];
    size_t panel_bytes = PANEL * quant_key_bytes(id, d), n_panels = (n + PANEL - 1) / PANEL;
    size_t scales_at = quant_code_units(id, d) * PANEL * 4, m;
    if (quant_rotates(id))
        rotate_factors(d, factor);
    for (; n_q; n_q -= m, q += m * d, s += m * lds) { /* four, or one: each size is code for each type */
        m = n_q >= QUANT_QUERIES ? QUANT_QUERIES : 1;
        for (size_t i = 0; i < m; i++)
            quant_query(id, q + i * d, d, factor, i, &queries);
        const char *panel = (const char *)keys + row / PANEL * panel_bytes;
        for (size_t i = 0; i < n_panels; i++, panel += panel_bytes) {
            if (m == 1)
                score_panel(id, 1, &queries, d, panel, panel + scales_at, s + i * PANEL, lds);
            else
                score_panel(id, QUANT_QUERIES, &queries, d, panel, panel + scales_at, s + i * PANEL, lds);
        }
    }
}

#define SCORE_OF(id, x)                                                                                                        \
    TARGET void SLOT(score_##x)(const float *q, size_t n_q, size_t d, const void *keys, size_t row, size_t n, float *s,        \
                                size_t lds)                                                                                    \
    {                                                                                                                          \
        score_quant(id, q, n_q, d, keys, row, n, s, lds);                                                                      \
    }
SCORE_OF(STORAGE_Q8_0, q8_0)
SCORE_OF(STORAGE_Q4_0, q4_0)
SCORE_OF(STORAGE_Q4_0H, q4_0h)
SCORE_OF(STORAGE_ROT8, rot8)
SCORE_OF(STORAGE_ROT4, rot4)
SCORE_OF(STORAGE_ROT3, rot3)
SCORE_OF(STORAGE_ROT2, rot2)
#undef SCORE_OF
