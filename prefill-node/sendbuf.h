/* sendbuf: what KV leaves from. ZeroMQ reads a page where it lies, in the pool, and the page keeps
 * a reference until it has; where KV must be converted first it goes from a buffer. A slot stands for one
 * message on its way: it holds a page, or has a buffer of its own.
 *
 * All belongs to the network thread, but sendbuf_release, which is a msg_bulk.release: ZeroMQ calls it
 * from any thread. References go back to the pool, which has one thread, at the next sendbufs_collect. */
#ifndef TANDEM_PREFILL_SENDBUF_H
#define TANDEM_PREFILL_SENDBUF_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kv/kv_pool.h"

struct sendbufs;
struct sendbuf; /* a slot */

/* n slots with buffers of `bytes`, 0 if nothing is to be converted; pool is borrowed. ERR_IO: the system has no more descriptors. Owned
 * by the caller. */
int sendbufs_open(struct sendbufs **s, struct kv_pool *pool, uint32_t n, size_t bytes,
                  struct err *e);
/* Returns all pages. The socket context must be gone: nobody reads them any more. */
void sendbufs_close(struct sendbufs **s);

/* A free slot for this link, of which no more are on its way than are free: links that nobody reads leave
 * some to the others. NULL: there is none for it, and sendbufs_fd becomes readable when one comes back. */
struct sendbuf *sendbufs_take(struct sendbufs *s, uint32_t link);
/* Its buffer, 64-byte aligned. Bug: there are none. */
void *sendbuf_data(struct sendbuf *b);
/* Keeps this page until the slot is released. Once a take. */
void sendbuf_hold(struct sendbuf *b, uint32_t page_id);

/* hint: the slot. data is not looked at. */
void sendbuf_release(void *data, void *hint);

/* Returns the pages of slots that were released. */
void sendbufs_collect(struct sendbufs *s);

/* Makes sendbufs_fd readable: there is more to do. */
void sendbufs_wake(struct sendbufs *s);

/* Readable after a wake; sendbufs_woken clears it. */
int sendbufs_fd(const struct sendbufs *s);
void sendbufs_woken(struct sendbufs *s);

#endif
