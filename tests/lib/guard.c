#include "tests/lib/guard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"

void *guard_open(struct guard *g, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t room = size_round_up(bytes + 1, page);

    g->map_bytes = room + page;
    g->map = mmap(NULL, g->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT(g->map != MAP_FAILED);
    memset(g->map, GUARD_POISON, room);
    ASSERT(mprotect(g->map + room, page, PROT_NONE) == 0);
    g->data = g->map + room - bytes;
    g->bytes = bytes;
    return g->data;
}

void guard_check(const struct guard *g)
{
    for (const uint8_t *p = g->map; p < g->data; p++)
        if (*p != GUARD_POISON)
            fail_msg("a byte %zu before the buffer has changed", (size_t)(g->data - p));
}

void guard_close(struct guard *g)
{
    guard_check(g);
    munmap(g->map, g->map_bytes);
    *g = (struct guard){0};
}
