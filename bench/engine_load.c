#include "bench/engine_load.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "host/team.h"
#include "model/gguf.h"

struct copy {
    const struct gguf *from;
    uint8_t *to;
};

/* Thread tid's share of each tensor, as it would pack it. */
static void copy_part(void *ctx, uint32_t tid, uint32_t n)
{
    const struct copy *c = ctx;
    uint8_t *to = c->to;

    for (uint32_t i = 0; i < gguf_n_tensors(c->from); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(c->from, i);
        size_t lo = t->bytes / n * tid, hi = tid + 1 == n ? t->bytes : t->bytes / n * (tid + 1);

        memcpy(to + lo, (const uint8_t *)t->data + lo, hi - lo);
        to += t->bytes;
    }
}

/* From opening the file to closing it, as a load. */
static int copy_run(struct series *byte_s, const struct engine_options *o, struct err *e)
{
    struct gguf *g = NULL;
    struct team *team = NULL;
    struct mem_map map = {0};
    size_t bytes = 0;
    int64_t start;
    int rc = team_new(&team, o->pus, o->n_threads, e);

    start = clock_now();
    if (rc || (rc = gguf_open(&g, o->model, e)))
        goto out;
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++)
        bytes += gguf_tensor_at(g, i)->bytes;
    if ((rc = mem_map_open(&map, bytes, false, e)) ||
        (rc = mem_map_huge(map.data, map.size, o->huge_pages, e)))
        goto out;
    team_run(team, copy_part, &(struct copy){g, map.data});
    gguf_close(&g);
    series_add(byte_s, (double)bytes / clock_s(clock_now() - start));
out:
    mem_map_close(&map);
    gguf_close(&g);
    team_free(&team);
    return rc;
}

int engine_loads_run(struct engine_loads *l, struct engine **engine, const struct engine_options *o,
                     uint32_t times, struct err *e)
{
    int rc = 0;

    *l = (struct engine_loads){0};
    *engine = NULL;
    for (uint32_t i = 0; i < times && rc == 0; i++) {
        engine_close(engine);
        if ((rc = copy_run(&l->copy_byte_s, o, e)) || (rc = engine_open(engine, o, e)))
            continue;
        l->file_bytes = engine_load(*engine)->file_bytes;
        l->memory_bytes = engine_weight_bytes(*engine);
        series_add(&l->byte_s, (double)l->file_bytes / clock_s(engine_load(*engine)->ns));
    }
    return rc;
}

void engine_loads_fini(struct engine_loads *l)
{
    series_fini(&l->byte_s);
    series_fini(&l->copy_byte_s);
}
