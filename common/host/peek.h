/* peek: one process reads another's memory, both on this machine and of the same user. The kernel copies
 * (process_vm_readv) from page to page: nothing is mapped or shared, so nothing is left behind when either
 * dies, and both keep whatever kind of pages they have.
 *
 * Who may be read makes an offer; who wants to read tries it first, for much may stand between them: other
 * machines, namespaces of pids, users, containers whose seccomp filter knows no such call, a Yama that
 * is strict. No offer proves anything: it may name any process that the reader may read, so what was read is
 * to be checked and never to be told. Any thread. */
#ifndef TANDEM_HOST_PEEK_H
#define TANDEM_HOST_PEEK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct peek_offer {
    uint64_t host;  /* the machine since its boot, and the namespace of pid; 0: no offer */
    uint32_t pid;
    uint64_t at;    /* an address of that process, */
    uint64_t value; /* and the 8 bytes there */
};

/* An offer of this process: *probe, best a random number, which must stay. No offer if the system does
 * not tell where we are. Yama, where it is on (ptrace_scope 1), lets nobody but our ancestors read us, and one
 * more process with its descendants: from now on that is our parent, and so the other nodes of our
 * supervisor; nobody, if that is init. It is not one node, for a second call replaces the first, and there
 * may be many. */
void peek_allow(struct peek_offer *offer, const uint64_t *probe);

/* 0: the process of the offer can be read from here. ERR_UNSUPPORTED, with the reason, which has nothing of
 * what was read. */
int peek_try(const struct peek_offer *offer, struct err *e);

/* out[bytes] from the address `at` of the process. ERR_IO: not all of it is there, or the process is not; out
 * may be partly written. Whether it is the right process, and done writing, the caller finds out. */
int peek_read(void *out, uint32_t pid, uint64_t at, size_t bytes, struct err *e);

#endif
