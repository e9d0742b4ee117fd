/* DESIGN. One pass with a cursor that cannot leave the file: every read goes through cursor_take,
 * which compares with what is left. Counts are compared with their limit and with what could fit
 * into the rest of the file before anything of that size is allocated, so memory stays in
 * proportion to the file.
 *
 *   header     magic u32, version u32, n_tensors u64, n_kv u64
 *   n_kv x     key string, type u32, value        string = length u64, bytes
 *   n_tensors x name string, n_dims u32, ne u64[n_dims], type u32, offset u64
 *   padding to general.alignment
 *   data       each tensor at its offset, a multiple of general.alignment
 */
#include "model/gguf_parse.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/dtype.h"

_Static_assert(sizeof(size_t) == 8, "offsets of the file are held in size_t");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "values are copied as they lie in the file");

#define GGUF_MAGIC "GGUF"
#define GGUF_HEADER_BYTES 24
#define GGUF_ALIGN_DEFAULT 32
/* the shortest forms: a key and a value of one byte each; a name of one byte, one dimension */
#define GGUF_KV_BYTES_MIN (8 + 1 + 4 + 1)
#define GGUF_TENSOR_BYTES_MIN (8 + 1 + 4 + 8 + 4 + 8)

struct cursor {
    const uint8_t *data;
    size_t pos, end;
    char where[GGUF_KEY_BYTES_MAX + 32]; /* what is being read, for sentences */
};

/* The next n bytes, which are then passed; NULL (ERR_FORMAT) if the file has fewer. */
static const uint8_t *cursor_take(struct cursor *c, uint64_t n, struct err *e)
{
    const uint8_t *p = c->data + c->pos;

    if (n > c->end - c->pos) {
        err_set(e, ERR_FORMAT, "%s needs %" PRIu64 " bytes at byte %zu, the file has %zu", c->where,
                n, c->pos, c->end);
        return NULL;
    }
    c->pos += (size_t)n;
    return p;
}

static int cursor_u32(struct cursor *c, uint32_t *v, struct err *e)
{
    const uint8_t *p = cursor_take(c, sizeof(*v), e);

    if (!p)
        return ERR_FORMAT;
    memcpy(v, p, sizeof(*v));
    return 0;
}

static int cursor_u64(struct cursor *c, uint64_t *v, struct err *e)
{
    const uint8_t *p = cursor_take(c, sizeof(*v), e);

    if (!p)
        return ERR_FORMAT;
    memcpy(v, p, sizeof(*v));
    return 0;
}

/* The bytes of a string of at most max; NULL with *rc set. */
static const uint8_t *cursor_str(struct cursor *c, uint64_t *n, size_t max, int *rc, struct err *e)
{
    const uint8_t *p;

    *rc = cursor_u64(c, n, e);
    if (*rc)
        return NULL;
    if (*n > max) {
        *rc = err_set(e, ERR_LIMIT, "%s holds a string of %" PRIu64 " bytes, the limit is %zu",
                      c->where, *n, max);
        return NULL;
    }
    p = cursor_take(c, *n, e);
    *rc = p ? 0 : ERR_FORMAT;
    return p;
}

/* A key or a tensor's name: not empty, and printable so that it may stand in a sentence. *name is
 * owned by the caller. */
static int cursor_name(struct cursor *c, const char **name, size_t max, struct err *e)
{
    uint64_t n = 0;
    int rc;
    const uint8_t *p = cursor_str(c, &n, max, &rc, e);

    if (!p)
        return rc;
    if (n == 0)
        return err_set(e, ERR_FORMAT, "%s has an empty name", c->where);
    for (size_t i = 0; i < n; i++) {
        if (p[i] < 0x20 || p[i] > 0x7e)
            return err_set(e, ERR_FORMAT, "%s has byte 0x%02x in its name, only ASCII is allowed",
                           c->where, p[i]);
    }
    *name = mem_strndup((const char *)p, (size_t)n);
    return 0;
}

static int parse_count(uint32_t *out, uint64_t n, uint32_t max, size_t room, const char *what,
                       struct err *e)
{
    if (n > max)
        return err_set(e, ERR_LIMIT, "the header announces %" PRIu64 " %s, the limit is %" PRIu32,
                       n, what, max);
    if (n > room)
        return err_set(e, ERR_FORMAT,
                       "the header announces %" PRIu64 " %s, the file has room for %zu", n, what,
                       room);
    *out = (uint32_t)n;
    return 0;
}

static int parse_header(struct gguf *g, struct cursor *c, uint32_t *n_tensors, uint32_t *n_kv,
                        struct err *e)
{
    const uint8_t *magic;
    uint64_t tensors, kv;
    size_t room;
    int rc;

    if (c->end < GGUF_HEADER_BYTES)
        return err_set(e, ERR_FORMAT, "has %zu bytes, the header of a GGUF file has %d", c->end,
                       GGUF_HEADER_BYTES);
    magic = cursor_take(c, 4, e); /* not NULL, nor do the next three fail: see above */
    if (memcmp(magic, GGUF_MAGIC, 4) != 0)
        return err_set(e, ERR_FORMAT,
                       "starts with bytes %02x %02x %02x %02x, a GGUF file with 47 47 55 46",
                       magic[0], magic[1], magic[2], magic[3]);
    cursor_u32(c, &g->version, e);
    if (__builtin_bswap32(g->version) >= 1 && __builtin_bswap32(g->version) <= 3)
        return err_set(e, ERR_UNSUPPORTED, "is a big-endian GGUF file; only little endian is read");
    if (g->version != 2 && g->version != 3)
        return err_set(e, ERR_UNSUPPORTED,
                       "has GGUF version %" PRIu32 "; versions 2 and 3 are read", g->version);
    cursor_u64(c, &tensors, e);
    cursor_u64(c, &kv, e);
    room = c->end - c->pos;
    rc = parse_count(n_kv, kv, GGUF_KV_MAX, room / GGUF_KV_BYTES_MIN, "keys", e);
    if (rc)
        return rc;
    room -= *n_kv * (size_t)GGUF_KV_BYTES_MIN;
    return parse_count(n_tensors, tensors, GGUF_TENSORS_MAX, room / GGUF_TENSOR_BYTES_MIN,
                       "tensors", e);
}

static int parse_bools(const struct cursor *c, const uint8_t *p, uint64_t n, struct err *e)
{
    for (uint64_t i = 0; i < n; i++) {
        if (p[i] > 1)
            return err_set(e, ERR_FORMAT, "%s holds a bool of value %u", c->where, p[i]);
    }
    return 0;
}

/* The elements of an array of strings lie one after another; their starts are noted, so that
 * element i is found at once. */
static int parse_strings(struct cursor *c, struct gguf_array *a, struct err *e)
{
    const uint8_t **strs;
    uint64_t len;

    if (a->n > (c->end - c->pos) / sizeof(uint64_t))
        return err_set(e, ERR_FORMAT, "%s is an array of %" PRIu64 " strings, the file ends sooner",
                       c->where, a->n);
    a->strs = strs = mem_calloc((size_t)a->n, sizeof(*strs));
    for (uint64_t i = 0; i < a->n; i++) {
        int rc;

        strs[i] = c->data + c->pos;
        if (!cursor_str(c, &len, GGUF_STR_BYTES_MAX, &rc, e))
            return rc;
    }
    return 0;
}

/* The a->n values of a->type at the cursor. */
static int parse_values(struct cursor *c, struct gguf_array *a, struct err *e)
{
    a->data = c->data + c->pos;
    if (a->type == GGUF_STR)
        return parse_strings(c, a, e);
    if (!cursor_take(c, a->n * gguf_type_bytes(a->type), e)) /* n is under its limit */
        return ERR_FORMAT;
    return a->type == GGUF_BOOL ? parse_bools(c, a->data, a->n, e) : 0;
}

static int parse_kv(struct gguf_kv *kv, struct cursor *c, uint32_t i, struct err *e)
{
    struct gguf_array *a = &kv->values;
    int rc;

    snprintf(c->where, sizeof(c->where), "key %" PRIu32, i);
    rc = cursor_name(c, &kv->key, GGUF_KEY_BYTES_MAX, e);
    if (rc)
        return rc;
    snprintf(c->where, sizeof(c->where), "key \"%s\"", kv->key);
    rc = cursor_u32(c, &a->type, e);
    if (rc)
        return rc;
    a->n = 1;
    kv->is_array = a->type == GGUF_ARRAY;
    if (kv->is_array) {
        rc = cursor_u32(c, &a->type, e);
        if (!rc)
            rc = cursor_u64(c, &a->n, e);
        if (rc)
            return rc;
        if (a->type == GGUF_ARRAY)
            return err_set(e, ERR_LIMIT, "%s is an array of arrays; arrays of values are read",
                           c->where);
        if (a->n > GGUF_ARRAY_MAX)
            return err_set(e, ERR_LIMIT, "%s is an array of %" PRIu64 " values, the limit is %zu",
                           c->where, a->n, GGUF_ARRAY_MAX);
    }
    if (a->type >= GGUF_TYPE_COUNT)
        return err_set(e, ERR_FORMAT, "%s has value type %" PRIu32 ", the largest is %d", c->where,
                       a->type, GGUF_TYPE_COUNT - 1);
    return parse_values(c, a, e);
}

static int parse_alignment(struct gguf *g, struct err *e)
{
    const struct gguf_kv *kv = gguf_kv(g, "general.alignment");

    g->alignment = GGUF_ALIGN_DEFAULT;
    if (!kv)
        return 0;
    if (kv->is_array || kv->values.type != GGUF_U32)
        return err_set(e, ERR_FORMAT, "key \"general.alignment\" is %s%s, it has to be u32",
                       kv->is_array ? "an array of " : "", gguf_type_name(kv->values.type));
    g->alignment = gguf_array_u32(&kv->values, 0);
    if (g->alignment < GGUF_ALIGN_MIN || g->alignment > GGUF_ALIGN_MAX ||
        (g->alignment & (g->alignment - 1)))
        return err_set(e, ERR_FORMAT,
                       "key \"general.alignment\" is %" PRIu32
                       ", it has to be a power of two from %d "
                       "to %d",
                       g->alignment, GGUF_ALIGN_MIN, GGUF_ALIGN_MAX);
    return 0;
}

/* type and ne are read: checks them against each other and sets the size. */
static int tensor_size(struct gguf_tensor *t, struct err *e)
{
    const struct dtype_info *d = dtype_info(t->type);
    size_t rows;

    if (!d)
        return err_set(e, ERR_FORMAT, "tensor \"%s\" has type %" PRIu32 ", which no GGUF type has",
                       t->name, t->type);
    if (!d->block_elems)
        return err_set(e, ERR_UNSUPPORTED,
                       "tensor \"%s\" is %s, a type that was removed from the format", t->name,
                       d->name);
    for (uint32_t i = 0; i < t->n_dims; i++) {
        if (t->ne[i] == 0)
            return err_set(e, ERR_FORMAT, "tensor \"%s\" has 0 elements in dimension %" PRIu32,
                           t->name, i);
    }
    if (t->ne[0] % d->block_elems)
        return err_set(e, ERR_FORMAT,
                       "tensor \"%s\" has rows of %" PRIu64 " elements, %s needs a multiple of "
                       "%" PRIu32,
                       t->name, t->ne[0], d->name, d->block_elems);
    if (!size_mul(&rows, t->ne[1], t->ne[2]) || !size_mul(&rows, rows, t->ne[3]) ||
        !size_mul(&t->bytes, t->ne[0] / d->block_elems, d->block_bytes) ||
        !size_mul(&t->bytes, t->bytes, rows) ||
        !size_add(&t->bytes, t->bytes, dtype_tail_bytes(t->type)))
        return err_set(e, ERR_FORMAT,
                       "tensor \"%s\" has %" PRIu64 " x %" PRIu64 " x %" PRIu64 " x %" PRIu64
                       " elements, more than any file holds",
                       t->name, t->ne[0], t->ne[1], t->ne[2], t->ne[3]);
    return 0;
}

static int parse_tensor(struct gguf_tensor *t, uint64_t *offset, struct cursor *c, uint32_t i,
                        struct err *e)
{
    int rc;

    snprintf(c->where, sizeof(c->where), "tensor %" PRIu32, i);
    rc = cursor_name(c, &t->name, GGUF_NAME_BYTES_MAX, e);
    if (rc)
        return rc;
    snprintf(c->where, sizeof(c->where), "tensor \"%s\"", t->name);
    rc = cursor_u32(c, &t->n_dims, e);
    if (rc)
        return rc;
    if (t->n_dims < 1 || t->n_dims > GGUF_DIMS_MAX)
        return err_set(e, ERR_FORMAT, "%s has %" PRIu32 " dimensions, 1 to %d are possible",
                       c->where, t->n_dims, GGUF_DIMS_MAX);
    for (uint32_t d = 0; d < GGUF_DIMS_MAX && !rc; d++) {
        t->ne[d] = 1;
        if (d < t->n_dims)
            rc = cursor_u64(c, &t->ne[d], e);
    }
    if (!rc)
        rc = cursor_u32(c, &t->type, e);
    if (!rc)
        rc = cursor_u64(c, offset, e);
    return rc ? rc : tensor_size(t, e);
}

static int tensor_place(const struct gguf *g, struct gguf_tensor *t, uint64_t offset, struct err *e)
{
    size_t start, end;

    if (offset % g->alignment)
        return err_set(e, ERR_FORMAT,
                       "tensor \"%s\" is at offset %" PRIu64 ", which is no multiple of %" PRIu32,
                       t->name, offset, g->alignment);
    if (!size_add(&start, g->data_start, offset) || !size_add(&end, start, t->bytes))
        return err_set(e, ERR_FORMAT,
                       "tensor \"%s\" has %zu bytes at offset %" PRIu64
                       ", more than any file holds",
                       t->name, t->bytes, offset);
    if (end > g->bytes)
        return err_set(e, ERR_FORMAT, "tensor \"%s\" ends at byte %zu, the file has %zu", t->name,
                       end, g->bytes);
    t->data = g->data + start;
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct gguf_index *)a)->name, ((const struct gguf_index *)b)->name);
}

/* Sorts; what: "key" or "tensor". */
static int index_sort(struct gguf_index *index, uint32_t n, const char *what, struct err *e)
{
    qsort(index, n, sizeof(*index), compare_names);
    for (uint32_t i = 1; i < n; i++) {
        if (strcmp(index[i - 1].name, index[i].name) == 0)
            return err_set(e, ERR_FORMAT, "%s \"%s\" occurs twice", what, index[i].name);
    }
    return 0;
}

struct extent {
    size_t start, end;
    const char *name;
};

static int compare_extents(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;

    return (x->start > y->start) - (x->start < y->start);
}

/* Two tensors that share bytes are no mistake a writer makes; the order of the data is free. */
static int check_overlap(const struct gguf *g, struct err *e)
{
    struct extent *x = mem_calloc(g->n_tensors, sizeof(*x));
    int rc = 0;

    for (uint32_t i = 0; i < g->n_tensors; i++) {
        x[i].start = g->data_start + g->offsets[i];
        x[i].end = x[i].start + g->tensors[i].bytes;
        x[i].name = g->tensors[i].name;
    }
    qsort(x, g->n_tensors, sizeof(*x), compare_extents);
    for (uint32_t i = 1; i < g->n_tensors && !rc; i++) {
        if (x[i].start < x[i - 1].end)
            rc = err_set(e, ERR_FORMAT,
                         "tensors \"%s\" and \"%s\" overlap: the one ends at byte %zu, the other "
                         "starts at %zu",
                         x[i - 1].name, x[i].name, x[i - 1].end, x[i].start);
    }
    mem_free(x);
    return rc;
}

static int parse_metadata(struct gguf *g, struct cursor *c, uint32_t n, struct err *e)
{
    int rc;

    g->kv = mem_calloc(n, sizeof(*g->kv));
    g->kv_index = mem_calloc(n, sizeof(*g->kv_index));
    for (uint32_t i = 0; i < n; i++) {
        g->n_kv = i + 1;
        rc = parse_kv(&g->kv[i], c, i, e);
        if (rc)
            return rc;
        g->kv_index[i] = (struct gguf_index){g->kv[i].key, i};
    }
    rc = index_sort(g->kv_index, n, "key", e);
    return rc ? rc : parse_alignment(g, e);
}

static int parse_directory(struct gguf *g, struct cursor *c, uint32_t n, struct err *e)
{
    int rc;

    g->tensors = mem_calloc(n, sizeof(*g->tensors));
    g->offsets = mem_calloc(n, sizeof(*g->offsets));
    g->tensor_index = mem_calloc(n, sizeof(*g->tensor_index));
    for (uint32_t i = 0; i < n; i++) {
        g->n_tensors = i + 1;
        rc = parse_tensor(&g->tensors[i], &g->offsets[i], c, i, e);
        if (rc)
            return rc;
        g->tensor_index[i] = (struct gguf_index){g->tensors[i].name, i};
    }
    g->directory_end = c->pos;
    g->data_start = size_round_up(c->pos, g->alignment);
    for (uint32_t i = 0; i < n; i++) {
        rc = tensor_place(g, &g->tensors[i], g->offsets[i], e);
        if (rc)
            return rc;
    }
    rc = check_overlap(g, e);
    return rc ? rc : index_sort(g->tensor_index, n, "tensor", e);
}

uint32_t gguf_type_bytes(uint32_t type)
{
    static const uint8_t bytes[GGUF_TYPE_COUNT] = {
#define X(number, name, size) [number] = (size),
        GGUF_TYPES(X)
#undef X
    };

    return type < GGUF_TYPE_COUNT ? bytes[type] : 0;
}

int gguf_parse(struct gguf *g, struct err *e)
{
    struct cursor c = {.data = g->data, .end = g->bytes, .where = "the header"};
    uint32_t n_tensors = 0, n_kv = 0;
    int rc = parse_header(g, &c, &n_tensors, &n_kv, e);

    if (!rc)
        rc = parse_metadata(g, &c, n_kv, e);
    if (!rc)
        rc = parse_directory(g, &c, n_tensors, e);
    return rc;
}
