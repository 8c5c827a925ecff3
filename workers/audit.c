#include "workers/audit.h"

#include <math.h>

bool audit_picks(double share, size_t i)
{
    return floor((double)(i + 1) * share) > floor((double)i * share);
}

static struct policy full_bf16(void)
{
    return (struct policy){
        .ops = cache_find("full"), .key_storage = &storage_table[STORAGE_BF16], .value_storage = &storage_table[STORAGE_BF16]};
}

int audit_create(struct audit *audit, const struct cache_dims *dims, const struct kernels *kernels)
{
    const struct policy policy = full_bf16();
    return policy.ops->create(&audit->full, dims, &policy, kernels);
}

void audit_destroy(struct audit *audit)
{
    if (audit->full)
        audit->full->ops->destroy(audit->full);
    audit->full = NULL;
}

size_t audit_bytes(const struct audit *audit)
{
    return audit->full ? atomic_load(&audit->full->account.allocated) : 0;
}

size_t audit_worst_bytes(const struct cache_dims *dims, uint64_t n_tokens)
{
    const struct policy policy = full_bf16();
    return policy.ops->worst_bytes(&policy, dims, n_tokens);
}

int audit_append(struct audit *audit, const struct token_run *run)
{
    size_t most = audit->full->ops->run_max(audit->full);
    return run->n <= most ? audit->full->ops->append(audit->full, run)
                          : ERR_UNSUPPORTED; /* full takes any run that others take */
}

/* |out - full| / |full| of one query; negative where it says nothing (full is 0). */
static double relative_error(const float *out, const float *full, size_t e)
{
    double error = 0, norm = 0;
    for (size_t c = 0; c < e; c++) {
        double difference = (double)out[c] - (double)full[c];
        error += difference * difference;
        norm += (double)full[c] * (double)full[c];
    }
    return norm > 0 ? sqrt(error / norm) : -1;
}

int audit_compare(struct worker *worker, const struct audit *audit, const struct attend *attend, struct histogram *profile,
                  struct histogram *stream)
{
    struct attend full = *attend;
    full.compute = COMPUTE_F32;
    size_t width = attend->group * attend->e;
    full.out = scratch_get(&worker->audit, attend->n_tokens * width * sizeof *full.out);
    full.out_stride = width;
    full.lse = NULL;
    if (!full.out)
        return ERR_NO_MEMORY;
    full.n_views = audit->full->ops->view(audit->full, attend->first_token, attend->q, full.view);
    int err = pool_attend(worker, &full);
    for (size_t t = 0; t < attend->n_tokens && !err; t++)
        for (size_t g = 0; g < attend->group; g++) {
            double error = relative_error(attend->out + t * attend->out_stride + g * attend->e,
                                          full.out + t * width + g * attend->e, attend->e);
            if (error < 0)
                continue;
            histogram_add(profile, (uint64_t)(error * 1e9));
            histogram_add(stream, (uint64_t)(error * 1e9));
        }
    return err;
}
