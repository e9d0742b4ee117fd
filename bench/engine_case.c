#include "bench/engine_case.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "engine/cost.h"
#include "kv/kv_wire.h"

#define LOOK_NS (30 * CLOCK_MS) /* at the machine, before and after a run */
#define WARM_ROWS 8

static void case_add(struct engine_cases *c, struct engine_case add)
{
    if (add.pp)
        snprintf(add.name, sizeof(add.name), "pp%u", add.pp);
    else
        snprintf(add.name, sizeof(add.name), "tg%u@b%uc%u", add.steps, add.batch, add.ctx);
    c->items = mem_realloc(c->items, (c->n + 1) * sizeof(*c->items));
    c->items[c->n++] = add;
}

void engine_cases_init(struct engine_cases *c, const struct engine_bench_options *o)
{
    uint32_t pp[ENGINE_LIST_MAX], batch[ENGINE_LIST_MAX], ctx[ENGINE_LIST_MAX];
    int n_pp = engine_list(pp, o->pp), n_batch = o->tg ? engine_list(batch, o->batch) : 0;
    int n_ctx = engine_list(ctx, o->ctx);

    *c = (struct engine_cases){0};
    for (int i = 0; i < n_pp; i++)
        case_add(c, (struct engine_case){.pp = pp[i]});
    for (int j = 0; j < n_ctx; j++)
        for (int i = 0; i < n_batch; i++)
            case_add(c, (struct engine_case){.steps = o->tg, .batch = batch[i], .ctx = ctx[j]});
}

void engine_cases_fini(struct engine_cases *c)
{
    for (size_t i = 0; i < c->n; i++) {
        struct series *all[] = {&c->items[i].tok_s, &c->items[i].flop_s, &c->items[i].byte_s,
                                &c->items[i].mfu, &c->items[i].mbu};

        for (size_t j = 0; j < ARRAY_LEN(all); j++)
            series_fini(all[j]);
    }
    mem_free(c->items);
    *c = (struct engine_cases){0};
}

/* Tokens that one of its sequences has at the end, and how many sequences. */
static uint32_t case_tokens(const struct engine_case *c)
{
    return c->pp ? c->pp : c->ctx + c->steps;
}

static uint32_t case_sequences(const struct engine_case *c) { return c->pp ? 1 : c->batch; }

/* A page of random values in +-1/16, copied to all. */
static void pages_fill(struct engine_rig *rig, uint32_t n)
{
    const struct kv_layout *l = engine_kv_layout(rig->engine);
    size_t values = kv_wire_bytes(l, KV_F32, l->n_kv_head, KV_PAGE_TOKENS) / sizeof(float);
    float *x = mem_calloc(values, sizeof(*x));

    for (uint32_t layer = 0; layer < l->n_layer; layer++) {
        for (size_t i = 0; i < values; i++)
            x[i] = (float)(rng_f64(7 + layer, i) - 0.5) / 8;
        kv_wire_import(rig->pages[0], l, x, KV_F32, layer, 0, l->n_kv_head, KV_PAGE_TOKENS);
    }
    mem_free(x);
    for (uint32_t i = 1; i < n; i++)
        memcpy(rig->pages[i], rig->pages[0], l->page_bytes);
}

static int pages_open(struct engine_rig *rig, const struct engine_cases *cases, struct err *e)
{
    uint32_t n_ctx = engine_ctx_max(rig->engine), id;
    uint64_t n = 0;
    int rc;

    for (size_t i = 0; i < cases->n; i++) {
        const struct engine_case *c = &cases->items[i];
        uint64_t need = (uint64_t)kv_layout_pages(case_tokens(c)) * case_sequences(c);

        if (case_tokens(c) > n_ctx)
            return err_set(e, ERR_LIMIT, "%s needs a context of %u tokens, the model has %u",
                           c->name, case_tokens(c), n_ctx);
        n = need > n ? need : n;
    }
    rc = kv_pool_open(&rig->pool, engine_kv_layout(rig->engine), (uint32_t)n, e);
    if (rc)
        return rc;
    rig->pages = mem_calloc(n, sizeof(*rig->pages));
    for (uint32_t i = 0; i < n; i++) {
        ASSERT(kv_pool_take(rig->pool, &id, 1));
        rig->pages[i] = kv_pool_page(rig->pool, id);
    }
    pages_fill(rig, (uint32_t)n);
    return ERR_OK;
}

static uint32_t token_any(const struct engine_rig *rig, uint32_t pos)
{
    return (uint32_t)(rng_u64(11, pos) % engine_hparams(rig->engine)->n_vocab);
}

/* Rows first .. first + n of the prompt. */
static void prompt_chunk(struct engine_rig *rig, struct batch *b, uint32_t first, uint32_t n,
                         uint32_t total)
{
    *b = (struct batch){.rows = rig->rows, .n = n};
    for (uint32_t i = 0; i < n; i++)
        rig->rows[i] = (struct batch_row){.token = token_any(rig, first + i), .pos = first + i,
                                          .pages = rig->pages,
                                          .want_logits = first + i + 1 == total};
}

/* Step number `step` of all sequences. */
static void generate_step(struct engine_rig *rig, struct batch *b, const struct engine_case *c,
                          uint32_t step)
{
    uint32_t each = kv_layout_pages(case_tokens(c));

    *b = (struct batch){.rows = rig->rows, .n = c->batch};
    for (uint32_t i = 0; i < c->batch; i++)
        rig->rows[i] = (struct batch_row){.token = token_any(rig, c->ctx + step + i * 31),
                                          .pos = c->ctx + step,
                                          .pages = rig->pages + (size_t)i * each,
                                          .want_logits = true};
}

/* Runs it; *cost is what it took, *ns how long. */
static void case_forward(const struct engine_case *c, struct engine_rig *rig, struct cost *cost,
                         int64_t *ns)
{
    uint32_t n = c->pp ? c->pp : c->steps, chunk = c->pp ? ENGINE_ROWS_MAX : 1;
    struct batch b;

    *cost = (struct cost){0};
    *ns = 0;
    for (uint32_t at = 0; at < n; at += chunk) {
        int64_t start;

        if (c->pp)
            prompt_chunk(rig, &b, at, u32_min(chunk, n - at), n);
        else
            generate_step(rig, &b, c, at);
        cost_add(cost, rig->engine, &b);
        start = clock_now();
        engine_forward(rig->engine, &b);
        *ns += clock_now() - start;
    }
}

void engine_case_run(struct engine_case *c, struct engine_rig *rig)
{
    enum roof roof = cost_roof(rig->engine);
    struct roofline before, after;
    struct cost cost;
    double s, peak, read;
    int64_t ns;

    cost_roofline(&before, rig->engine, LOOK_NS);
    case_forward(c, rig, &cost, &ns);
    cost_roofline(&after, rig->engine, LOOK_NS);
    s = clock_s(ns);
    peak = before.rate[roof].best > after.rate[roof].best ? before.rate[roof].best
                                                          : after.rate[roof].best;
    read = before.rate[ROOF_READ].best > after.rate[ROOF_READ].best ? before.rate[ROOF_READ].best
                                                                    : after.rate[ROOF_READ].best;
    series_add(&c->tok_s, (c->pp ? c->pp : (double)c->steps * c->batch) / s);
    series_add(&c->flop_s, cost.flops / s);
    series_add(&c->byte_s, cost.bytes / s);
    series_add(&c->mfu, peak > 0 ? cost.flops / s / peak : 0);
    series_add(&c->mbu, read > 0 ? cost.bytes / s / read : 0);
    c->peak = peak > c->peak ? peak : c->peak;
    c->read = read > c->read ? read : c->read;
}

int engine_rig_open(struct engine_rig *rig, const struct engine_bench_options *o,
                    const uint32_t *pus, uint32_t n_threads, const struct engine_cases *cases,
                    struct err *e)
{
    struct engine_options eo = {.model = o->model, .pus = pus, .n_threads = n_threads,
                                .rows_max = ENGINE_ROWS_MAX, .few_rows = o->few_rows, .kv_type = (enum kv_type)o->kv_type};
    struct batch b;
    int rc;

    *rig = (struct engine_rig){.n_threads = n_threads};
    if ((rc = cpu_tier_choose(&eo.tier, o->cpu, e)) ||
        (rc = engine_loads_run(&rig->loads, &rig->engine, &eo, o->loads, e)) ||
        (rc = pages_open(rig, cases, e))) {
        engine_rig_close(rig);
        return rc;
    }
    rig->rows = mem_calloc(ENGINE_ROWS_MAX, sizeof(*rig->rows));
    cost_roofline(&rig->roofline, rig->engine, 5 * LOOK_NS);
    /* Once through all weights; within a page, which every test has. */
    prompt_chunk(rig, &b, 0, WARM_ROWS, WARM_ROWS);
    engine_forward(rig->engine, &b);
    return ERR_OK;
}

void engine_rig_close(struct engine_rig *rig)
{
    mem_free(rig->rows);
    mem_free(rig->pages);
    kv_pool_close(&rig->pool);
    engine_close(&rig->engine);
    engine_loads_fini(&rig->loads);
    *rig = (struct engine_rig){0};
}
