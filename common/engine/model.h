/* model: the weights of an engine in packed form. Immutable after load. */
#ifndef TANDEM_ENGINE_MODEL_H
#define TANDEM_ENGINE_MODEL_H

#include "base/err.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "engine/rope.h"
#include "host/team.h"
#include "kernels/kernels.h"
#include "model/hparams.h"

struct model_layer {
    float *attn_norm, *ffn_norm;  /* [n_embd] */
    struct panels wq, wk, wv;     /* [n_head * d][n_embd], [n_head_kv * d][n_embd] twice */
    struct panels wo;             /* [n_embd][n_head * d] */
    /* Dense: one of each. Mixture of experts: n_expert of each, and the router [n_expert][n_embd]. */
    struct panels *gate, *up;     /* [n_ff][n_embd] */
    struct panels *down;          /* [n_embd][n_ff] */
    struct panels router;
};

struct model {
    struct hparams hp;
    uint64_t hash; /* gguf_hash of the file */
    struct rope rope;
    struct panels token_embd; /* [n_vocab][n_embd] */
    struct panels output;     /* the same, or token_embd itself if tied */
    float *output_norm;       /* [n_embd] */
    struct model_layer *layers;
    uint32_t n_ffn; /* feed-forward blocks a layer: 1 or n_expert */
    struct mem_map memory; /* all panels */
    struct engine_load load;
};

/* Opens o->model, checks, packs for kern with the team, closes the file. On failure m is empty. */
int model_load(struct model *m, const struct engine_options *o, const struct kernels *kern,
               struct team *team, struct err *e);
void model_fini(struct model *m); /* also of a zeroed model */

/* fn of every matrix that a pass multiplies with; of experts all. */
void model_each_matrix(struct model *m, void (*fn)(void *ctx, struct panels *w), void *ctx);

#endif
