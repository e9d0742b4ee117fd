#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"

#define MEM_HUGE_PAGE ((size_t)2 << 20) /* of x86 and of Arm with pages of 4 KiB */

static void *mem_or_die(void *p, size_t size)
{
    if (!p) {
        fprintf(stderr, "out of memory: %zu bytes\n", size);
        abort();
    }
    return p;
}

void *mem_alloc(size_t size) { return mem_or_die(malloc(size ? size : 1), size); }

void *mem_zalloc(size_t size) { return mem_calloc(1, size); }

void *mem_calloc(size_t n, size_t size)
{
    return mem_or_die(calloc(n ? n : 1, size ? size : 1), size);
}

void *mem_realloc(void *p, size_t size) { return mem_or_die(realloc(p, size ? size : 1), size); }

char *mem_strdup(const char *s) { return mem_or_die(strdup(s), 0); }

char *mem_strndup(const char *s, size_t n) { return mem_or_die(strndup(s, n), n); }

void *mem_dup(const void *p, size_t size)
{
    void *q = mem_alloc(size);

    if (size)
        memcpy(q, p, size);
    return q;
}

void *mem_aligned(size_t size, size_t align)
{
    void *p = NULL;

    if (posix_memalign(&p, align, size ? size : align) != 0)
        p = NULL;
    return mem_or_die(p, size);
}

void *mem_large(size_t size)
{
    bool huge = size >= MEM_HUGE_PAGE / 2;
    size_t bytes = huge ? size_round_up(size, MEM_HUGE_PAGE) : size;
    void *p = mem_aligned(bytes, huge ? MEM_HUGE_PAGE : 64);

    if (huge)
        madvise(p, bytes, MADV_HUGEPAGE); /* advice: a kernel without it still works */
    return p;
}

void mem_free(void *p) { free(p); }

int mem_map_open(struct mem_map *m, size_t size, bool huge, struct err *e)
{
    size_t bytes = size_round_up(size ? size : 1, 4096);
    void *p;

    m->data = NULL;
    m->size = 0;
    p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return err_set(e, ERR_MEMORY, "the system refuses %zu MiB of memory", bytes >> 20);
    if (huge)
        madvise(p, bytes, MADV_HUGEPAGE); /* advice: a kernel without it still works */
    m->data = p;
    m->size = bytes;
    return 0;
}

/* Whether the system's switch for transparent huge pages stands at never, or is missing. */
static bool mem_huge_switched_off(void)
{
    char text[64] = "";
    FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
    bool off = !f || !fgets(text, sizeof(text), f) || strstr(text, "[never]");

    if (f)
        fclose(f);
    return off;
}

int mem_map_huge(const void *data, size_t size, enum mem_huge want, struct err *e)
{
    int refused = madvise((void *)data, size, want == MEM_HUGE_OFF ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);

    if (want == MEM_HUGE_ON && (refused || mem_huge_switched_off()))
        return err_set(e, ERR_UNSUPPORTED, "huge_pages: on, but "
                       "/sys/kernel/mm/transparent_hugepage/enabled is never or missing");
    return 0;
}

void mem_map_close(struct mem_map *m)
{
    if (m->data)
        munmap(m->data, m->size);
    m->data = NULL;
    m->size = 0;
}
