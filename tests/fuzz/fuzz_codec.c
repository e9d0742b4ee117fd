/* fuzz_codec: any bytes as a message. What decodes must be within bounds: it encodes, and encodes to
 * the same again.
 *
 * Byte 0: 0 .. 127 picks a message type and the rest is its protobuf frame; from 128 the rest is cut
 * into frames, each a length (2 bytes LE) and as many bytes as are there.
 * Run with tests/fuzz/run.sh codec SECONDS. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "net/codec.h"
#include "net/codec_schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_stable(struct msg *m)
{
    struct str first = {0}, second = {0};
    struct msg again;
    struct err e;

    ASSERT(codec_encode(&first, m, &e) == 0);
    ASSERT(codec_decode(&again, m->type, first.data, first.len, &e) == 0);
    ASSERT(codec_encode(&second, &again, &e) == 0);
    ASSERT(first.len == second.len);
    ASSERT(first.len == 0 || memcmp(first.data, second.data, first.len) == 0);
    msg_fini(&again);
    str_fini(&first);
    str_fini(&second);
}

static size_t cut(struct codec_frame *frames, size_t max, const uint8_t *p, size_t n)
{
    size_t count = 0;

    while (n >= 2 && count < max) {
        size_t size = size_min((size_t)(p[0] | p[1] << 8), n - 2);

        frames[count++] = (struct codec_frame){p + 2, size};
        p += 2 + size;
        n -= 2 + size;
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct codec_frame frames[5];
    struct msg m;
    struct err e;
    int rc;

    if (size == 0)
        return 0;
    if (data[0] < 128)
        rc = codec_decode(&m, codec_messages[data[0] % codec_n_messages].type, data + 1, size - 1,
                          &e);
    else
        rc = codec_decode_frames(&m, frames, cut(frames, ARRAY_LEN(frames), data + 1, size - 1),
                                 &e);
    if (rc == 0)
        check_stable(&m);
    else
        ASSERT(rc < 0 && m.type == 0 && e.code == rc && e.text[0] != '\0');
    msg_fini(&m);
    return 0;
}
