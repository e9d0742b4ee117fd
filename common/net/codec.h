/* codec: struct msg <-> frames. The only user of the generated protobuf code. Pure, any thread.
 *
 * Bytes from a peer pass three gates before a field of theirs is believed:
 *   codec_scan   walks the wire: known fields only, once each, right wire type, values that fit,
 *                no NUL in a string; so protobuf-c meets nothing it would allocate without need
 *   allocator    2 bytes of heap for each byte of wire and 64 KiB, then the message is refused
 *   the table    codec_schema: every number, length and count against its bounds, one row a field
 * The same table guards what we send. */
#ifndef TANDEM_NET_CODEC_H
#define TANDEM_NET_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "net/msg.h"

#define CODEC_HEADER_BYTES 8 /* "TD", version, 0, type (u16 LE), 0, 0 */
#define CODEC_FRAMES_MAX 3   /* header, protobuf, bulk */

/* Largest protobuf frame: a GENERATE_TOKENS with every token and every byte of text. */
#define CODEC_FRAME_MAX ((size_t)MSG_PROMPT_MAX + 4 * MSG_TOKENS_MAX + (64u << 10))

struct codec_frame {
    const void *data;
    size_t size;
};

void codec_header(uint8_t out[CODEC_HEADER_BYTES], enum msg_type type);

/* Adds m's protobuf frame to out. ERR_ARG: the type is none; ERR_LIMIT: a field is out of bounds;
 * out is then as before. The bulk is not included. */
int codec_encode(struct str *out, const struct msg *m, struct err *e);

/* Decodes one protobuf frame of the given type; *m becomes the caller's. On error *m is empty:
 * ERR_UNSUPPORTED unknown type, ERR_FORMAT malformed, ERR_LIMIT a field out of bounds. */
int codec_decode(struct msg *m, enum msg_type type, const void *data, size_t size, struct err *e);

/* Decodes a whole message: header, protobuf, and for KV_PAGE the bulk, which m then points into
 * (no release). ERR_PEER: another protocol version, "peer speaks protocol X, we speak Y"; REFUSED
 * is understood in every version. Otherwise as codec_decode. n_frames may be any number. */
int codec_decode_frames(struct msg *m, const struct codec_frame *frames, size_t n_frames,
                        struct err *e);

#endif
