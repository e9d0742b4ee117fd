/* mem: the only place that asks the system for memory.
 *
 * Small allocations die on exhaustion, with a message: there is nothing sensible left to do. Pools
 * that are sized by configuration use mem_map, which reports failure, so that they are refused at
 * start. Any thread. */
#ifndef TANDEM_BASE_MEM_H
#define TANDEM_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* Owned by the caller, freed with mem_free; never NULL. zalloc and calloc clear; size 0 is 1. */
void *mem_alloc(size_t size);
void *mem_zalloc(size_t size);
void *mem_calloc(size_t n, size_t size);
void *mem_realloc(void *p, size_t size);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);
void *mem_dup(const void *p, size_t size);

/* align: a power of two >= sizeof(void *). Contents undefined. Freed with mem_free. */
void *mem_aligned(size_t size, size_t align);

/* mem_aligned to 64 bytes; what is large asks for huge pages (advice only), for those who walk it with
 * large strides. */
void *mem_large(size_t size);

/* p from any of the above, or NULL. */
void mem_free(void *p);

/* An anonymous mapping, page aligned, cleared, not yet resident: the thread that first writes a page
 * places it on its NUMA domain. */
struct mem_map {
    void *data;
    size_t size; /* bytes asked for, rounded up to 4 KiB */
};

/* huge: ask for transparent huge pages (advice only). ERR_MEMORY if the system refuses. */
int mem_map_open(struct mem_map *m, size_t size, bool huge, struct err *e);
/* As mem_map_open, but of a file without a name (memfd), whose size is sealed, so that other processes
 * can map it too. *fd is that file, owned by the caller; -1 on failure. ERR_MEMORY, ERR_UNSUPPORTED. */
int mem_map_open_shared(struct mem_map *m, int *fd, size_t size, bool huge, struct err *e);
/* Whether the kernel may back memory with huge pages: what the option huge_pages says. */
enum mem_huge {
    MEM_HUGE_AUTO, /* if it can */
    MEM_HUGE_ON,   /* it must be able to */
    MEM_HUGE_OFF,
};

/* Advises about size bytes of a mapping, before their first use. ERR_UNSUPPORTED: MEM_HUGE_ON where the
 * kernel has no transparent huge pages or has them switched off. */
int mem_map_huge(const void *data, size_t size, enum mem_huge want, struct err *e);

/* Whether advice gets huge pages for shared memory too: the system has a switch of its own for that,
 * .../transparent_hugepage/shmem_enabled, which most leave at never. */
bool mem_shared_huge(void);

void mem_map_close(struct mem_map *m); /* also of a zeroed struct; leaves it zeroed */

#endif
