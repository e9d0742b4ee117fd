/* hash: XXH3 of bytes; for checksums and identity, not against an adversary. Any thread. */
#ifndef TANDEM_BASE_HASH_H
#define TANDEM_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* XXH3-64 with the seed; chain calls by passing the last result as the seed. */
uint64_t hash64(const void *data, size_t n, uint64_t seed);

/* XXH3-128 of bytes that come in pieces. One thread. */
struct hash_stream;

struct hash_stream *hash_stream_new(void);
void hash_stream_add(struct hash_stream *s, const void *data, size_t n);
/* Of all so far: 32 hexadecimal digits and NUL. */
void hash_stream_text(const struct hash_stream *s, char text[33]);
void hash_stream_free(struct hash_stream **s);

#endif
