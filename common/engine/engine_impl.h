/* engine_impl: what engine.c and forward.c share, and nobody else includes. */
#ifndef TANDEM_ENGINE_ENGINE_IMPL_H
#define TANDEM_ENGINE_ENGINE_IMPL_H

#include "engine/engine.h"
#include "engine/model.h"
#include "host/team.h"
#include "kernels/kernels.h"

/* Activation buffers, sized once for rows_max; [row][width] each, 64-byte aligned. */
struct scratch {
    float *x;      /* [rows][n_embd] the residual stream */
    float *xn;     /* [rows][n_embd] normalised */
    float *q;      /* [rows][n_head * d] */
    float *k, *v;  /* [rows][n_head_kv * d] */
    float *att;    /* [rows][n_head * d]; MoE: [rows][n_embd] gathered */
    float *tmp;    /* [rows][n_embd] output of wo and down before it is added to x */
    float *gate, *up; /* [rows][n_ff] */
    float *cs;     /* [rows][n_rot] cos and sin */
    float *logits; /* [rows][n_vocab], allocated for the most rows that wanted logits so far */
    uint32_t logits_rows;
    float *route;  /* MoE: [rows][n_expert] scores, then weights (0: not chosen) */
    float *seg;    /* [threads][seg_width] a segment's o, mx, sum, and mx, sum so far */
    uint32_t seg_width;
    uint32_t block_rows; /* most rows that attention takes together */
    uint32_t *active; /* [rows] batch rows that are still computed */
    struct act act; /* forms of the current matmul's input that the tier asks for; k_pad: of the widest */
};

struct engine {
    struct model model;
    struct kv_layout layout;
    const struct kernels *kern;
    struct team *team;
    struct scratch s;
    uint32_t rows_max, ctx_max;
};

#endif
