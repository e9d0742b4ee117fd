#include "model/hparams.h"

#include <float.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

/* Keys of llama.cpp that change the result of a model and are constant in plain llama models. A
 * file in which one has another value would run, wrongly, if we passed over it. */
static const struct {
    const char *key;
    float off[2]; /* the values that mean "not used" */
} neutral_floats[] = {
    {"llama.attention.scale", {0, 0}},
    {"llama.attn_logit_softcapping", {0, 0}},
    {"llama.final_logit_softcapping", {0, 0}},
    {"llama.logit_scale", {0, 1}},
    {"llama.residual_scale", {0, 1}},
    {"llama.embedding_scale", {0, 1}},
    {"llama.expert_weights_scale", {0, 1}},
    {"llama.rope.scaling.yarn_log_multiplier", {0, 0}},
};
static const struct {
    const char *key;
    uint32_t off_max;
} neutral_counts[] = {
    {"llama.expert_shared_count", 0},
    {"llama.leading_dense_block_count", 0},
    {"llama.expert_gating_func", 1}, /* 1: softmax */
    {"split.count", 1},
};

static int missing(const char *key, struct err *e)
{
    return err_set(e, ERR_FORMAT, "key \"%s\" is missing", key);
}

/* A required integer in [min, max]. */
static int load_u32(uint32_t *out, const struct gguf *g, const char *key, uint32_t min,
                    uint32_t max, struct err *e)
{
    int rc = gguf_u32(g, key, out, e);

    if (rc)
        return rc == ERR_NOT_FOUND ? missing(key, e) : rc;
    if (*out < min || *out > max)
        return err_set(e, ERR_FORMAT,
                       "key \"%s\" is %" PRIu32 ", it has to be from %" PRIu32 " to %" PRIu32, key,
                       *out, min, max);
    return 0;
}

static int load_u32_or(uint32_t *out, const struct gguf *g, const char *key, uint32_t min,
                       uint32_t max, uint32_t absent, struct err *e)
{
    *out = absent;
    return gguf_kv(g, key) ? load_u32(out, g, key, min, max, e) : 0;
}

/* A required float in [min, max]; so it is finite. */
static int load_f32(float *out, const struct gguf *g, const char *key, float min, float max,
                    struct err *e)
{
    int rc = gguf_f32(g, key, out, e);

    if (rc)
        return rc == ERR_NOT_FOUND ? missing(key, e) : rc;
    if (!(*out >= min && *out <= max)) /* NaN fails both */
        return err_set(e, ERR_FORMAT, "key \"%s\" is %g, it has to be from %g to %g", key,
                       (double)*out, (double)min, (double)max);
    return 0;
}

static int load_f32_or(float *out, const struct gguf *g, const char *key, float min, float max,
                       float absent, struct err *e)
{
    *out = absent;
    return gguf_kv(g, key) ? load_f32(out, g, key, min, max, e) : 0;
}

static int refuse(const char *key, double value, struct err *e)
{
    return err_set(e, ERR_UNSUPPORTED, "key \"%s\" is %g, which this build cannot run", key, value);
}

static int check_neutral(const struct gguf *g, struct err *e)
{
    bool causal = true;
    uint32_t n;
    float f;
    int rc = 0;

    for (size_t i = 0; i < ARRAY_LEN(neutral_floats); i++) {
        const float *off = neutral_floats[i].off;

        rc = load_f32_or(&f, g, neutral_floats[i].key, -FLT_MAX, FLT_MAX, off[0], e);
        if (rc)
            return rc;
        if (f != off[0] && f != off[1])
            return refuse(neutral_floats[i].key, (double)f, e);
    }
    for (size_t i = 0; i < ARRAY_LEN(neutral_counts); i++) {
        rc = load_u32_or(&n, g, neutral_counts[i].key, 0, UINT32_MAX, 0, e);
        if (rc)
            return rc;
        if (n > neutral_counts[i].off_max)
            return refuse(neutral_counts[i].key, n, e);
    }
    if (gguf_kv(g, "llama.attention.causal"))
        rc = gguf_bool(g, "llama.attention.causal", &causal, e);
    if (!rc && !causal)
        return err_set(e, ERR_UNSUPPORTED, "is an embedding model (attention is not causal)");
    return rc;
}

/* Text of the file for a person: cut, and printable. */
static void copy_text(char *out, size_t size, const char *s, size_t n)
{
    size_t len = size_min(n, size - 1);

    for (size_t i = 0; i < len; i++)
        out[i] = s[i] >= 0x20 && s[i] < 0x7f ? s[i] : '?';
    out[len] = '\0';
}

/* out = the printable text under an optional key, "" if absent. */
static int load_text(char *out, size_t size, const struct gguf *g, const char *key, struct err *e)
{
    const char *s = "";
    size_t n = 0;
    int rc = gguf_kv(g, key) ? gguf_str(g, key, &s, &n, e) : 0;

    copy_text(out, size, s, n);
    return rc;
}

static int load_identity(struct hparams *h, const struct gguf *g, struct err *e)
{
    char type[32];
    int rc;

    if (!gguf_kv(g, "general.architecture"))
        return missing("general.architecture", e);
    rc = load_text(h->arch, sizeof(h->arch), g, "general.architecture", e);
    if (rc)
        return rc;
    if (strcmp(h->arch, "llama") != 0)
        return err_set(e, ERR_UNSUPPORTED, "architecture \"%s\" is not supported; llama is",
                       h->arch);
    rc = load_text(type, sizeof(type), g, "general.type", e);
    if (rc)
        return rc;
    if (type[0] && strcmp(type, "model") != 0)
        return err_set(e, ERR_UNSUPPORTED, "holds a \"%s\", not a model", type);
    return load_text(h->name, sizeof(h->name), g, "general.name", e);
}

static int load_attention(struct hparams *h, const struct gguf *g, struct err *e)
{
    uint32_t v_dim;
    int rc = load_u32(&h->n_head, g, "llama.attention.head_count", 1, HPARAMS_HEADS_MAX, e);

    if (!rc)
        rc = load_u32_or(&h->n_head_kv, g, "llama.attention.head_count_kv", 1, HPARAMS_HEADS_MAX,
                         h->n_head, e);
    if (rc)
        return rc;
    if (h->n_head % h->n_head_kv)
        return err_set(e, ERR_FORMAT,
                       "has %" PRIu32 " attention heads, no multiple of its %" PRIu32 " KV heads",
                       h->n_head, h->n_head_kv);
    if (!gguf_kv(g, "llama.attention.key_length") && h->n_embd % h->n_head)
        return err_set(e, ERR_FORMAT,
                       "has embeddings of %" PRIu32 " values, no multiple of its %" PRIu32
                       " attention heads",
                       h->n_embd, h->n_head);
    rc = load_u32_or(&h->head_dim, g, "llama.attention.key_length", 2, HPARAMS_HEAD_DIM_MAX,
                     h->n_embd / h->n_head, e);
    if (!rc)
        rc = load_u32_or(&v_dim, g, "llama.attention.value_length", 2, HPARAMS_HEAD_DIM_MAX,
                         h->head_dim, e);
    if (rc)
        return rc;
    if (h->head_dim < 2 || h->head_dim > HPARAMS_HEAD_DIM_MAX)
        return err_set(e, ERR_FORMAT, "has heads of %" PRIu32 " values, it has to be from 2 to %d",
                       h->head_dim, HPARAMS_HEAD_DIM_MAX);
    if (v_dim != h->head_dim)
        return err_set(e, ERR_UNSUPPORTED,
                       "has k heads of %" PRIu32 " values and v heads of %" PRIu32
                       ", only equal ones are supported",
                       h->head_dim, v_dim);
    return 0;
}

/* llama.cpp's rules: a factor without a type is linear; no factor is 1; 0 means 1. */
static int load_rope_scaling(struct hparams *h, const struct gguf *g, struct err *e)
{
    char type[32];
    int rc = load_text(type, sizeof(type), g, "llama.rope.scaling.type", e);

    if (rc)
        return rc;
    rc = load_f32_or(&h->rope_factor, g,
                     gguf_kv(g, "llama.rope.scaling.factor") ? "llama.rope.scaling.factor"
                                                             : "llama.rope.scale_linear",
                     0, 1e6f, 1, e);
    if (rc)
        return rc;
    if (h->rope_factor == 0)
        h->rope_factor = 1;
    if (strcmp(type, "none") == 0) {
        h->rope_scaling = ROPE_NONE;
        h->rope_factor = 1;
    } else if (strcmp(type, "linear") == 0 || !type[0]) {
        h->rope_scaling = h->rope_factor == 1 ? ROPE_NONE : ROPE_LINEAR;
    } else if (strcmp(type, "yarn") == 0) {
        h->rope_scaling = ROPE_YARN;
    } else {
        return err_set(e, ERR_UNSUPPORTED,
                       "rope scaling \"%s\" is not supported; none, linear and yarn are", type);
    }
    return load_u32_or(&h->rope_ctx_orig, g, "llama.rope.scaling.original_context_length", 1,
                       HPARAMS_CTX_MAX, h->n_ctx, e);
}

static int load_rope(struct hparams *h, const struct gguf *g, struct err *e)
{
    float attn_factor;
    int rc =
        load_u32_or(&h->n_rot, g, "llama.rope.dimension_count", 2, h->head_dim, h->head_dim, e);

    if (rc)
        return rc;
    if (h->n_rot % 2)
        return err_set(e, ERR_FORMAT, "rotates %" PRIu32 " values of a head, which is odd",
                       h->n_rot);
    rc = load_f32_or(&h->rope_base, g, "llama.rope.freq_base", 1, 1e12f, 10000, e);
    if (!rc)
        rc = load_rope_scaling(h, g, e);
    if (!rc)
        rc = load_f32_or(&h->yarn_ext_factor, g, "llama.rope.scaling.yarn_ext_factor", 0, 1e6f, 1,
                         e);
    if (!rc)
        rc = load_f32_or(&h->yarn_attn_factor, g, "llama.rope.scaling.yarn_attn_factor", 1e-6f,
                         1e6f, 1, e);
    if (!rc)
        rc = load_f32_or(&attn_factor, g, "llama.rope.scaling.attn_factor", 1e-6f, 1e6f, 1, e);
    if (!rc)
        rc = load_f32_or(&h->yarn_beta_fast, g, "llama.rope.scaling.yarn_beta_fast", 1e-6f, 1e6f,
                         32, e);
    if (!rc)
        rc = load_f32_or(&h->yarn_beta_slow, g, "llama.rope.scaling.yarn_beta_slow", 1e-6f, 1e6f, 1,
                         e);
    if (!rc)
        h->yarn_attn_factor *= attn_factor;
    return rc;
}

static int load_experts(struct hparams *h, const struct gguf *g, struct err *e)
{
    int rc = load_u32_or(&h->n_expert, g, "llama.expert_count", 0, HPARAMS_EXPERTS_MAX, 0, e);

    if (!rc && h->n_expert)
        rc = load_u32(&h->n_expert_used, g, "llama.expert_used_count", 1, h->n_expert, e);
    return rc;
}

static int load_vocab_size(struct hparams *h, const struct gguf *g, struct err *e)
{
    const struct gguf_tensor *t = gguf_tensor(g, "token_embd.weight");

    if (!t)
        return err_set(e, ERR_FORMAT, "tensor \"token_embd.weight\" is missing");
    if (t->ne[1] > HPARAMS_VOCAB_MAX)
        return err_set(e, ERR_FORMAT, "has embeddings of %" PRIu64 " tokens, the limit is %u",
                       t->ne[1], HPARAMS_VOCAB_MAX);
    h->n_vocab = (uint32_t)t->ne[1];
    return 0;
}

static int load_all(struct hparams *h, const struct gguf *g, struct err *e)
{
    int rc = load_identity(h, g, e);

    if (!rc)
        rc = check_neutral(g, e);
    if (!rc)
        rc = load_u32(&h->n_layer, g, "llama.block_count", 1, HPARAMS_LAYERS_MAX, e);
    if (!rc)
        rc = load_u32(&h->n_ctx, g, "llama.context_length", 1, HPARAMS_CTX_MAX, e);
    if (!rc)
        rc = load_u32(&h->n_embd, g, "llama.embedding_length", 1, HPARAMS_EMBD_MAX, e);
    if (!rc)
        rc = load_u32(&h->n_ff, g, "llama.feed_forward_length", 1, HPARAMS_FF_MAX, e);
    if (!rc)
        rc = load_f32(&h->rms_eps, g, "llama.attention.layer_norm_rms_epsilon", 1e-20f, 1, e);
    if (!rc)
        rc = load_attention(h, g, e);
    if (!rc)
        rc = load_rope(h, g, e);
    if (!rc)
        rc = load_experts(h, g, e);
    if (!rc)
        rc = load_vocab_size(h, g, e);
    return rc;
}

int hparams_load(struct hparams *h, const struct gguf *g, struct err *e)
{
    int rc;

    *h = (struct hparams){0};
    rc = load_all(h, g, e);
    if (rc)
        err_wrap(e, "%s", gguf_name(g));
    return rc;
}
