/* sample: logits -> token. Pure: the draw of index i depends on (seed, i) alone, so that a stream
 * continues with the same tokens on another node. */
#ifndef TANDEM_ENGINE_SAMPLE_H
#define TANDEM_ENGINE_SAMPLE_H

#include <stdint.h>

struct sample_params {
    float temperature; /* 0: greedy */
    float top_p;       /* 1: off */
    uint32_t top_k;    /* 0: off */
    uint64_t seed;
};

/* A candidate; scratch for sample_token holds n_vocab of them. */
struct sample_item {
    float logit;
    uint32_t id;
};

/* The largest logit, the lowest id on a tie, when temperature is 0. Otherwise: keep the top_k
 * largest, softmax of logit / temperature, keep the smallest set of largest probabilities whose sum
 * reaches top_p, draw with rng_f64(seed, index). Order of ties: lower id first. NaN logits count as
 * -infinity. */
uint32_t sample_token(const float *logits, uint32_t n_vocab, const struct sample_params *p,
                      uint32_t index, struct sample_item *scratch);

#endif
