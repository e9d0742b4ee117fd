/* weights: the tensors of a llama-architecture model by role. Every shape agrees with the hparams,
 * every type can be run, and the file holds nothing else. The tensors belong to the gguf, which
 * must outlive this. Plain data, any thread may read. */
#ifndef TANDEM_MODEL_WEIGHTS_H
#define TANDEM_MODEL_WEIGHTS_H

#include "base/err.h"
#include "model/gguf.h"
#include "model/hparams.h"

/* A matrix maps n_in to n_out: ne = {n_in, n_out}. q = n_head * head_dim, kv = n_head_kv *
 * head_dim. */
struct layer_weights {
    const struct gguf_tensor *attn_norm; /* {n_embd}, F32 */
    const struct gguf_tensor *wq;        /* {n_embd, q} */
    const struct gguf_tensor *wk, *wv;   /* {n_embd, kv} */
    const struct gguf_tensor *wo;        /* {q, n_embd} */
    const struct gguf_tensor *ffn_norm;  /* {n_embd}, F32 */
    /* dense, else NULL */
    const struct gguf_tensor *gate, *up; /* {n_embd, n_ff} */
    const struct gguf_tensor *down;      /* {n_ff, n_embd} */
    /* mixture of experts, else NULL */
    const struct gguf_tensor *router;              /* {n_embd, n_expert}, F32 */
    const struct gguf_tensor *gate_exps, *up_exps; /* {n_embd, n_ff, n_expert} */
    const struct gguf_tensor *down_exps;           /* {n_ff, n_embd, n_expert} */
};

struct weights {
    const struct gguf_tensor *token_embd;  /* {n_embd, n_vocab} */
    const struct gguf_tensor *output_norm; /* {n_embd}, F32 */
    const struct gguf_tensor *output;      /* {n_embd, n_vocab}; token_embd if tied */
    const struct gguf_tensor *rope_freqs;  /* {n_rot / 2}, F32, finite and > 0; NULL if absent */
    struct layer_weights *layers;          /* [n_layer], owned */
};

/* ERR_FORMAT: a tensor is missing or has another shape. ERR_UNSUPPORTED: a type that does not run, or
 * a tensor we do not know: a bias that we left out would change the result. Sentences start with
 * the file's name. After a failure there is nothing to free. */
int weights_load(struct weights *w, const struct gguf *g, const struct hparams *h, struct err *e);
void weights_fini(struct weights *w);

#endif
