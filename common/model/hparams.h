/* hparams: the numbers of a llama-architecture model, read from the metadata of its file and
 * checked against each other. Plain data; no field needs another check, and the bounds keep the
 * bytes of any tensor, of all layers' KV and of a full context within 64 bits. */
#ifndef TANDEM_MODEL_HPARAMS_H
#define TANDEM_MODEL_HPARAMS_H

#include <stdint.h>

#include "base/err.h"
#include "model/gguf.h"

/* Bounds: several times the largest published llama model in each direction. */
#define HPARAMS_LAYERS_MAX 1024
#define HPARAMS_EMBD_MAX 65536
#define HPARAMS_HEADS_MAX 1024
#define HPARAMS_HEAD_DIM_MAX 1024
#define HPARAMS_FF_MAX (1u << 20)
#define HPARAMS_VOCAB_MAX (1u << 21)
#define HPARAMS_CTX_MAX (1u << 24)
#define HPARAMS_EXPERTS_MAX 256

enum rope_scaling { ROPE_NONE, ROPE_LINEAR, ROPE_YARN };

struct hparams {
    char arch[32]; /* "llama" */
    char name[64]; /* general.name, printable and cut; "" if absent */
    uint32_t n_vocab, n_ctx, n_embd, n_layer;
    uint32_t n_head, n_head_kv; /* n_head is a multiple of n_head_kv, both > 0 */
    uint32_t head_dim;          /* of k and v alike */
    uint32_t n_rot;             /* rotated values of a head: even, <= head_dim */
    uint32_t n_ff;
    uint32_t n_expert, n_expert_used; /* both 0: dense */
    float rms_eps, rope_base;
    enum rope_scaling rope_scaling;
    float rope_factor;      /* > 0; 1 if not scaled */
    uint32_t rope_ctx_orig; /* context before scaling; n_ctx if the file does not say */
    float yarn_ext_factor, yarn_attn_factor, yarn_beta_fast, yarn_beta_slow;
};

/* ERR_UNSUPPORTED: another architecture, or a feature that we would have to ignore; ERR_FORMAT: a
 * key that is missing, of the wrong type or out of range. Sentences start with the file's name. */
int hparams_load(struct hparams *h, const struct gguf *g, struct err *e);

#endif
