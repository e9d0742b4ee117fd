/* rope: rotation angles of a model, with its scaling. Immutable after init. */
#ifndef TANDEM_ENGINE_ROPE_H
#define TANDEM_ENGINE_ROPE_H

#include "model/hparams.h"

struct rope {
    uint32_t n_rot;
    double *freq;  /* [n_rot / 2]: angle of pair i at position p is p * freq[i] */
    double mscale; /* cos and sin are multiplied by this (YaRN) */
};

/* factors: [n_rot / 2] divisors of the frequencies (rope_freqs.weight), or NULL. */
void rope_init(struct rope *r, const struct hparams *hp, const float *factors);
void rope_fini(struct rope *r);

/* cs[n_rot]: cos and sin of each pair at position pos, interleaved. */
void rope_row(const struct rope *r, float *cs, uint32_t pos);

#endif
