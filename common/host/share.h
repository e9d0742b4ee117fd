/* share: one process maps memory that another one has, both on this machine and of the same user, to read
 * it. The memory is a file without a name whose size is sealed (mem_map_open_shared), which the owner offers
 * by the number of its descriptor, and the reader opens by way of /proc. The mapping outlives the owner: one
 * that dies harms nobody who reads.
 *
 * Much may stand between the two: other machines, namespaces of pids, users, a /proc that hides. No offer
 * proves anything: it may name any process and descriptor, so what is opened is looked at before it is
 * used, and what is then read is to be checked, for its owner may write to it at any time. Any thread. */
#ifndef TANDEM_HOST_SHARE_H
#define TANDEM_HOST_SHARE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct share_offer {
    uint64_t host;     /* the machine since its boot, and the namespace of pid; 0: no offer */
    uint32_t pid, fd;  /* a descriptor of that process, */
    uint64_t dev, ino; /* which file it is, */
    uint64_t size;     /* and its bytes */
};

struct share_map {
    const uint8_t *data; /* [offer.size]; NULL: nothing is mapped */
    struct share_offer offer;
};

/* The offer of memory of this process, fd its file; -1, or a system that does not tell where we are: no
 * offer. */
void share_offer(struct share_offer *offer, int fd);

/* Maps what is offered. ERR_UNSUPPORTED, with the reason; m is zeroed then. */
int share_open(struct share_map *m, const struct share_offer *offer, struct err *e);
/* Whether this offer is what is mapped. */
bool share_same(const struct share_map *m, const struct share_offer *offer);
/* Whether the process still has the file: while it does, more may come. */
bool share_lives(const struct share_map *m);
void share_close(struct share_map *m); /* also of a zeroed struct; leaves it zeroed */

#endif
