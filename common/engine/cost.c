#include "engine/cost.h"

#include <math.h>

#include "base/check.h"
#include "engine/engine_impl.h"
#include "model/dtype.h"

static double elements(const struct panels *w) { return (double)w->n_out * w->n_in; }

/* Weights of experts that n rows read, if each row's choice were random: those chosen at least once. */
static double experts_read(const struct hparams *hp, double n)
{
    return hp->n_expert * (1 - pow(1 - (double)hp->n_expert_used / hp->n_expert, n));
}

/* Rows of one layer: `in` bring their KV, `out` go on to attention and the rest. */
static void layer_cost(struct cost *c, const struct engine *en, const struct model_layer *l,
                       double in, double out)
{
    const struct hparams *hp = &en->model.hp;
    double ffn = elements(l->gate) + elements(l->up) + elements(l->down);
    double ffn_bytes = (double)(panels_bytes(l->gate) + panels_bytes(l->up) + panels_bytes(l->down));

    c->flops += 2 * in * (elements(&l->wk) + elements(&l->wv));
    c->flops += 2 * out * (elements(&l->wq) + elements(&l->wo));
    c->bytes += (double)(panels_bytes(&l->wk) + panels_bytes(&l->wv));
    if (out <= 0)
        return;
    c->bytes += (double)(panels_bytes(&l->wq) + panels_bytes(&l->wo));
    if (hp->n_expert) {
        c->flops += 2 * out * (elements(&l->router) + hp->n_expert_used * ffn);
        c->bytes += (double)panels_bytes(&l->router) + experts_read(hp, out) * ffn_bytes;
    } else {
        c->flops += 2 * out * ffn;
        c->bytes += ffn_bytes;
    }
}

/* Attention of one layer, for all rows or only for those that want logits. A sequence's KV is read
 * once, up to its last row. */
static void attention_cost(struct cost *c, const struct engine *en, const struct batch *b, bool wanted)
{
    const struct hparams *hp = &en->model.hp;
    double token = (double)kv_layout_token_bytes(&en->layout), read = 0;

    for (uint32_t i = 0; i < b->n; i++) {
        const struct batch_row *row = &b->rows[i];

        if (row->want_logits || !wanted) {
            c->flops += 4.0 * hp->n_head * hp->head_dim * (row->pos + 1.0);
            read = token * (row->pos + 1.0);
        }
        if (i + 1 == b->n || row[1].pages != row->pages) {
            c->bytes += read;
            read = 0;
        }
    }
}

void cost_add(struct cost *c, const struct engine *en, const struct batch *b)
{
    const struct model *m = &en->model;
    double wanted = 0;

    for (uint32_t i = 0; i < b->n; i++)
        wanted += b->rows[i].want_logits;
    for (uint32_t i = 0; i < m->hp.n_layer; i++) {
        bool last = i + 1 == m->hp.n_layer;

        layer_cost(c, en, &m->layers[i], b->n, last ? wanted : b->n);
        attention_cost(c, en, b, last);
    }
    c->flops += 2 * wanted * elements(&m->output);
    c->bytes += wanted > 0 ? (double)panels_bytes(&m->output) : 0;
}

void cost_row(struct cost *c, const struct engine *en)
{
    const struct model *m = &en->model;

    *c = (struct cost){0};
    for (uint32_t i = 0; i < m->hp.n_layer; i++)
        layer_cost(c, en, &m->layers[i], 1, 1);
    c->bytes += (double)panels_bytes(&m->output);
}

struct tally {
    size_t bytes[DTYPE_LIMIT];
};

static void tally_add(void *ctx, struct panels *w)
{
    ((struct tally *)ctx)->bytes[w->from] += panels_bytes(w);
}

static struct tally tally_of(const struct engine *en)
{
    struct tally t = {{0}};

    model_each_matrix((struct model *)&en->model, tally_add, &t); /* which only reads */
    return t;
}

/* The type with most bytes, and takes it out; DTYPE_LIMIT if none is left. */
static uint32_t tally_take(struct tally *t)
{
    uint32_t best = DTYPE_LIMIT;

    for (uint32_t i = 0; i < DTYPE_LIMIT; i++)
        if (t->bytes[i] > 0 && (best == DTYPE_LIMIT || t->bytes[i] > t->bytes[best]))
            best = i;
    if (best < DTYPE_LIMIT)
        t->bytes[best] = 0;
    return best;
}

void cost_types(struct str *out, const struct engine *en)
{
    struct tally t = tally_of(en);
    uint32_t type;

    for (const char *plus = ""; (type = tally_take(&t)) < DTYPE_LIMIT; plus = "+")
        str_addf(out, "%s%s", plus, dtype_info(type)->name);
}

enum roof cost_roof(const struct engine *en)
{
    struct tally t = tally_of(en);

    return roof_of_matmul(en->kern->tier, dtype_info(tally_take(&t))->block_elems > 1);
}

void cost_roofline(struct roofline *r, struct engine *en, int64_t budget_ns)
{
    roofline_measure(r, en->team, en->kern->tier, en->model.memory.data, en->model.memory.size,
                     budget_ns);
}
