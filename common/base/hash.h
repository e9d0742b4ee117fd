/* hash: XXH3 of bytes; for checksums and identity, not against an adversary. Any thread. */
#ifndef TANDEM_BASE_HASH_H
#define TANDEM_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* XXH3-64 with the seed; chain calls by passing the last result as the seed. */
uint64_t hash64(const void *data, size_t n, uint64_t seed);

#endif
