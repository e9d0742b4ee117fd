/* The first gate of the codec: one pass over the wire, before protobuf-c allocates for it.
 *
 * protobuf-c accepts what proto3 allows: unknown fields (kept on the heap), repeats (2 bytes of wire,
 * 40 of heap), numbers cut to 32 bits without a word, strings that end at an inner NUL. Both ends
 * speak exactly one version, so all of that is refused here. No message contains another: nothing
 * to recurse into. */
#include <string.h>

#include "base/check.h"
#include "net/codec_schema.h"

enum wire { WIRE_VARINT, WIRE_64, WIRE_BYTES, WIRE_32 = 5 };

struct scan {
    const uint8_t *p, *end;
};

/* At most 10 bytes and 64 bits. */
static bool take_varint(struct scan *s, uint64_t *out)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < 10 && s->p < s->end; i++) {
        uint8_t b = *s->p++;

        if (i == 9 && b > 1)
            return false;
        v |= (uint64_t)(b & 0x7f) << (7 * i);
        if (b < 0x80) {
            *out = v;
            return true;
        }
    }
    return false;
}

static enum wire wire_of(const ProtobufCFieldDescriptor *f)
{
    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        return WIRE_BYTES; /* packed numbers, or strings */
    switch (f->type) {
    case PROTOBUF_C_TYPE_FIXED64:
        return WIRE_64;
    case PROTOBUF_C_TYPE_FLOAT:
        return WIRE_32;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
        return WIRE_BYTES;
    default:
        return WIRE_VARINT;
    }
}

static bool varint_fits(const ProtobufCFieldDescriptor *f, uint64_t v)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_BOOL:
        return v <= 1;
    case PROTOBUF_C_TYPE_UINT32:
        return v <= UINT32_MAX;
    case PROTOBUF_C_TYPE_INT32: /* a negative one would be 10 bytes; none of ours is negative */
    case PROTOBUF_C_TYPE_ENUM:
        return v <= INT32_MAX;
    default:
        return true;
    }
}

/* Moves over n bytes; false if they are not all there. */
static bool skip(struct scan *s, uint64_t n)
{
    if (n > (uint64_t)(s->end - s->p))
        return false;
    s->p += n;
    return true;
}

/* Moves over the value of f and checks it. */
static int scan_value(struct scan *s, const char *msg, const ProtobufCFieldDescriptor *f,
                      struct err *e)
{
    uint64_t v = 0;
    bool whole;

    switch (wire_of(f)) {
    case WIRE_64:
        whole = skip(s, 8);
        break;
    case WIRE_32:
        whole = skip(s, 4);
        break;
    case WIRE_VARINT:
        whole = take_varint(s, &v);
        if (whole && !varint_fits(f, v))
            return err_set(e, ERR_LIMIT, "%s.%s does not fit its type", msg, f->name);
        break;
    default:
        whole = take_varint(s, &v) && skip(s, v);
        if (whole && f->type == PROTOBUF_C_TYPE_STRING && memchr(s->p - v, 0, (size_t)v))
            return err_set(e, ERR_FORMAT, "%s.%s has a NUL inside", msg, f->name);
        if (whole && f->type == PROTOBUF_C_TYPE_FIXED32 && v % 4 != 0)
            return err_set(e, ERR_FORMAT, "%s.%s is no whole number of tokens", msg, f->name);
    }
    return whole ? 0 : err_set(e, ERR_FORMAT, "%s.%s ends early", msg, f->name);
}

int codec_scan(const ProtobufCMessageDescriptor *pb, const uint8_t *p, size_t n, struct err *e)
{
    uint32_t seen[CODEC_FIELDS_MAX] = {0};
    struct scan s = {p, n > 0 ? p + n : p}; /* an empty frame may be NULL */

    while (s.p < s.end) {
        const ProtobufCFieldDescriptor *f;
        uint64_t tag;
        uint32_t repeats;
        int rc;

        if (!take_varint(&s, &tag))
            return err_set(e, ERR_FORMAT, "%s: a field tag ends early", pb->short_name);
        f = tag >> 3 <= UINT32_MAX
                ? protobuf_c_message_descriptor_get_field(pb, (unsigned)(tag >> 3))
                : NULL;
        if (!f)
            return err_set(e, ERR_FORMAT, "%s has no field %llu", pb->short_name,
                           (unsigned long long)(tag >> 3));
        if ((enum wire)(tag & 7) != wire_of(f))
            return err_set(e, ERR_FORMAT, "%s.%s has wire type %u, not %u", pb->short_name, f->name,
                           (unsigned)(tag & 7), wire_of(f));
        repeats = f->label == PROTOBUF_C_LABEL_REPEATED && f->type == PROTOBUF_C_TYPE_STRING
                      ? MSG_STOPS_MAX
                      : 1;
        if (seen[f - pb->fields]++ == repeats)
            return err_set(e, ERR_FORMAT, "%s.%s comes more than %u times", pb->short_name, f->name,
                           repeats);
        rc = scan_value(&s, pb->short_name, f, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}
