/* path: KV of a whole prompt from the pages of one pool into those of another, as a prefill and a decode
 * node do it: cut into units, checksummed, sent under credit from where they lie, checked, put into pages.
 * The way between them is the case: ZeroMQ over ipc or tcp or tcp with keys; or only the place of a unit
 * goes over ipc, and the receiver copies it from there, for it has mapped the sender's pages, which is what
 * nodes do on one host. Two threads, each with a context of ZeroMQ as a node has; path_run is called by
 * one of them and starts the other. */
#ifndef TANDEM_BENCH_KV_PATH_H
#define TANDEM_BENCH_KV_PATH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "host/share.h"
#include "kv/kv_layout.h"
#include "kv/kv_unit.h"

enum path_way { PATH_IPC, PATH_TCP, PATH_CURVE, PATH_MAPPED, PATH_WAY_COUNT };
extern const char *const path_way_names[];

/* Pages of two nodes, and what lies between. Plain data. */
struct path {
    struct kv_layout layout;
    struct kv_cut cut;
    uint32_t n_pages;
    uint8_t *from, *to; /* [n_pages * layout.page_bytes] */
    struct mem_map memory; /* of `from`, shared */
    int fd;                /* its file */
    struct share_map map;  /* the receiver's of it, once it was mapped: a peer is mapped once */
    bool convert;       /* false: frames of any bytes, unchecked: the way alone */
};

/* Fills `from` with values of which no two units are alike, and clears `to`. ERR_MEMORY, ERR_LIMIT. */
int path_open(struct path *p, enum kv_type type, uint32_t layers, uint32_t heads, uint32_t dim,
              uint32_t n_pages, struct err *e);
void path_close(struct path *p);

/* Bytes of all units, what travels. */
size_t path_bytes(const struct path *p);

/* Moves everything once; *ns: from the first unit taken up to the last one put away. ERR_NET, or
 * ERR_FORMAT if a checksum did not fit. */
int path_run(struct path *p, enum path_way way, int64_t *ns, struct err *e);

/* Units whose bytes differ in the two pools. */
size_t path_differences(const struct path *p);

#endif
