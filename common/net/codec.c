#include "net/codec.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "net/codec_schema.h"

/* Heap that protobuf-c may take for one message: what the wire carries, once for lists and text, the
 * NUL of each string, and the struct. codec_scan leaves nothing that could multiply. */
#define BUDGET_BYTES(wire) (2 * (wire) + (64u << 10))

/* The second gate. */
struct budget {
    size_t left;
};

static void *budget_alloc(void *ctx, size_t size)
{
    struct budget *b = ctx;

    if (size > b->left)
        return NULL;
    b->left -= size;
    return mem_alloc(size);
}

static void budget_free(void *ctx, void *p)
{
    (void)ctx; /* not given back: the budget bounds the sum, so fragmentation cannot beat it */
    mem_free(p);
}

static const struct codec_message *message_of(enum msg_type type)
{
    for (size_t i = 0; i < codec_n_messages; i++)
        if (codec_messages[i].type == type)
            return &codec_messages[i];
    return NULL;
}

/* Views of a field on either side. */
#define PB(type, f, pb) ((type *)(void *)((char *)(pb) + (f)->pb_at))
#define PB_COUNT(f, pb) ((size_t *)(void *)((char *)(pb) + (f)->pb_count_at))
#define M(type, f, m) ((type *)(void *)((char *)(m) + (f)->at))
#define M_COUNT(type, f, m) ((type *)(void *)((char *)(m) + (f)->count_at))

/* The third gate, for both directions. */

static int check_number(const struct codec_message *cm, const struct codec_field *f, uint64_t v,
                        struct err *e)
{
    if (v < f->min || v > f->max)
        return err_set(e, ERR_LIMIT, "%s.%s is %" PRIu64 ", not %" PRIu64 " .. %" PRIu64,
                       msg_type_name(cm->type), f->name, v, f->min, f->max);
    return 0;
}

static int check_count(const struct codec_message *cm, const struct codec_field *f, uint64_t n,
                       struct err *e)
{
    if (n < f->min || n > f->max)
        return err_set(e, ERR_LIMIT, "%s.%s has length %" PRIu64 ", not %" PRIu64 " .. %" PRIu64,
                       msg_type_name(cm->type), f->name, n, f->min, f->max);
    return 0;
}

static int check_name(const struct codec_message *cm, const struct codec_field *f, const char *s,
                      struct err *e)
{
    for (const char *c = s; *c; c++)
        if (*c <= ' ' || *c > '~')
            return err_set(e, ERR_FORMAT, "%s.%s has byte 0x%02x, names are printable ASCII",
                           msg_type_name(cm->type), f->name, (unsigned char)*c);
    return check_count(cm, f, strlen(s), e);
}

/* The i-th string of a CODEC_STRINGS field. */
static char *string_at(const struct codec_field *f, const struct msg *m, size_t i)
{
    return M(char, f, m) + i * MSG_STOP_BYTES_MAX;
}

static int check_strings(const struct codec_message *cm, const struct codec_field *f,
                         const struct msg *m, struct err *e)
{
    uint32_t n = *M_COUNT(const uint32_t, f, m);
    int rc = check_count(cm, f, n, e);

    for (uint32_t i = 0; rc == 0 && i < n; i++)
        if (*string_at(f, m, i) == '\0')
            rc = err_set(e, ERR_FORMAT, "%s.%s[%u] is empty", msg_type_name(cm->type), f->name, i);
    return rc;
}

static int check_float(const struct codec_message *cm, const struct codec_field *f, float v,
                       struct err *e)
{
    if (!(v >= f->lo && v <= f->hi)) /* a NaN fails too */
        return err_set(e, ERR_LIMIT, "%s.%s is %g, not %g .. %g", msg_type_name(cm->type), f->name,
                       (double)v, (double)f->lo, (double)f->hi);
    return 0;
}

static int check_field(const struct codec_message *cm, const struct codec_field *f,
                       const struct msg *m, struct err *e)
{
    switch (f->kind) {
    case CODEC_U32:
        return check_number(cm, f, *M(const uint32_t, f, m), e);
    case CODEC_U64:
        return check_number(cm, f, *M(const uint64_t, f, m), e);
    case CODEC_I32: /* a negative one becomes larger than any max */
    case CODEC_ENUM:
        return check_number(cm, f, (uint64_t)(int64_t)*M(const int32_t, f, m), e);
    case CODEC_I64:
        return check_number(cm, f, (uint64_t)*M(const int64_t, f, m), e);
    case CODEC_F32:
        return check_float(cm, f, *M(const float, f, m), e);
    case CODEC_NAME:
        return check_name(cm, f, M(const char, f, m), e);
    case CODEC_LIST:
    case CODEC_ARRAY:
        return check_count(cm, f, *M_COUNT(const uint32_t, f, m), e);
    case CODEC_BYTES:
        return check_count(cm, f, *M_COUNT(const size_t, f, m), e);
    case CODEC_STRINGS:
        return check_strings(cm, f, m, e);
    case CODEC_BOOL:
    case CODEC_TEXT:
        return 0;
    }
    UNREACHABLE();
}

static int check_message(const struct codec_message *cm, const struct msg *m, struct err *e)
{
    for (size_t i = 0; i < cm->n_fields; i++) {
        int rc = check_field(cm, &cm->fields[i], m, e);

        if (rc < 0)
            return rc;
    }
    return cm->check ? cm->check(m, e) : 0;
}

/* Text for people goes into logs and JSON: control characters and what is no UTF-8 become '?'. */
static void text_clean(char *text)
{
    size_t n = strlen(text), len;
    uint32_t point;

    for (size_t i = 0; i < n; i += len) {
        bool whole = utf8_step(text + i, n - i, &len, &point) == UTF8_OK;

        if (whole && point >= ' ' && point != 0x7f)
            continue;
        text[i] = '?';
        len = 1; /* a '?' for each byte */
    }
}

/* struct msg -> generated struct. The result borrows from m and from room. */

struct room {
    char text[MSG_TEXT_MAX];
    char *strings[MSG_STOPS_MAX];
};

static void fill_field(void *pb, const struct codec_field *f, const struct msg *m,
                       struct room *room)
{
    switch (f->kind) {
    case CODEC_U32:
    case CODEC_I32:
    case CODEC_ENUM:
    case CODEC_F32:
        memcpy(PB(void, f, pb), M(const void, f, m), 4);
        break;
    case CODEC_U64:
    case CODEC_I64:
        memcpy(PB(void, f, pb), M(const void, f, m), 8);
        break;
    case CODEC_BOOL:
        *PB(protobuf_c_boolean, f, pb) = *M(const bool, f, m);
        break;
    case CODEC_NAME:
        *PB(const char *, f, pb) = M(const char, f, m);
        break;
    case CODEC_TEXT: /* a message has one at most, so one room is enough */
        snprintf(room->text, sizeof(room->text), "%s", M(const char, f, m));
        text_clean(room->text);
        *PB(char *, f, pb) = room->text;
        break;
    case CODEC_LIST:
        *PB_COUNT(f, pb) = *M_COUNT(const uint32_t, f, m);
        *PB(uint32_t *, f, pb) = *M(uint32_t *const, f, m);
        break;
    case CODEC_ARRAY:
        *PB_COUNT(f, pb) = *M_COUNT(const uint32_t, f, m);
        *PB(const uint32_t *, f, pb) = M(const uint32_t, f, m);
        break;
    case CODEC_BYTES:
        PB(ProtobufCBinaryData, f, pb)->len = *M_COUNT(const size_t, f, m);
        PB(ProtobufCBinaryData, f, pb)->data = *M(uint8_t *const, f, m);
        break;
    case CODEC_STRINGS:
        *PB_COUNT(f, pb) = *M_COUNT(const uint32_t, f, m);
        for (uint32_t i = 0; i < *M_COUNT(const uint32_t, f, m); i++)
            room->strings[i] = string_at(f, m, i);
        *PB(char **, f, pb) = room->strings;
        break;
    }
}

/* Generated struct -> struct msg. Owned memory moves, so pb loses it. */

static int read_chars(char *out, size_t size, const struct codec_message *cm,
                      const struct codec_field *f, const char *s, struct err *e)
{
    size_t n = strlen(s);

    if (n >= size)
        return err_set(e, ERR_LIMIT, "%s.%s has %zu bytes, at most %zu", msg_type_name(cm->type),
                       f->name, n, size - 1);
    memcpy(out, s, n + 1);
    return 0;
}

static int read_strings(struct msg *m, const struct codec_message *cm, const struct codec_field *f,
                        void *pb, struct err *e)
{
    size_t n = *PB_COUNT(f, pb);
    int rc = check_count(cm, f, n, e);

    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = read_chars(string_at(f, m, i), MSG_STOP_BYTES_MAX, cm, f, (*PB(char **, f, pb))[i], e);
    if (rc == 0)
        *M_COUNT(uint32_t, f, m) = (uint32_t)n;
    return rc;
}

static void read_bytes(struct msg *m, const struct codec_field *f, void *pb)
{
    ProtobufCBinaryData *b = PB(ProtobufCBinaryData, f, pb);
    char *text;

    if (b->len == 0)
        return; /* stays NULL */
    text = mem_realloc(b->data, b->len + 1);
    text[b->len] = '\0';
    *M(char *, f, m) = text;
    *M_COUNT(size_t, f, m) = b->len;
    *b = (ProtobufCBinaryData){0, NULL};
}

static int read_list(struct msg *m, const struct codec_message *cm, const struct codec_field *f,
                     void *pb, struct err *e)
{
    size_t n = *PB_COUNT(f, pb);
    uint32_t **list = PB(uint32_t *, f, pb);
    int rc = check_count(cm, f, n, e);

    if (rc < 0)
        return rc;
    *M_COUNT(uint32_t, f, m) = (uint32_t)n;
    if (f->kind == CODEC_ARRAY) {
        if (n > 0)
            memcpy(M(uint32_t, f, m), *list, n * sizeof(**list));
        return 0;
    }
    *M(uint32_t *, f, m) = *list;
    *list = NULL;
    *PB_COUNT(f, pb) = 0;
    return 0;
}

static int read_field(struct msg *m, const struct codec_message *cm, const struct codec_field *f,
                      void *pb, struct err *e)
{
    int rc = 0;

    switch (f->kind) {
    case CODEC_U32:
    case CODEC_I32:
    case CODEC_ENUM:
    case CODEC_F32:
        memcpy(M(void, f, m), PB(void, f, pb), 4);
        break;
    case CODEC_U64:
    case CODEC_I64:
        memcpy(M(void, f, m), PB(void, f, pb), 8);
        break;
    case CODEC_BOOL:
        *M(bool, f, m) = *PB(protobuf_c_boolean, f, pb);
        break;
    case CODEC_NAME:
        rc = read_chars(M(char, f, m), f->max + 1, cm, f, *PB(char *, f, pb), e);
        break;
    case CODEC_TEXT:
        rc = read_chars(M(char, f, m), f->max + 1, cm, f, *PB(char *, f, pb), e);
        text_clean(M(char, f, m));
        break;
    case CODEC_LIST:
    case CODEC_ARRAY:
        rc = read_list(m, cm, f, pb, e);
        break;
    case CODEC_BYTES:
        read_bytes(m, f, pb);
        break;
    case CODEC_STRINGS:
        rc = read_strings(m, cm, f, pb, e);
        break;
    }
    return rc;
}

/* protobuf-c writes through this into a str. */
struct sink {
    ProtobufCBuffer base;
    struct str *out;
};

static void sink_append(ProtobufCBuffer *b, size_t n, const uint8_t *data)
{
    str_add(((struct sink *)(void *)b)->out, data, n);
}

int codec_encode(struct str *out, const struct msg *m, struct err *e)
{
    const struct codec_message *cm = message_of(m->type);
    union {
        ProtobufCMessage base;
        max_align_t align;
        uint8_t bytes[CODEC_PB_BYTES];
    } pb;
    struct sink sink = {{sink_append}, out};
    struct room room;
    int rc;

    if (!cm)
        return err_set(e, ERR_ARG, "%d is no message type", (int)m->type);
    rc = check_message(cm, m, e);
    if (rc < 0)
        return rc;
    ASSERT(cm->pb->sizeof_message <= sizeof(pb));
    cm->pb->message_init(&pb.base);
    for (size_t i = 0; i < cm->n_fields; i++)
        fill_field(&pb, &cm->fields[i], m, &room);
    protobuf_c_message_pack_to_buffer(&pb.base, &sink.base);
    return 0;
}

int codec_decode(struct msg *m, enum msg_type type, const void *data, size_t size, struct err *e)
{
    const struct codec_message *cm = message_of(type);
    struct budget budget = {BUDGET_BYTES(size)};
    ProtobufCAllocator allocator = {budget_alloc, budget_free, &budget};
    ProtobufCMessage *pb;
    int rc;

    memset(m, 0, sizeof(*m));
    if (!cm)
        return err_set(e, ERR_UNSUPPORTED, "message type %d is unknown", (int)type);
    if (size > CODEC_FRAME_MAX)
        return err_set(e, ERR_LIMIT, "%s has %zu bytes, at most %zu", msg_type_name(type), size,
                       CODEC_FRAME_MAX);
    rc = codec_scan(cm->pb, data, size, e);
    if (rc < 0)
        return rc;
    pb = protobuf_c_message_unpack(cm->pb, &allocator, size, data);
    if (!pb)
        return err_set(e, ERR_FORMAT, "%s of %zu bytes does not unpack", msg_type_name(type), size);
    m->type = type;
    for (size_t i = 0; rc == 0 && i < cm->n_fields; i++)
        rc = read_field(m, cm, &cm->fields[i], pb, e);
    protobuf_c_message_free_unpacked(pb, &allocator);
    if (rc == 0)
        rc = check_message(cm, m, e);
    if (rc < 0)
        msg_fini(m);
    return rc;
}

void codec_header(uint8_t out[CODEC_HEADER_BYTES], enum msg_type type)
{
    uint8_t h[CODEC_HEADER_BYTES] = {'T', 'D', MSG_PROTOCOL, 0, (uint8_t)type, (uint8_t)(type >> 8)};

    memcpy(out, h, sizeof(h));
}

static int header_type(enum msg_type *type, const struct codec_frame *f, struct err *e)
{
    const uint8_t *h = f->data;

    if (f->size != CODEC_HEADER_BYTES || h[0] != 'T' || h[1] != 'D')
        return err_set(e, ERR_FORMAT, "first frame of %zu bytes is no header of ours", f->size);
    *type = (enum msg_type)(h[4] | h[5] << 8);
    if (h[2] != MSG_PROTOCOL && *type != MSG_REFUSED)
        return err_set(e, ERR_PEER, "peer speaks protocol %u, we speak %u", h[2], MSG_PROTOCOL);
    if (h[3] || h[6] || h[7])
        return err_set(e, ERR_FORMAT, "reserved bytes of the header are not zero");
    return 0;
}

int codec_decode_frames(struct msg *m, const struct codec_frame *frames, size_t n_frames,
                        struct err *e)
{
    enum msg_type type = 0;
    size_t want;
    int rc;

    memset(m, 0, sizeof(*m));
    if (n_frames == 0)
        return err_set(e, ERR_FORMAT, "message without frames");
    rc = header_type(&type, &frames[0], e);
    if (rc < 0)
        return rc;
    want = type == MSG_KV_PAGE ? 3 : 2;
    if (n_frames != want)
        return err_set(e, ERR_FORMAT, "%s has %zu frames, not %zu", msg_type_name(type), n_frames,
                       want);
    if (want == 3 && (frames[2].size == 0 || frames[2].size > MSG_BULK_MAX))
        return err_set(e, ERR_LIMIT, "%s has %zu bytes of KV, not 1 .. %u", msg_type_name(type),
                       frames[2].size, MSG_BULK_MAX);
    rc = codec_decode(m, type, frames[1].data, frames[1].size, e);
    if (rc == 0 && want == 3) {
        m->u.page.bulk.data = frames[2].data;
        m->u.page.bulk.size = frames[2].size;
    }
    return rc;
}
