#include "model/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"
#include "model/gguf_parse.h"

#define HASH_EDGE_BYTES ((size_t)4096) /* of each end of a tensor */

/* Maps the regular file at path; on failure g->data stays NULL. */
static int gguf_map(struct gguf *g, const char *path, struct err *e)
{
    struct stat st;
    void *p;
    int rc = 0;
    /* NONBLOCK: the open of a FIFO without a writer returns at once, and is then refused below */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return err_set(e, ERR_IO, "cannot open: %s", strerror(errno));
    if (fstat(fd, &st) < 0) {
        rc = err_set(e, ERR_IO, "cannot stat: %s", strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        rc = err_set(e, ERR_IO, "is not a regular file");
    } else if (st.st_size > 0) {
        g->bytes = (size_t)st.st_size;
        p = mmap(NULL, g->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            rc = err_set(e, ERR_MEMORY, "cannot map %zu bytes: %s", g->bytes, strerror(errno));
        else
            g->data = p;
        g->mapped = !rc;
    }
    close(fd);
    return rc;
}

static struct gguf *gguf_new(const char *path)
{
    struct gguf *g = mem_zalloc(sizeof(*g));
    const char *slash = strrchr(path, '/');

    snprintf(g->name, sizeof(g->name), "%s", slash && slash[1] ? slash + 1 : path);
    return g;
}

int gguf_open(struct gguf **out, const char *path, struct err *e)
{
    struct gguf *g = gguf_new(path);
    int rc = gguf_map(g, path, e);

    *out = NULL;
    if (rc)
        err_wrap(e, "%s", path); /* which directory matters when there is nothing to open */
    else if ((rc = gguf_parse(g, e)) != 0)
        err_wrap(e, "%s", g->name);
    if (rc) {
        gguf_close(&g);
        return rc;
    }
    *out = g;
    return 0;
}

int gguf_open_bytes(struct gguf **out, const void *data, size_t n, const char *name, struct err *e)
{
    struct gguf *g = gguf_new(name);
    int rc;

    ASSERT((uintptr_t)data % 64 == 0);
    *out = NULL;
    g->data = data;
    g->bytes = n;
    rc = gguf_parse(g, e);
    if (rc) {
        err_wrap(e, "%s", g->name);
        gguf_close(&g);
        return rc;
    }
    *out = g;
    return 0;
}

void gguf_close(struct gguf **gp)
{
    struct gguf *g = *gp;

    if (!g)
        return;
    for (uint32_t i = 0; i < g->n_kv; i++) {
        mem_free((void *)g->kv[i].key);
        mem_free((void *)g->kv[i].values.strs);
    }
    for (uint32_t i = 0; i < g->n_tensors; i++)
        mem_free((void *)g->tensors[i].name);
    mem_free(g->kv);
    mem_free(g->tensors);
    mem_free(g->offsets);
    mem_free(g->kv_index);
    mem_free(g->tensor_index);
    if (g->mapped)
        munmap((void *)g->data, g->bytes);
    mem_free(g);
    *gp = NULL;
}

const char *gguf_name(const struct gguf *g) { return g->name; }
uint32_t gguf_version(const struct gguf *g) { return g->version; }
size_t gguf_file_bytes(const struct gguf *g) { return g->bytes; }
uint32_t gguf_alignment(const struct gguf *g) { return g->alignment; }
uint32_t gguf_n_kv(const struct gguf *g) { return g->n_kv; }

const struct gguf_kv *gguf_kv_at(const struct gguf *g, uint32_t i)
{
    ASSERT(i < g->n_kv);
    return &g->kv[i];
}

static int compare_to_name(const void *name, const void *entry)
{
    return strcmp(name, ((const struct gguf_index *)entry)->name);
}

static const struct gguf_index *index_find(const struct gguf_index *index, uint32_t n,
                                           const char *name)
{
    return bsearch(name, index, n, sizeof(*index), compare_to_name);
}

const struct gguf_kv *gguf_kv(const struct gguf *g, const char *key)
{
    const struct gguf_index *entry = index_find(g->kv_index, g->n_kv, key);

    return entry ? &g->kv[entry->i] : NULL;
}

/* The single value under the key; NULL with *rc set. */
static const struct gguf_array *gguf_value(const struct gguf *g, const char *key, int *rc,
                                           struct err *e)
{
    const struct gguf_kv *kv = gguf_kv(g, key);

    if (!kv)
        *rc = err_set(e, ERR_NOT_FOUND, "key \"%s\" is missing", key);
    else if (kv->is_array)
        *rc = err_set(e, ERR_FORMAT, "key \"%s\" is an array, one value is needed", key);
    return kv && !kv->is_array ? &kv->values : NULL;
}

static int wrong_type(const struct gguf_array *a, const char *key, const char *want, struct err *e)
{
    return err_set(e, ERR_FORMAT, "key \"%s\" is of type %s, %s is needed", key,
                   gguf_type_name(a->type), want);
}

static bool is_integer(uint32_t type)
{
    return type != GGUF_F32 && type != GGUF_F64 && type != GGUF_BOOL && type != GGUF_STR;
}

int gguf_u32(const struct gguf *g, const char *key, uint32_t *out, struct err *e)
{
    int rc = 0;
    const struct gguf_array *a = gguf_value(g, key, &rc, e);
    int64_t v;

    if (!a)
        return rc;
    if (!is_integer(a->type))
        return wrong_type(a, key, "an integer", e);
    v = gguf_array_i64(a, 0);
    if (a->type == GGUF_U64 && v < 0)
        return err_set(e, ERR_FORMAT, "key \"%s\" is %" PRIu64 ", the most is %u", key, (uint64_t)v,
                       UINT32_MAX);
    if (v < 0 || v > UINT32_MAX)
        return err_set(e, ERR_FORMAT, "key \"%s\" is %" PRId64 ", it has to be from 0 to %u", key,
                       v, UINT32_MAX);
    *out = (uint32_t)v;
    return 0;
}

int gguf_f32(const struct gguf *g, const char *key, float *out, struct err *e)
{
    int rc = 0;
    const struct gguf_array *a = gguf_value(g, key, &rc, e);

    if (!a)
        return rc;
    if (a->type != GGUF_F32 && a->type != GGUF_F64)
        return wrong_type(a, key, "a float", e);
    *out = (float)gguf_array_f64(a, 0);
    return 0;
}

int gguf_bool(const struct gguf *g, const char *key, bool *out, struct err *e)
{
    int rc = 0;
    const struct gguf_array *a = gguf_value(g, key, &rc, e);

    if (!a)
        return rc;
    if (a->type != GGUF_BOOL)
        return wrong_type(a, key, "a bool", e);
    *out = a->data[0] != 0;
    return 0;
}

int gguf_str(const struct gguf *g, const char *key, const char **s, size_t *n, struct err *e)
{
    int rc = 0;
    const struct gguf_array *a = gguf_value(g, key, &rc, e);

    if (!a)
        return rc;
    if (a->type != GGUF_STR)
        return wrong_type(a, key, "a string", e);
    gguf_array_str(a, 0, s, n);
    return 0;
}

int gguf_array(const struct gguf *g, const char *key, struct gguf_array *out, struct err *e)
{
    const struct gguf_kv *kv = gguf_kv(g, key);

    if (!kv)
        return err_set(e, ERR_NOT_FOUND, "key \"%s\" is missing", key);
    if (!kv->is_array)
        return wrong_type(&kv->values, key, "an array", e);
    *out = kv->values;
    return 0;
}

/* The bytes of element i, size each. */
static const uint8_t *element(const struct gguf_array *a, uint64_t i, size_t size)
{
    ASSERT(i < a->n && gguf_type_bytes(a->type) == size);
    return a->data + i * size;
}

void gguf_array_str(const struct gguf_array *a, uint64_t i, const char **s, size_t *n)
{
    uint64_t len;

    ASSERT(i < a->n && a->type == GGUF_STR);
    memcpy(&len, a->strs[i], sizeof(len));
    *s = (const char *)a->strs[i] + sizeof(len);
    *n = (size_t)len;
}

float gguf_array_f32(const struct gguf_array *a, uint64_t i)
{
    float v;

    ASSERT(a->type == GGUF_F32);
    memcpy(&v, element(a, i, sizeof(v)), sizeof(v));
    return v;
}

uint32_t gguf_array_u32(const struct gguf_array *a, uint64_t i)
{
    uint32_t v;

    ASSERT(a->type == GGUF_U32 || a->type == GGUF_I32);
    memcpy(&v, element(a, i, sizeof(v)), sizeof(v));
    return v;
}

int64_t gguf_array_i64(const struct gguf_array *a, uint64_t i)
{
    size_t size = gguf_type_bytes(a->type);
    int64_t v = 0;
    bool negative;

    ASSERT(is_integer(a->type) || a->type == GGUF_BOOL);
    memcpy(&v, element(a, i, size), size);
    if (size == sizeof(v) || a->type == GGUF_BOOL || a->type == GGUF_U8 || a->type == GGUF_U16 ||
        a->type == GGUF_U32)
        return v;
    negative = v >> (size * 8 - 1) & 1;
    return negative ? v - ((int64_t)1 << size * 8) : v;
}

double gguf_array_f64(const struct gguf_array *a, uint64_t i)
{
    double v;

    if (a->type == GGUF_F32)
        return (double)gguf_array_f32(a, i);
    ASSERT(a->type == GGUF_F64);
    memcpy(&v, element(a, i, sizeof(v)), sizeof(v));
    return v;
}

const char *gguf_type_name(uint32_t type)
{
    static const char *const names[GGUF_TYPE_COUNT] = {
#define X(number, name, size) [number] = (name),
        GGUF_TYPES(X)
#undef X
    };

    return type < GGUF_TYPE_COUNT ? names[type] : "unknown";
}

uint32_t gguf_n_tensors(const struct gguf *g) { return g->n_tensors; }

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, uint32_t i)
{
    ASSERT(i < g->n_tensors);
    return &g->tensors[i];
}

const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name)
{
    const struct gguf_index *entry = index_find(g->tensor_index, g->n_tensors, name);

    return entry ? &g->tensors[entry->i] : NULL;
}

uint64_t gguf_hash(const struct gguf *g)
{
    uint64_t h = hash64(g->data, g->directory_end, g->bytes);

    for (uint32_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        const uint8_t *p = t->data;
        size_t edge = size_min(t->bytes, HASH_EDGE_BYTES);

        h = hash64(p, edge, h);
        h = hash64(p + t->bytes - edge, edge, h);
    }
    return h;
}
