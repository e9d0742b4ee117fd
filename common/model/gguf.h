/* gguf: a model file in the GGUF format (versions 2 and 3, little endian), mapped read-only.
 *
 * Opening checks everything the format promises: each count, length and offset before its use, the
 * limits below, types, alignment, and that names are unique and tensors lie inside the file and
 * apart. What the values mean is for hparams, weights and vocab to judge. Names hold printable
 * ASCII only, so they can be shown; string values are arbitrary bytes without a final NUL.
 *
 * After opening nothing changes: any thread may read. What is returned points into the gguf and
 * lives until gguf_close. A file that somebody truncates while it is mapped still kills the reader
 * (SIGBUS); one that is replaced by rename does not. */
#ifndef TANDEM_MODEL_GGUF_H
#define TANDEM_MODEL_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Far above any real model and far below what hurts: the largest vocabularies have 2^18 tokens, the
 * largest mixtures a few thousand tensors. Names of tensors are below 64 bytes in ggml itself. */
#define GGUF_KV_MAX 65536
#define GGUF_TENSORS_MAX 65536
#define GGUF_KEY_BYTES_MAX 256
#define GGUF_NAME_BYTES_MAX 63
#define GGUF_STR_BYTES_MAX ((size_t)1 << 20)
#define GGUF_ARRAY_MAX ((size_t)1 << 21)
#define GGUF_ALIGN_MIN 8
#define GGUF_ALIGN_MAX 4096
#define GGUF_DIMS_MAX 4

/* type of a value, numbered as in the file; its name; bytes of one, 0 if that varies */
#define GGUF_TYPES(X)                                                                              \
    X(GGUF_U8, "u8", 1)                                                                            \
    X(GGUF_I8, "i8", 1)                                                                            \
    X(GGUF_U16, "u16", 2)                                                                          \
    X(GGUF_I16, "i16", 2)                                                                          \
    X(GGUF_U32, "u32", 4)                                                                          \
    X(GGUF_I32, "i32", 4)                                                                          \
    X(GGUF_F32, "f32", 4)                                                                          \
    X(GGUF_BOOL, "bool", 1)                                                                        \
    X(GGUF_STR, "string", 0)                                                                       \
    X(GGUF_ARRAY, "array", 0)                                                                      \
    X(GGUF_U64, "u64", 8)                                                                          \
    X(GGUF_I64, "i64", 8)                                                                          \
    X(GGUF_F64, "f64", 8)

enum gguf_type {
#define X(type, name, bytes) type,
    GGUF_TYPES(X)
#undef X
    GGUF_TYPE_COUNT
};

struct gguf;

/* n values of one type, never GGUF_ARRAY: arrays do not nest. A single value is n = 1. */
struct gguf_array {
    uint32_t type; /* enum gguf_type */
    uint64_t n;
    const uint8_t *data;        /* little endian, not aligned; read through gguf_array_* */
    const uint8_t *const *strs; /* of strings: where each starts, its length first; else NULL */
};

struct gguf_kv {
    const char *key; /* NUL-terminated */
    bool is_array;
    struct gguf_array values;
};

struct gguf_tensor {
    const char *name; /* NUL-terminated */
    uint32_t type;    /* one that dtype_info knows, with a layout; supported or not */
    uint32_t n_dims;  /* 1..GGUF_DIMS_MAX */
    uint64_t ne[4];   /* elements, fastest dimension first; 1 past n_dims; none is 0 */
    const void *data; /* aligned to GGUF_ALIGN_MIN at least */
    size_t bytes;
};

/* Maps the file; only a regular file is accepted. Errors: ERR_IO, ERR_MEMORY (cannot map),
 * ERR_FORMAT, ERR_LIMIT, ERR_UNSUPPORTED (version, byte order). Sentences start with the file's
 * name. */
int gguf_open(struct gguf **out, const char *path, struct err *e);

/* The same of n bytes in memory, 64-byte aligned, borrowed until gguf_close; name starts the
 * sentences. */
int gguf_open_bytes(struct gguf **out, const void *data, size_t n, const char *name, struct err *e);

void gguf_close(struct gguf **g);

/* The last component of the path, to start a sentence with. The getters' sentences do not. */
const char *gguf_name(const struct gguf *g);
uint32_t gguf_version(const struct gguf *g);
size_t gguf_file_bytes(const struct gguf *g);
uint32_t gguf_alignment(const struct gguf *g);

/* Keys in the file's order; i < gguf_n_kv. gguf_kv: NULL if absent. */
uint32_t gguf_n_kv(const struct gguf *g);
const struct gguf_kv *gguf_kv_at(const struct gguf *g, uint32_t i);
const struct gguf_kv *gguf_kv(const struct gguf *g, const char *key);

/* One value. ERR_NOT_FOUND: no such key. ERR_FORMAT: another type, or an integer that does not fit.
 * *out is written on success only. u32 takes any integer type, f32 takes f32 and f64. */
int gguf_u32(const struct gguf *g, const char *key, uint32_t *out, struct err *e);
int gguf_f32(const struct gguf *g, const char *key, float *out, struct err *e);
int gguf_bool(const struct gguf *g, const char *key, bool *out, struct err *e);
int gguf_str(const struct gguf *g, const char *key, const char **s, size_t *n, struct err *e);
int gguf_array(const struct gguf *g, const char *key, struct gguf_array *out, struct err *e);

/* Element i < n of an array whose type the caller has looked at: str of GGUF_STR; f32 of GGUF_F32;
 * u32 of GGUF_U32 and GGUF_I32, as bits; i64 of every integer type and bool, U64 as bits;
 * f64 of both float types. */
void gguf_array_str(const struct gguf_array *a, uint64_t i, const char **s, size_t *n);
float gguf_array_f32(const struct gguf_array *a, uint64_t i);
uint32_t gguf_array_u32(const struct gguf_array *a, uint64_t i);
int64_t gguf_array_i64(const struct gguf_array *a, uint64_t i);
double gguf_array_f64(const struct gguf_array *a, uint64_t i);

/* "u32", "string"; "unknown" for any other number. */
const char *gguf_type_name(uint32_t type);

/* Tensors in the file's order; i < gguf_n_tensors. gguf_tensor: NULL if absent. */
uint32_t gguf_n_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, uint32_t i);
const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name);

/* Identity of a model, cheap to compute: XXH3 over header, metadata and directory, the file's size,
 * and the first and last 4 KiB of each tensor. */
uint64_t gguf_hash(const struct gguf *g);

#endif
