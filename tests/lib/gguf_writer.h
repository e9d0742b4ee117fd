/* gguf_writer: GGUF files in memory for tests: correct ones from keys and tensors, tiny llama
 * models, and malformed ones spelled out value by value. One thread. */
#ifndef TANDEM_TESTS_GGUF_WRITER_H
#define TANDEM_TESTS_GGUF_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct gguf_writer {
    uint32_t version,
        alignment; /* 3 and 32 after init; the key general.alignment is the caller's */
    /* Keys and tensors of this name are passed over, so that a test can leave one out of a model or
     * write its own. NULL: none. */
    const char *skip;
    uint64_t n_kv, n_tensors;
    struct str kv, directory, data;
};

void gguf_writer_init(struct gguf_writer *w);
void gguf_writer_fini(struct gguf_writer *w);

void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t v);
void gguf_writer_i32(struct gguf_writer *w, const char *key, int32_t v);
void gguf_writer_u64(struct gguf_writer *w, const char *key, uint64_t v);
void gguf_writer_f32(struct gguf_writer *w, const char *key, float v);
void gguf_writer_bool(struct gguf_writer *w, const char *key, bool v);
void gguf_writer_str(struct gguf_writer *w, const char *key, const char *v);
void gguf_writer_strs(struct gguf_writer *w, const char *key, const char *const *v, size_t n);
/* Array of n values of a fixed size; type: enum gguf_type. */
void gguf_writer_array(struct gguf_writer *w, const char *key, uint32_t type, const void *v,
                       size_t n);

/* data: bytes of them; NULL: zeros. The offset is the next aligned one. */
void gguf_writer_tensor(struct gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims,
                        const uint64_t *ne, const void *data, size_t bytes);

/* A matrix or vector of small pseudo-random weights, a function of seed only, in any type that
 * dtype.h supports; n_out 0: a vector; n_mat > 1: a stack of matrices. */
void gguf_writer_random(struct gguf_writer *w, const char *name, uint32_t type, uint64_t n_in,
                        uint64_t n_out, uint64_t n_mat, uint64_t seed);

struct gguf_llama {
    uint32_t n_vocab, n_ctx, n_embd, n_layer, n_head, n_head_kv, n_ff, n_expert, n_expert_used;
    uint32_t type; /* of the matrices; enum dtype */
    bool tied;
};

/* Keys (no tokenizer) and random tensors of a llama model. NULL: a tiny F32 one. */
void gguf_writer_llama(struct gguf_writer *w, const struct gguf_llama *shape);

/* The file: 64-byte aligned, exactly *n bytes, owned by the caller (mem_free). */
uint8_t *gguf_writer_finish(const struct gguf_writer *w, size_t *n);

/* Appends what text spells, little endian, items separated by blanks: 'abc' bytes, "abc" a length
 * (u64) and bytes, u8:N u32:N u64:N f32:X numbers (N as strtoull reads it, -1 too), zero:N zeros,
 * align:N zeros up to a multiple of N. */
void gguf_assemble(struct str *out, const char *text);

#endif
