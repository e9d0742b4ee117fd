/* guard: buffers that catch an access outside them. A buffer ends where an inaccessible page
 * begins; what lies between the start of its first page and the buffer is poison that guard_check
 * inspects. */
#ifndef TANDEM_TESTS_GUARD_H
#define TANDEM_TESTS_GUARD_H

#include <stddef.h>
#include <stdint.h>

#define GUARD_POISON 0xa5

struct guard {
    uint8_t *map;
    size_t map_bytes;
    uint8_t *data; /* data[bytes], all poison at first; data + bytes is the inaccessible page */
    size_t bytes;
};

/* Returns g->data. Dies if the system has no memory. */
void *guard_open(struct guard *g, size_t bytes);

/* Fails the running test if anything before the buffer has changed. */
void guard_check(const struct guard *g);

/* guard_check, then frees. */
void guard_close(struct guard *g);

#endif
