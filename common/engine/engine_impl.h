/* engine_impl: what engine.c and forward.c share, and nobody else includes. */
#ifndef TANDEM_ENGINE_ENGINE_IMPL_H
#define TANDEM_ENGINE_ENGINE_IMPL_H

#include <stdatomic.h>

#include "base/str.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "host/team.h"
#include "kernels/kernels.h"

/* Rows of a batch so few that every thread normalises all of them. */
#define FEW_ROWS 4

/* More rows than these are taken through gate, up and silu in parts that stay in L2: so many rows by
 * so many panels, or those of a block of down's input. The stride keeps rows out of each other's sets
 * of a cache. */
#define FFN_MANY 64
#define FFN_ROWS 256
#define FFN_PANELS 4
#define FFN_STRIDE(panels) ((panels) * PANEL_ROWS + 16)
/* Fewer blocks a thread than these would not be shared evenly. */
#define FFN_UNITS 4

/* Query heads of a part of a sequence: those that the matrix unit takes together. */
#define PART_HEADS 32

/* A thread's own buffers. */
struct own {
    float *row; /* one row of the widest input of a matrix */
    float *xn;  /* [FEW_ROWS][n_embd] */
    struct act act; /* of FEW_ROWS rows of n_embd */
    float *gate, *up; /* [FFN_ROWS][FFN_STRIDE(QK_K / PANEL_ROWS)] at most */
};

/* Activation buffers, sized once for rows_max; [row][width] each, 64-byte aligned. What matmuls write,
 * a few columns of many rows at a time, has an odd number of lines a row: with a power of two those
 * columns would fall into few sets of a cache. */
struct scratch {
    float *x;      /* [rows][n_embd] the residual stream */
    float *xn;     /* [rows][n_embd] normalised, where some matrix reads f32 */
    float *q;      /* [rows][q_stride], of them n_head * d */
    float *k, *v;  /* [rows][kv_stride], of them n_head_kv * d */
    float *att;    /* [rows][n_head * d]; MoE: [rows][n_embd] gathered */
    float *tmp;    /* [rows][tmp_stride], of them n_embd: output of wo and down before it is added to x */
    float *gate, *up; /* [rows][n_ff] */
    float *cs;     /* [rows][n_rot] cos and sin */
    float *logits; /* [rows][n_vocab], allocated for the most rows that wanted logits so far */
    uint32_t logits_rows;
    size_t q_stride, kv_stride, tmp_stride;
    float *route;  /* MoE: [rows][n_expert] scores, then weights (0: not chosen) */
    float *seg;    /* [threads][seg_width] a segment's o, mx, sum, and mx, sum so far */
    uint32_t seg_width;
    uint32_t block_rows; /* most rows that attention takes together */
    /* Parts of sequences that threads share: [part_slots][part_width], the o, mx and sum of a segment
     * of up to part_rows rows; and how many segments of a block and kv head are done. */
    float *parts;
    uint32_t part_slots, part_width, part_rows;
    _Atomic uint32_t *parts_done; /* [part_slots] */
    uint32_t *wanted; /* [rows] batch rows that want logits */
    /* Of a pass, by kv head, what of q and KV is there; and panels of k and v of each piece. */
    struct team_gate *heads;
    _Atomic uint32_t *kv_done;
    /* Forms of a matmul's input that the tier asks for: of what is normalised, and of what comes
     * between two matrices, attention's output and silu's. k_pad: of the widest. */
    struct act act, later;
    struct own *own; /* [threads] */
};

struct engine {
    struct model model;
    struct kv_layout layout;
    const struct kernels *kern;
    struct team *team;
    struct scratch s;
    uint32_t rows_max, ctx_max;
    struct str few_rows; /* see engine_few_rows */
    uint32_t meetings; /* written by thread 0 */
};

#endif
