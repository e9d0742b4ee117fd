/* DESIGN: loading is two walks over the same list of matrices: the first adds up where each one goes
 * in a single mapping, the second lets every thread of the team pack its own range of panels of each,
 * the range it will read in the forward pass, so that first touch puts it on that thread's domain. */
#include "engine/model.h"

#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "model/gguf.h"
#include "model/weights.h"

/* One matrix to pack: from rows of the file into panels. */
struct pack_item {
    struct panels *to;
    const void *rows;
};

struct pack_list {
    const struct engine_options *options; /* progress */
    const struct kernels *kern;
    struct pack_item *items;
    size_t n, cap, bytes;
    size_t file_bytes;
};

static void pack_add(struct pack_list *l, struct panels *to, const struct gguf_tensor *t, uint32_t slice)
{
    size_t row_bytes, rows = t->ne[1];

    kernels_panels_init(l->kern, to, (enum dtype)t->type, (uint32_t)rows, (uint32_t)t->ne[0]);
    if (t->type == DTYPE_I2_S)
        memcpy(&to->scale, (const uint8_t *)t->data + t->bytes - dtype_tail_bytes(t->type), sizeof(to->scale));
    row_bytes = t->ne[0] / dtype_info(t->type)->block_elems * dtype_info(t->type)->block_bytes;
    if (l->n == l->cap) {
        l->cap = size_max(64, l->cap * 2);
        l->items = mem_realloc(l->items, l->cap * sizeof(*l->items));
    }
    l->items[l->n++] = (struct pack_item){to, (const uint8_t *)t->data + slice * rows * row_bytes};
    l->bytes += panels_bytes(to);
    l->file_bytes += rows * row_bytes;
}

static float *model_vector(const struct gguf_tensor *t)
{
    return mem_dup(t->data, t->ne[0] * sizeof(float));
}

static void model_list(struct model *m, const struct weights *w, struct pack_list *l)
{
    pack_add(l, &m->token_embd, w->token_embd, 0);
    if (w->output != w->token_embd)
        pack_add(l, &m->output, w->output, 0);
    m->output_norm = model_vector(w->output_norm);
    for (uint32_t i = 0; i < m->hp.n_layer; i++) {
        struct model_layer *to = &m->layers[i];
        const struct layer_weights *from = &w->layers[i];

        to->attn_norm = model_vector(from->attn_norm);
        to->ffn_norm = model_vector(from->ffn_norm);
        pack_add(l, &to->wq, from->wq, 0);
        pack_add(l, &to->wk, from->wk, 0);
        pack_add(l, &to->wv, from->wv, 0);
        pack_add(l, &to->wo, from->wo, 0);
        to->gate = mem_calloc(3 * m->n_ffn, sizeof(*to->gate));
        to->up = to->gate + m->n_ffn;
        to->down = to->up + m->n_ffn;
        if (m->hp.n_expert)
            pack_add(l, &to->router, from->router, 0);
        for (uint32_t x = 0; x < m->n_ffn; x++) {
            pack_add(l, &to->gate[x], m->hp.n_expert ? from->gate_exps : from->gate, x);
            pack_add(l, &to->up[x], m->hp.n_expert ? from->up_exps : from->up, x);
            pack_add(l, &to->down[x], m->hp.n_expert ? from->down_exps : from->down, x);
        }
    }
}

static void pack_part(void *ctx, uint32_t tid, uint32_t n)
{
    struct pack_list *l = ctx;
    size_t done = 0, told = 0;

    for (size_t i = 0; i < l->n; i++) {
        uint32_t p0, p1;

        team_range(l->items[i].to->n_panels, tid, n, &p0, &p1);
        panels_pack(l->items[i].to, l->items[i].rows, p0, p1);
        done += panels_bytes(l->items[i].to);
        /* the threads have equal shares: thread 0 speaks for all */
        if (tid == 0 && l->options->progress && done * 100 / l->bytes > told) {
            told = done * 100 / l->bytes;
            l->options->progress(l->options->progress_ctx, (uint32_t)told);
        }
    }
}

/* One line for each type of the file that is packed as a larger one. */
static void warn_of_slow_types(const struct pack_list *l)
{
    bool told[DTYPE_LIMIT] = {false};

    for (size_t i = 0; i < l->n; i++) {
        const struct panels *p = l->items[i].to;

        if (p->from != p->type && p->type != DTYPE_TQ2_0 && !told[p->from])
            log_warn("model", "type=%s has no kernels and runs as %s, with the memory and time of that",
                     dtype_info(p->from)->name, dtype_info(p->type)->name);
        told[p->from] = true;
    }
}

static int model_pack(struct model *m, const struct weights *w, const struct engine_options *o,
                      const struct kernels *kern, struct team *team, struct err *e)
{
    struct pack_list l = {.kern = kern, .options = o};
    size_t at = 0;
    int rc;

    model_list(m, w, &l);
    warn_of_slow_types(&l);
    rc = mem_map_open(&m->memory, l.bytes, false, e);
    if (!rc)
        rc = mem_map_huge(m->memory.data, m->memory.size, o->huge_pages, e);
    if (!rc) {
        for (size_t i = 0; i < l.n; i++) {
            l.items[i].to->data = (uint8_t *)m->memory.data + at;
            at += panels_bytes(l.items[i].to);
        }
        team_run(team, pack_part, &l);
        if (w->output == w->token_embd)
            m->output = m->token_embd;
    }
    m->load.file_bytes = l.file_bytes;
    mem_free(l.items);
    return rc;
}

int model_load(struct model *m, const struct engine_options *o, const struct kernels *kern,
               struct team *team, struct err *e)
{
    struct gguf *g = NULL;
    struct weights w = {0};
    int64_t start = clock_now();
    int rc;

    *m = (struct model){0};
    if ((rc = gguf_open(&g, o->model, e)) || (rc = hparams_load(&m->hp, g, e)) ||
        (rc = weights_load(&w, g, &m->hp, e)))
        goto fail;
    m->hash = gguf_hash(g);
    m->n_ffn = m->hp.n_expert ? m->hp.n_expert : 1;
    m->layers = mem_calloc(m->hp.n_layer, sizeof(*m->layers));
    rope_init(&m->rope, &m->hp, w.rope_freqs ? w.rope_freqs->data : NULL);
    if ((rc = model_pack(m, &w, o, kern, team, e)))
        goto fail;
    weights_fini(&w);
    gguf_close(&g);
    m->load.ns = clock_now() - start;
    return 0;
fail:
    weights_fini(&w);
    gguf_close(&g);
    model_fini(m);
    return rc;
}

void model_fini(struct model *m)
{
    for (uint32_t i = 0; m->layers && i < m->hp.n_layer; i++) {
        mem_free(m->layers[i].attn_norm);
        mem_free(m->layers[i].ffn_norm);
        mem_free(m->layers[i].gate); /* up and down are in the same allocation */
    }
    mem_free(m->layers);
    mem_free(m->output_norm);
    rope_fini(&m->rope);
    mem_map_close(&m->memory);
    *m = (struct model){0};
}

void model_each_matrix(struct model *m, void (*fn)(void *ctx, struct panels *w), void *ctx)
{
    for (uint32_t i = 0; i < m->hp.n_layer; i++) {
        struct model_layer *l = &m->layers[i];

        fn(ctx, &l->wq);
        fn(ctx, &l->wk);
        fn(ctx, &l->wv);
        fn(ctx, &l->wo);
        if (m->hp.n_expert)
            fn(ctx, &l->router);
        for (uint32_t x = 0; x < m->n_ffn; x++) {
            fn(ctx, &l->gate[x]);
            fn(ctx, &l->up[x]);
            fn(ctx, &l->down[x]);
        }
    }
    fn(ctx, &m->output);
}
