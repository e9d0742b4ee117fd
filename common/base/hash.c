#include "base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

#include "base/check.h"

uint64_t hash64(const void *data, size_t n, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, n, seed);
}

struct hash_stream *hash_stream_new(void)
{
    XXH3_state_t *state = XXH3_createState();

    ASSERT(state && XXH3_128bits_reset(state) == XXH_OK);
    return (struct hash_stream *)state;
}

void hash_stream_add(struct hash_stream *s, const void *data, size_t n)
{
    XXH3_128bits_update((XXH3_state_t *)s, data, n);
}

void hash_stream_text(const struct hash_stream *s, char text[33])
{
    XXH128_hash_t h = XXH3_128bits_digest((const XXH3_state_t *)s);

    snprintf(text, 33, "%016" PRIx64 "%016" PRIx64, (uint64_t)h.high64, (uint64_t)h.low64);
}

void hash_stream_free(struct hash_stream **s)
{
    XXH3_freeState((XXH3_state_t *)*s);
    *s = NULL;
}
