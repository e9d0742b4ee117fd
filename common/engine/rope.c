#include "engine/rope.h"

#include <math.h>

#include "base/check.h"
#include "base/mem.h"

/* YaRN (Peng et al. 2023, "YaRN: Efficient Context Window Extension", section 3.2): the index of the
 * pair that makes `turns` turns over the original context, as a real number. */
static double yarn_pair(const struct hparams *hp, double turns)
{
    return hp->n_rot * log(hp->rope_ctx_orig / (turns * 2 * M_PI)) / (2 * log((double)hp->rope_base));
}

/* How far pair i is extrapolated (1: unscaled, high frequency) rather than interpolated (0). */
static double yarn_ramp(const struct hparams *hp, uint32_t i)
{
    double low = fmax(0, floor(yarn_pair(hp, (double)hp->yarn_beta_fast)));
    double high = fmin(hp->n_rot - 1, ceil(yarn_pair(hp, (double)hp->yarn_beta_slow)));
    double y = (i - low) / fmax(0.001, high - low);

    return (1 - fmin(1, fmax(0, y))) * (double)hp->yarn_ext_factor;
}

void rope_init(struct rope *r, const struct hparams *hp, const float *factors)
{
    double scale = hp->rope_scaling == ROPE_NONE ? 1 : 1 / (double)hp->rope_factor;

    ASSERT(hp->n_rot % 2 == 0);
    r->n_rot = hp->n_rot;
    r->freq = mem_calloc(hp->n_rot / 2, sizeof(*r->freq));
    r->mscale = 1;
    for (uint32_t i = 0; i < hp->n_rot / 2; i++) {
        double f = pow((double)hp->rope_base, -2.0 * i / hp->n_rot);

        if (factors)
            f /= (double)factors[i];
        if (hp->rope_scaling == ROPE_YARN) {
            double mix = yarn_ramp(hp, i);

            r->freq[i] = f * scale * (1 - mix) + f * mix;
        } else {
            r->freq[i] = f * scale;
        }
    }
    if (hp->rope_scaling == ROPE_YARN) {
        r->mscale = (double)hp->yarn_attn_factor;
        if (hp->yarn_ext_factor != 0)
            r->mscale *= 1 + 0.1 * log((double)hp->rope_factor);
    }
}

void rope_fini(struct rope *r)
{
    mem_free(r->freq);
    *r = (struct rope){0};
}

void rope_row(const struct rope *r, float *cs, uint32_t pos)
{
    for (uint32_t i = 0; i < r->n_rot / 2; i++) {
        double angle = pos * r->freq[i];

        cs[2 * i] = (float)(cos(angle) * r->mscale);
        cs[2 * i + 1] = (float)(sin(angle) * r->mscale);
    }
}
