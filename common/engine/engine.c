#include "engine/engine.h"

#include "base/check.h"
#include "base/mem.h"
#include "engine/engine_impl.h"
#include "engine/tune.h"

static float *scratch_rows(uint32_t rows, size_t width)
{
    size_t n;

    ASSERT(size_mul(&n, rows, size_round_up(width, 16)) && size_mul(&n, n, sizeof(float)));
    return mem_large(n);
}

/* Floats from a row to the next: an odd number of lines. */
static size_t scratch_stride(size_t width) { return (size_div_up(width, 16) | 1) * 16; }

static void scratch_act(struct act *a, const struct kernels *kern, uint32_t rows, uint32_t k_pad)
{
    a->q8.k_pad = a->bf16.k_pad = k_pad;
    a->q8.q = mem_large((size_t)rows * k_pad);
    a->q8.d = scratch_rows(rows, k_pad / QK);
    a->q8.sum = mem_aligned((size_t)rows * k_pad / (QK / 2) * sizeof(int16_t), 64);
    a->q8k.k_pad = (uint32_t)size_round_up(k_pad, QK_K);
    a->q8k.q = mem_aligned(rows * ACT_Q8K_STRIDE(a->q8k.k_pad), 64);
    a->q8k.d = scratch_rows(rows, a->q8k.k_pad / QK_K);
    a->q8k.sum = mem_aligned((size_t)rows * a->q8k.k_pad / QK_K * sizeof(int32_t), 64);
    if (!kern->to_bf16)
        return;
    a->bf16.rows = (uint32_t)size_round_up(rows, 16);
    a->bf16.x = mem_large((size_t)a->bf16.rows * k_pad * sizeof(uint16_t));
}

/* Parts for all segments of the longest sequence, and for a few jobs a thread. */
static void scratch_parts(struct scratch *s, const struct hparams *hp, uint32_t ctx_max,
                          uint32_t threads)
{
    uint32_t group = hp->n_head / hp->n_head_kv;

    s->part_rows = u32_max(1, PART_HEADS / group);
    s->part_width = (uint32_t)size_round_up((size_t)s->part_rows * group * (hp->head_dim + 2), 16);
    s->part_slots = u32_max((uint32_t)size_div_up(ctx_max, ATTENTION_SEGMENT), 4 * threads);
    s->parts = scratch_rows(s->part_slots, s->part_width);
    s->parts_done = mem_calloc(s->part_slots, sizeof(*s->parts_done));
}

static void scratch_own(struct scratch *s, const struct kernels *kern, const struct hparams *hp,
                        size_t widest, uint32_t threads)
{
    s->own = mem_calloc(threads, sizeof(*s->own));
    for (uint32_t i = 0; i < threads; i++) {
        s->own[i].row = scratch_rows(1, widest);
        s->own[i].xn = scratch_rows(FEW_ROWS, hp->n_embd);
        scratch_act(&s->own[i].act, kern, FEW_ROWS, (uint32_t)size_round_up(hp->n_embd, QK));
        s->own[i].gate = scratch_rows(FFN_ROWS, FFN_STRIDE(QK_K / PANEL_ROWS));
        s->own[i].up = scratch_rows(FFN_ROWS, FFN_STRIDE(QK_K / PANEL_ROWS));
    }
}

static void scratch_init(struct scratch *s, const struct engine *en, uint32_t rows, uint32_t threads)
{
    const struct hparams *hp = &en->model.hp;
    size_t q = (size_t)hp->n_head * hp->head_dim, kv = (size_t)hp->n_head_kv * hp->head_dim;
    size_t widest = size_max(size_max(hp->n_embd, q), hp->n_ff);
    uint32_t group = hp->n_head / hp->n_head_kv;

    s->tmp_stride = scratch_stride(hp->n_embd);
    s->q_stride = scratch_stride(q);
    s->kv_stride = scratch_stride(kv);
    s->x = scratch_rows(rows, hp->n_embd);
    s->xn = scratch_rows(rows, hp->n_embd);
    s->tmp = scratch_rows(rows, s->tmp_stride);
    s->q = scratch_rows(rows, s->q_stride);
    s->att = scratch_rows(rows, size_max(q, hp->n_embd)); /* experts gather n_embd rows here */
    s->k = scratch_rows(rows, s->kv_stride);
    s->v = scratch_rows(rows, s->kv_stride);
    s->gate = scratch_rows(rows, hp->n_ff);
    s->up = scratch_rows(rows, hp->n_ff);
    s->cs = scratch_rows(rows, hp->n_rot);
    s->route = scratch_rows(rows, size_max(hp->n_expert, 1));
    s->block_rows = u32_max(1, ATTENTION_HEADS / group);
    s->seg_width = (uint32_t)size_round_up((size_t)s->block_rows * group * (hp->head_dim + 4), 16);
    s->seg = scratch_rows(threads, s->seg_width);
    s->wanted = mem_calloc(rows, sizeof(*s->wanted));
    s->heads = mem_aligned(hp->n_head_kv * sizeof(*s->heads), _Alignof(struct team_gate));
    s->kv_done = mem_calloc(hp->n_head_kv, sizeof(*s->kv_done));
    scratch_act(&s->act, en->kern, rows, (uint32_t)size_round_up(hp->n_embd, QK));
    scratch_act(&s->later, en->kern, rows, (uint32_t)size_round_up(widest, QK));
    scratch_parts(s, hp, en->ctx_max, threads);
    scratch_own(s, en->kern, hp, widest, threads);
}

static void scratch_act_fini(struct act *a)
{
    mem_free(a->q8.q);
    mem_free(a->q8.d);
    mem_free(a->q8.sum);
    mem_free(a->q8k.q);
    mem_free(a->q8k.d);
    mem_free(a->q8k.sum);
    mem_free(a->bf16.x);
}

static void scratch_fini(struct scratch *s, uint32_t threads)
{
    float *all[] = {s->x,  s->xn, s->q,      s->k,     s->v,   s->att, s->tmp,
                    s->gate, s->up, s->cs, s->logits, s->route, s->seg, s->parts};

    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        mem_free(all[i]);
    for (uint32_t i = 0; s->own && i < threads; i++) {
        mem_free(s->own[i].row);
        mem_free(s->own[i].xn);
        mem_free(s->own[i].gate);
        mem_free(s->own[i].up);
        scratch_act_fini(&s->own[i].act);
    }
    mem_free(s->own);
    mem_free(s->wanted);
    mem_free(s->heads);
    mem_free(s->kv_done);
    mem_free(s->parts_done);
    scratch_act_fini(&s->act);
    scratch_act_fini(&s->later);
    *s = (struct scratch){0};
}

int engine_open(struct engine **out, const struct engine_options *o, struct err *e)
{
    struct engine *en = mem_zalloc(sizeof(*en));
    const struct hparams *hp = &en->model.hp;
    enum kv_type kv_type;
    int rc;

    *out = NULL;
    ASSERT(o->rows_max > 0 && o->n_threads > 0);
    en->kern = kernels_get(o->tier);
    if (!en->kern) {
        rc = err_set(e, ERR_UNSUPPORTED, "cpu tier %s is not available here", cpu_tier_name(o->tier));
        goto fail;
    }
    kv_type = o->kv_type == KV_AUTO ? kernels_kv_auto(en->kern) : o->kv_type;
    if (!kernels_kv_type(en->kern, kv_type)) {
        rc = err_set(e, ERR_UNSUPPORTED, "KV of bf16 needs the cpu tier amx, not %s",
                     cpu_tier_name(o->tier));
        goto fail;
    }
    if ((rc = team_new(&en->team, o->pus, o->n_threads, e)) ||
        (rc = model_load(&en->model, o, en->kern, en->team, e)))
        goto fail;
    if (o->ctx_max > hp->n_ctx) {
        rc = err_set(e, ERR_LIMIT, "a context of %u tokens is over the model's %u", o->ctx_max,
                     hp->n_ctx);
        goto fail;
    }
    en->ctx_max = o->ctx_max ? o->ctx_max : hp->n_ctx;
    en->rows_max = o->rows_max;
    kv_layout_init(&en->layout, kv_type, hp->n_layer, hp->n_head_kv, hp->head_dim);
    scratch_init(&en->s, en, o->rows_max, o->n_threads);
    tune_engine(en, o->few_rows);
    *out = en;
    return 0;
fail:
    engine_close(&en);
    return rc;
}

void engine_close(struct engine **engine)
{
    struct engine *en = *engine;

    if (!en)
        return;
    if (en->team)
        scratch_fini(&en->s, team_size(en->team));
    str_fini(&en->few_rows);
    model_fini(&en->model);
    team_free(&en->team);
    mem_free(en);
    *engine = NULL;
}

const struct hparams *engine_hparams(const struct engine *en) { return &en->model.hp; }

const struct kv_layout *engine_kv_layout(const struct engine *en) { return &en->layout; }

uint32_t engine_meetings(const struct engine *en) { return en->meetings; }

const char *engine_few_rows(const struct engine *en) { return str_text(&en->few_rows); }

uint64_t engine_model_hash(const struct engine *en) { return en->model.hash; }

uint32_t engine_ctx_max(const struct engine *en) { return en->ctx_max; }

uint32_t engine_rows_max(const struct engine *en) { return en->rows_max; }

size_t engine_weight_bytes(const struct engine *en) { return en->model.memory.size; }

const struct engine_load *engine_load(const struct engine *en) { return &en->model.load; }
