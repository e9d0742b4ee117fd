#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

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

/* fd < 0: anonymous. bytes: a multiple of 4096. */
static int mem_map(struct mem_map *m, int fd, size_t bytes, bool huge, struct err *e)
{
    int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);

    *m = (struct mem_map){0};
    if (p == MAP_FAILED)
        return err_set(e, ERR_MEMORY, "the system refuses %zu MiB of memory", bytes >> 20);
    if (huge)
        madvise(p, bytes, MADV_HUGEPAGE); /* advice: a kernel without it still works */
    *m = (struct mem_map){p, bytes};
    return 0;
}

static size_t mem_map_bytes(size_t size) { return size_round_up(size ? size : 1, 4096); }

int mem_map_open(struct mem_map *m, size_t size, bool huge, struct err *e)
{
    return mem_map(m, -1, mem_map_bytes(size), huge, e);
}

/* A file without a name, of `bytes` for good. */
static int mem_file_open(int *file, size_t bytes, struct err *e)
{
    int fd = memfd_create("tandem", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct rlimit most;

    *file = -1;
    if (fd < 0)
        return err_set(e, ERR_UNSUPPORTED, "the system makes no memfd: %s", strerror(errno));
    if (getrlimit(RLIMIT_FSIZE, &most) == 0 && most.rlim_cur < bytes) { /* else SIGXFSZ */
        close(fd);
        return err_set(e, ERR_MEMORY, "%zu MiB are more than a file may have here (ulimit -f)", bytes >> 20);
    }
    if (bytes > PTRDIFF_MAX || ftruncate(fd, (off_t)bytes) ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
        close(fd);
        return err_set(e, ERR_MEMORY, "the system refuses %zu MiB of shared memory", bytes >> 20);
    }
    *file = fd;
    return 0;
}

int mem_map_open_shared(struct mem_map *m, int *fd, size_t size, bool huge, struct err *e)
{
    int rc = mem_file_open(fd, mem_map_bytes(size), e);

    *m = (struct mem_map){0};
    if (!rc && (rc = mem_map(m, *fd, mem_map_bytes(size), huge, e))) {
        close(*fd);
        *fd = -1;
    }
    return rc;
}

/* Whether a switch of the system's for transparent huge pages stands at what keeps advice from having
 * any effect, or is missing. */
static bool mem_huge_switched_off(const char *file)
{
    char text[64] = "";
    FILE *f = fopen(file, "re");
    bool off = !f || !fgets(text, sizeof(text), f) || strstr(text, "[never]") || strstr(text, "[deny]");

    if (f)
        fclose(f);
    return off;
}

bool mem_shared_huge(void)
{
    return !mem_huge_switched_off("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
}

int mem_map_huge(const void *data, size_t size, enum mem_huge want, struct err *e)
{
    int refused = madvise((void *)data, size, want == MEM_HUGE_OFF ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);

    if (want == MEM_HUGE_ON && (refused || mem_huge_switched_off("/sys/kernel/mm/transparent_hugepage/enabled")))
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
