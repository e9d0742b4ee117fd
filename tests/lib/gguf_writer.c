#include "tests/lib/gguf_writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/rng.h"
#include "model/dtype.h"
#include "model/gguf.h"

static void add_u32(struct str *s, uint32_t v) { str_add(s, &v, sizeof(v)); }
static void add_u64(struct str *s, uint64_t v) { str_add(s, &v, sizeof(v)); }

static void add_string(struct str *s, const char *text, size_t n)
{
    add_u64(s, n);
    str_add(s, text, n);
}

static void add_zeros(struct str *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        str_addc(s, '\0');
}

void gguf_writer_init(struct gguf_writer *w)
{
    *w = (struct gguf_writer){.version = 3, .alignment = 32};
}

void gguf_writer_fini(struct gguf_writer *w)
{
    str_fini(&w->kv);
    str_fini(&w->directory);
    str_fini(&w->data);
}

/* Starts a key; false if it is the one to skip. */
static bool add_key(struct gguf_writer *w, const char *key, uint32_t type)
{
    if (w->skip && strcmp(w->skip, key) == 0)
        return false;
    add_string(&w->kv, key, strlen(key));
    add_u32(&w->kv, type);
    w->n_kv++;
    return true;
}

static void add_value(struct gguf_writer *w, const char *key, uint32_t type, const void *v,
                      size_t n)
{
    if (add_key(w, key, type))
        str_add(&w->kv, v, n);
}

void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
    add_value(w, key, GGUF_U32, &v, sizeof(v));
}

void gguf_writer_i32(struct gguf_writer *w, const char *key, int32_t v)
{
    add_value(w, key, GGUF_I32, &v, sizeof(v));
}

void gguf_writer_u64(struct gguf_writer *w, const char *key, uint64_t v)
{
    add_value(w, key, GGUF_U64, &v, sizeof(v));
}

void gguf_writer_f32(struct gguf_writer *w, const char *key, float v)
{
    add_value(w, key, GGUF_F32, &v, sizeof(v));
}

void gguf_writer_bool(struct gguf_writer *w, const char *key, bool v)
{
    uint8_t byte = v;

    add_value(w, key, GGUF_BOOL, &byte, sizeof(byte));
}

void gguf_writer_str(struct gguf_writer *w, const char *key, const char *v)
{
    if (add_key(w, key, GGUF_STR))
        add_string(&w->kv, v, strlen(v));
}

void gguf_writer_strs(struct gguf_writer *w, const char *key, const char *const *v, size_t n)
{
    if (!add_key(w, key, GGUF_ARRAY))
        return;
    add_u32(&w->kv, GGUF_STR);
    add_u64(&w->kv, n);
    for (size_t i = 0; i < n; i++)
        add_string(&w->kv, v[i], strlen(v[i]));
}

void gguf_writer_array(struct gguf_writer *w, const char *key, uint32_t type, const void *v,
                       size_t n)
{
    static const uint8_t sizes[GGUF_TYPE_COUNT] = {
#define X(number, name, size) [number] = (size),
        GGUF_TYPES(X)
#undef X
    };

    if (!add_key(w, key, GGUF_ARRAY))
        return;
    add_u32(&w->kv, type);
    add_u64(&w->kv, n);
    str_add(&w->kv, v, n * sizes[type]);
}

void gguf_writer_tensor(struct gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims,
                        const uint64_t *ne, const void *data, size_t bytes)
{
    if (w->skip && strcmp(w->skip, name) == 0)
        return;
    add_zeros(&w->data, size_round_up(w->data.len, w->alignment) - w->data.len);
    add_string(&w->directory, name, strlen(name));
    add_u32(&w->directory, n_dims);
    for (uint32_t i = 0; i < n_dims; i++)
        add_u64(&w->directory, ne[i]);
    add_u32(&w->directory, type);
    add_u64(&w->directory, w->data.len);
    w->n_tensors++;
    if (data)
        str_add(&w->data, data, bytes);
    else
        add_zeros(&w->data, bytes);
}

/* One block of random weights of a few tenths; draw i of the seed. */
static void random_block(uint8_t *out, const struct dtype_info *d, uint32_t type, uint64_t seed,
                         uint64_t i)
{
    float f = (float)(rng_f64(seed, i) - 0.5) * 0.5f;
    uint32_t bits;
    uint16_t h = type == DTYPE_F16 ? dtype_f32_to_f16(f) : 0;

    memcpy(&bits, &f, sizeof(bits));
    if (type == DTYPE_BF16)
        h = (uint16_t)(bits >> 16);
    if (type == DTYPE_F32) {
        memcpy(out, &f, sizeof(f));
    } else if (type == DTYPE_F16 || type == DTYPE_BF16) {
        memcpy(out, &h, sizeof(h));
    } else { /* a block: any bytes are quants, under a scale that keeps them small */
        bool last = type == DTYPE_Q6_K || type == DTYPE_TQ1_0 || type == DTYPE_TQ2_0;

        for (uint32_t b = 0; b < d->block_bytes; b++)
            out[b] = (uint8_t)rng_u64(seed ^ 1, i * d->block_bytes + b);
        h = dtype_f32_to_f16(type == DTYPE_Q8_0 ? 0.002f : 0.03f);
        if (type != DTYPE_I2_S)
            memcpy(out + (last ? d->block_bytes - 2 : 0), &h, sizeof(h));
    }
}

void gguf_writer_random(struct gguf_writer *w, const char *name, uint32_t type, uint64_t n_in,
                        uint64_t n_out, uint64_t n_mat, uint64_t seed)
{
    const struct dtype_info *d = dtype_info(type);
    uint64_t ne[3] = {n_in, n_out ? n_out : 1, n_mat ? n_mat : 1};
    uint64_t n_blocks = ne[0] * ne[1] * ne[2] / d->block_elems;
    size_t bytes = n_blocks * d->block_bytes;
    uint8_t *data = mem_zalloc(bytes + dtype_tail_bytes(type));
    const float scale = 0.03f;

    ASSERT(d->supported && n_in % d->block_elems == 0);
    for (uint64_t i = 0; i < n_blocks; i++)
        random_block(data + i * d->block_bytes, d, type, seed, i);
    if (type == DTYPE_I2_S)
        memcpy(data + bytes, &scale, sizeof(scale));
    gguf_writer_tensor(w, name, type,
                       n_mat > 1 ? 3
                       : n_out   ? 2
                                 : 1,
                       ne, data, bytes + dtype_tail_bytes(type));
    mem_free(data);
}

static void llama_keys(struct gguf_writer *w, const struct gguf_llama *s)
{
    gguf_writer_str(w, "general.architecture", "llama");
    gguf_writer_str(w, "general.name", "test");
    gguf_writer_u32(w, "llama.block_count", s->n_layer);
    gguf_writer_u32(w, "llama.context_length", s->n_ctx);
    gguf_writer_u32(w, "llama.embedding_length", s->n_embd);
    gguf_writer_u32(w, "llama.feed_forward_length", s->n_ff);
    gguf_writer_u32(w, "llama.attention.head_count", s->n_head);
    gguf_writer_u32(w, "llama.attention.head_count_kv", s->n_head_kv);
    gguf_writer_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_writer_u32(w, "llama.rope.dimension_count", s->n_embd / s->n_head);
    gguf_writer_f32(w, "llama.rope.freq_base", 10000);
    if (s->n_expert) {
        gguf_writer_u32(w, "llama.expert_count", s->n_expert);
        gguf_writer_u32(w, "llama.expert_used_count", s->n_expert_used);
    }
}

static void llama_layer(struct gguf_writer *w, const struct gguf_llama *s, uint32_t layer)
{
    uint32_t kv = s->n_embd / s->n_head * s->n_head_kv, x = s->n_embd, ff = s->n_ff;
    const struct {
        const char *name;
        uint32_t type, n_in, n_out, n_mat;
        int experts; /* -1: only without, 1: only with */
    } t[] = {
        {"attn_norm", DTYPE_F32, x, 0, 0, 0},
        {"attn_q", s->type, x, x, 0, 0},
        {"attn_k", s->type, x, kv, 0, 0},
        {"attn_v", s->type, x, kv, 0, 0},
        {"attn_output", s->type, x, x, 0, 0},
        {"ffn_norm", DTYPE_F32, x, 0, 0, 0},
        {"ffn_gate", s->type, x, ff, 0, -1},
        {"ffn_up", s->type, x, ff, 0, -1},
        {"ffn_down", s->type, ff, x, 0, -1},
        {"ffn_gate_inp", DTYPE_F32, x, s->n_expert, 0, 1},
        {"ffn_gate_exps", s->type, x, ff, s->n_expert, 1},
        {"ffn_up_exps", s->type, x, ff, s->n_expert, 1},
        {"ffn_down_exps", s->type, ff, x, s->n_expert, 1},
    };
    char name[64];

    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        if (t[i].experts == (s->n_expert ? -1 : 1))
            continue;
        snprintf(name, sizeof(name), "blk.%" PRIu32 ".%s.weight", layer, t[i].name);
        gguf_writer_random(w, name, t[i].type, t[i].n_in, t[i].n_out, t[i].n_mat, layer * 100 + i);
    }
}

void gguf_writer_llama(struct gguf_writer *w, const struct gguf_llama *shape)
{
    static const struct gguf_llama tiny = {.n_vocab = 5,
                                           .n_ctx = 64,
                                           .n_embd = 8,
                                           .n_layer = 1,
                                           .n_head = 2,
                                           .n_head_kv = 1,
                                           .n_ff = 6,
                                           .type = DTYPE_F32};
    const struct gguf_llama *s = shape ? shape : &tiny;

    llama_keys(w, s);
    gguf_writer_random(w, "token_embd.weight", s->type, s->n_embd, s->n_vocab, 0, 90001);
    gguf_writer_random(w, "output_norm.weight", DTYPE_F32, s->n_embd, 0, 0, 90002);
    if (!s->tied)
        gguf_writer_random(w, "output.weight", s->type, s->n_embd, s->n_vocab, 0, 90003);
    for (uint32_t i = 0; i < s->n_layer; i++)
        llama_layer(w, s, i);
}

uint8_t *gguf_writer_finish(const struct gguf_writer *w, size_t *n)
{
    struct str out = {0};
    uint8_t *file;

    str_adds(&out, "GGUF");
    add_u32(&out, w->version);
    add_u64(&out, w->n_tensors);
    add_u64(&out, w->n_kv);
    str_add(&out, w->kv.data, w->kv.len);
    str_add(&out, w->directory.data, w->directory.len);
    if (w->n_tensors)
        add_zeros(&out, size_round_up(out.len, w->alignment) - out.len);
    str_add(&out, w->data.data, w->data.len);
    file = mem_aligned(out.len, 64);
    memcpy(file, out.data, out.len);
    *n = out.len;
    str_fini(&out);
    return file;
}

/* One item; returns what follows it. */
static const char *assemble_item(struct str *out, const char *s)
{
    char *end;
    uint64_t v;
    float f;

    if (*s == '\'' || *s == '"') {
        const char *close = strchr(s + 1, *s);

        ASSERT(close);
        if (*s == '"')
            add_u64(out, (uint64_t)(close - s - 1));
        str_add(out, s + 1, (size_t)(close - s - 1));
        return close + 1;
    }
    end = strchr(s, ':');
    ASSERT(end);
    v = strtoull(end + 1, &end, 0);
    if (strncmp(s, "u8:", 3) == 0) {
        str_addc(out, (char)v);
    } else if (strncmp(s, "u32:", 4) == 0) {
        add_u32(out, (uint32_t)v);
    } else if (strncmp(s, "u64:", 4) == 0) {
        add_u64(out, v);
    } else if (strncmp(s, "f32:", 4) == 0) {
        f = strtof(s + 4, &end);
        str_add(out, &f, sizeof(f));
    } else if (strncmp(s, "zero:", 5) == 0) {
        add_zeros(out, v);
    } else {
        ASSERT(strncmp(s, "align:", 6) == 0);
        add_zeros(out, size_round_up(out->len, v) - out->len);
    }
    return end;
}

void gguf_assemble(struct str *out, const char *text)
{
    while (*text) {
        if (*text == ' ')
            text++;
        else
            text = assemble_item(out, text);
    }
}
