/* codec_schema: one row for each field of each message: where it is in the protobuf struct, where in
 * struct msg, and its bounds. codec.c walks the rows both ways. Constant data, any thread. */
#ifndef TANDEM_NET_CODEC_SCHEMA_H
#define TANDEM_NET_CODEC_SCHEMA_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "net/msg.h"

/* Bounds that msg.h does not name. The receiver compares with its own model anyway; these only keep
 * sums and products of a few fields far from overflow. */
#define CODEC_LAYERS_MAX 4096
#define CODEC_HEADS_MAX 4096
#define CODEC_HEAD_DIM_MAX 4096
#define CODEC_PAGE_TOKENS_MAX 4096
#define CODEC_SLOTS_MAX 65536
#define CODEC_CORES_MAX 65536
#define CODEC_BEAT_MS_MIN 10
#define CODEC_DEAD_MS_MAX 600000

#define CODEC_FIELDS_MAX 32 /* of one message */
#define CODEC_PB_BYTES 512  /* of the largest generated struct */

enum codec_kind {
    CODEC_U32,     /* uint32 */
    CODEC_U64,     /* uint64, fixed64 */
    CODEC_I32,     /* int32, not negative */
    CODEC_I64,     /* int64, not negative */
    CODEC_ENUM,    /* int on both sides */
    CODEC_BOOL,    /* protobuf_c_boolean and bool */
    CODEC_F32,     /* finite, lo .. hi */
    CODEC_NAME,    /* char[max + 1], printable ASCII without blanks, min .. max bytes */
    CODEC_TEXT,    /* char[max + 1], for people: control characters become '?' */
    CODEC_LIST,    /* uint32_t *, owned, min .. max items; count beside it */
    CODEC_ARRAY,   /* uint32_t[max]; count beside it */
    CODEC_BYTES,   /* char *, owned, at most max bytes, then a NUL; size_t count beside it */
    CODEC_STRINGS, /* char[max][MSG_STOP_BYTES_MAX], none empty; count beside it */
};

struct codec_field {
    const char *name;
    enum codec_kind kind;
    uint16_t pb_at, pb_count_at; /* offsets in the generated struct */
    uint16_t at, count_at;       /* offsets in struct msg */
    uint64_t min, max;
    float lo, hi; /* CODEC_F32 */
};

struct codec_message {
    enum msg_type type;
    const ProtobufCMessageDescriptor *pb;
    const struct codec_field *fields; /* in the order of pb->fields */
    size_t n_fields;
    int (*check)(const struct msg *m, struct err *e); /* relations between fields; may be NULL */
};

extern const struct codec_message codec_messages[];
extern const size_t codec_n_messages;

/* The first gate: refuses a wire form of pb that has an unknown or repeated field (strings of a
 * repeated field up to MSG_STOPS_MAX), a wrong wire type, a varint that its field cannot hold, a NUL
 * in a string, an unpacked list, or that ends early. */
int codec_scan(const ProtobufCMessageDescriptor *pb, const uint8_t *p, size_t n, struct err *e);

#endif
