#include "model/weights.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/dtype.h"

enum dim { DIM_ONE, DIM_EMBD, DIM_VOCAB, DIM_Q, DIM_KV, DIM_FF, DIM_EXPERT, DIM_FREQS, DIM_COUNT };

enum {
    SPEC_F32 = 1,      /* read by the forward pass itself, not by a kernel with formats */
    SPEC_OPTIONAL = 2, /* NULL if absent */
    SPEC_DENSE = 4,    /* only in models without experts */
    SPEC_EXPERTS = 8   /* only in models with experts */
};

struct spec {
    const char *name; /* in a layer: what follows "blk.N." */
    size_t offset;    /* of the pointer in struct weights or struct layer_weights */
    enum dim dims[3];
    unsigned flags;
};

#define MODEL(field) offsetof(struct weights, field)
#define LAYER(field) offsetof(struct layer_weights, field)

static const struct spec model_specs[] = {
    {"token_embd.weight", MODEL(token_embd), {DIM_EMBD, DIM_VOCAB}, 0},
    {"output_norm.weight", MODEL(output_norm), {DIM_EMBD}, SPEC_F32},
    {"output.weight", MODEL(output), {DIM_EMBD, DIM_VOCAB}, SPEC_OPTIONAL},
    {"rope_freqs.weight", MODEL(rope_freqs), {DIM_FREQS}, SPEC_F32 | SPEC_OPTIONAL},
};

static const struct spec layer_specs[] = {
    {"attn_norm.weight", LAYER(attn_norm), {DIM_EMBD}, SPEC_F32},
    {"attn_q.weight", LAYER(wq), {DIM_EMBD, DIM_Q}, 0},
    {"attn_k.weight", LAYER(wk), {DIM_EMBD, DIM_KV}, 0},
    {"attn_v.weight", LAYER(wv), {DIM_EMBD, DIM_KV}, 0},
    {"attn_output.weight", LAYER(wo), {DIM_Q, DIM_EMBD}, 0},
    {"ffn_norm.weight", LAYER(ffn_norm), {DIM_EMBD}, SPEC_F32},
    {"ffn_gate.weight", LAYER(gate), {DIM_EMBD, DIM_FF}, SPEC_DENSE},
    {"ffn_up.weight", LAYER(up), {DIM_EMBD, DIM_FF}, SPEC_DENSE},
    {"ffn_down.weight", LAYER(down), {DIM_FF, DIM_EMBD}, SPEC_DENSE},
    {"ffn_gate_inp.weight", LAYER(router), {DIM_EMBD, DIM_EXPERT}, SPEC_F32 | SPEC_EXPERTS},
    {"ffn_gate_exps.weight", LAYER(gate_exps), {DIM_EMBD, DIM_FF, DIM_EXPERT}, SPEC_EXPERTS},
    {"ffn_up_exps.weight", LAYER(up_exps), {DIM_EMBD, DIM_FF, DIM_EXPERT}, SPEC_EXPERTS},
    {"ffn_down_exps.weight", LAYER(down_exps), {DIM_FF, DIM_EMBD, DIM_EXPERT}, SPEC_EXPERTS},
};

struct loader {
    const struct gguf *g;
    uint64_t dims[DIM_COUNT];
    unsigned skip; /* SPEC_DENSE or SPEC_EXPERTS: the ones this model does not have */
    bool *taken;   /* [gguf_n_tensors] */
};

/* "F32, F16, ...": the types that run. */
static const char *supported_types(char *out, size_t cap)
{
    size_t n = 0;

    out[0] = 0;
    for (uint32_t t = 0; t < DTYPE_LIMIT && n < cap; t++) {
        const struct dtype_info *d = dtype_info(t);

        if (d && d->supported)
            n += (size_t)snprintf(out + n, cap - n, "%s%s", n ? ", " : "", d->name);
    }
    return out;
}

static int check_type(const struct gguf_tensor *t, const struct spec *s, struct err *e)
{
    const struct dtype_info *d = dtype_info(t->type);
    char types[192];

    if ((s->flags & SPEC_F32) && t->type != DTYPE_F32)
        return err_set(e, ERR_UNSUPPORTED, "tensor \"%s\" is %s, this one has to be F32", t->name,
                       d->name);
    if (!d->supported)
        return err_set(e, ERR_UNSUPPORTED, "tensor \"%s\" is %s; the types that run are %s",
                       t->name, d->name, supported_types(types, sizeof(types)));
    return 0;
}

/* The scale that an I2_S tensor ends with. */
static int check_scale(const struct gguf_tensor *t, struct err *e)
{
    float d;

    if (t->type != DTYPE_I2_S)
        return 0;
    memcpy(&d, (const uint8_t *)t->data + t->bytes - dtype_tail_bytes(t->type), sizeof(d));
    if (isfinite(d))
        return 0;
    return err_set(e, ERR_FORMAT, "tensor \"%s\" is I2_S and has a scale of %g, it has to be finite",
                   t->name, (double)d);
}

static int check_shape(const struct gguf_tensor *t, const struct spec *s, const uint64_t *dims,
                       struct err *e)
{
    uint64_t want[4] = {dims[s->dims[0]], dims[s->dims[1]], dims[s->dims[2]], 1};

    if (memcmp(t->ne, want, sizeof(want)) == 0)
        return 0;
    return err_set(e, ERR_FORMAT,
                   "tensor \"%s\" is %" PRIu64 " x %" PRIu64 " x %" PRIu64 " x %" PRIu64
                   ", the metadata say %" PRIu64 " x %" PRIu64 " x %" PRIu64 " x %" PRIu64,
                   t->name, t->ne[0], t->ne[1], t->ne[2], t->ne[3], want[0], want[1], want[2],
                   want[3]);
}

/* Finds and checks the tensors of a table; prefix is "" or "blk.N.". */
static int take(struct loader *l, void *base, const struct spec *specs, size_t n,
                const char *prefix, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        const struct spec *s = &specs[i];
        const struct gguf_tensor *t;
        char name[64];
        int rc;

        if (s->flags & l->skip)
            continue;
        snprintf(name, sizeof(name), "%s%s", prefix, s->name);
        t = gguf_tensor(l->g, name);
        if (!t && (s->flags & SPEC_OPTIONAL))
            continue;
        if (!t)
            return err_set(e, ERR_FORMAT, "tensor \"%s\" is missing", name);
        rc = check_type(t, s, e);
        if (!rc)
            rc = check_shape(t, s, l->dims, e);
        if (!rc)
            rc = check_scale(t, e);
        if (rc)
            return rc;
        l->taken[t - gguf_tensor_at(l->g, 0)] = true;
        *(const struct gguf_tensor **)((char *)base + s->offset) = t;
    }
    return 0;
}

static int check_nothing_else(const struct loader *l, const struct hparams *h, struct err *e)
{
    for (uint32_t i = 0; i < gguf_n_tensors(l->g); i++) {
        if (!l->taken[i])
            return err_set(e, ERR_UNSUPPORTED,
                           "tensor \"%s\" is unknown in a llama model of %" PRIu32 " layers%s",
                           gguf_tensor_at(l->g, i)->name, h->n_layer,
                           h->n_expert ? " with experts" : "");
    }
    return 0;
}

/* The frequencies of RoPE are divided by these. */
static int check_freqs(const struct gguf_tensor *t, struct err *e)
{
    const float *f = t ? t->data : NULL;

    for (uint64_t i = 0; t && i < t->ne[0]; i++) {
        if (!(f[i] > 0) || isinf(f[i]))
            return err_set(e, ERR_FORMAT,
                           "tensor \"%s\" has %g at %" PRIu64
                           ", only finite values above 0 make sense",
                           t->name, (double)f[i], i);
    }
    return 0;
}

static int load_all(struct weights *w, struct loader *l, const struct hparams *h, struct err *e)
{
    char prefix[32];
    int rc = take(l, w, model_specs, ARRAY_LEN(model_specs), "", e);

    for (uint32_t i = 0; i < h->n_layer && !rc; i++) {
        snprintf(prefix, sizeof(prefix), "blk.%" PRIu32 ".", i);
        rc = take(l, &w->layers[i], layer_specs, ARRAY_LEN(layer_specs), prefix, e);
    }
    if (!rc)
        rc = check_nothing_else(l, h, e);
    if (!rc)
        rc = check_freqs(w->rope_freqs, e);
    if (!w->output)
        w->output = w->token_embd;
    return rc;
}

int weights_load(struct weights *w, const struct gguf *g, const struct hparams *h, struct err *e)
{
    struct loader l = {
        .g = g,
        .dims = {[DIM_ONE] = 1,
                 [DIM_EMBD] = h->n_embd,
                 [DIM_VOCAB] = h->n_vocab,
                 [DIM_Q] = (uint64_t)h->n_head * h->head_dim,
                 [DIM_KV] = (uint64_t)h->n_head_kv * h->head_dim,
                 [DIM_FF] = h->n_ff,
                 [DIM_EXPERT] = h->n_expert,
                 [DIM_FREQS] = h->n_rot / 2},
        .skip = h->n_expert ? SPEC_DENSE : SPEC_EXPERTS,
        .taken = mem_calloc(gguf_n_tensors(g), sizeof(bool)),
    };
    int rc;

    *w = (struct weights){.layers = mem_calloc(h->n_layer, sizeof(*w->layers))};
    rc = load_all(w, &l, h, e);
    mem_free(l.taken);
    if (rc) {
        err_wrap(e, "%s", gguf_name(g));
        weights_fini(w);
    }
    return rc;
}

void weights_fini(struct weights *w)
{
    mem_free(w->layers);
    *w = (struct weights){0};
}
