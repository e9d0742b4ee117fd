/* sendbuf: the buffers that KV leaves from. A page is written into one in canonical form, and ZeroMQ
 * sends it from there without a copy.
 *
 * sendbufs_take belongs to the network thread. sendbufs_release is a msg_bulk.release: ZeroMQ calls it
 * from any thread. The pool must outlive the socket context. */
#ifndef TANDEM_PREFILL_SENDBUF_H
#define TANDEM_PREFILL_SENDBUF_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct sendbufs;

/* n buffers of `bytes`. ERR_IO: the system has no more descriptors. Owned by the caller. */
int sendbufs_open(struct sendbufs **s, uint32_t n, size_t bytes, struct err *e);
void sendbufs_close(struct sendbufs **s);

/* A free buffer, 64-byte aligned; NULL if there is none, and then sendbufs_fd becomes readable when
 * one is. */
void *sendbufs_take(struct sendbufs *s);

/* data: from sendbufs_take; hint: the pool. */
void sendbufs_release(void *data, void *hint);

/* Makes sendbufs_fd readable: there is more to do. */
void sendbufs_wake(struct sendbufs *s);

/* Readable after a wake; sendbufs_woken clears it. */
int sendbufs_fd(const struct sendbufs *s);
void sendbufs_woken(struct sendbufs *s);

#endif
