#include "engine/eval.h"

#include <math.h>

#include "base/check.h"
#include "base/mem.h"
#include "kv/kv_pool.h"

struct eval {
    struct engine *engine;
    struct kv_pool *pool;
    uint8_t **pages; /* block table of the one sequence */
    struct batch_row *rows; /* [rows_max] */
    struct sample_item *items;
};

int eval_open(struct eval **out, const struct engine_options *o, struct err *e)
{
    struct eval *ev = mem_zalloc(sizeof(*ev));
    uint32_t n_pages, id;
    int rc;

    *out = NULL;
    if ((rc = engine_open(&ev->engine, o, e)))
        goto fail;
    n_pages = kv_layout_pages(engine_ctx_max(ev->engine));
    if ((rc = kv_pool_open(&ev->pool, engine_kv_layout(ev->engine), n_pages, e)))
        goto fail;
    ev->pages = mem_calloc(n_pages, sizeof(*ev->pages));
    for (uint32_t i = 0; i < n_pages; i++) {
        ASSERT(kv_pool_take(ev->pool, &id, 1));
        ev->pages[i] = kv_pool_page(ev->pool, id);
    }
    ev->rows = mem_calloc(engine_rows_max(ev->engine), sizeof(*ev->rows));
    ev->items = mem_calloc(engine_hparams(ev->engine)->n_vocab, sizeof(*ev->items));
    *out = ev;
    return 0;
fail:
    eval_close(&ev);
    return rc;
}

void eval_close(struct eval **evp)
{
    struct eval *ev = *evp;

    if (!ev)
        return;
    mem_free(ev->items);
    mem_free(ev->rows);
    mem_free(ev->pages);
    kv_pool_close(&ev->pool);
    engine_close(&ev->engine);
    mem_free(ev);
    *evp = NULL;
}

const struct engine *eval_engine(const struct eval *ev) { return ev->engine; }

static int eval_check(const struct eval *ev, const uint32_t *tokens, uint32_t n, uint64_t len,
                      struct err *e)
{
    uint32_t n_vocab = engine_hparams(ev->engine)->n_vocab;

    if (!n)
        return err_set(e, ERR_ARG, "the list of tokens is empty");
    if (len > engine_ctx_max(ev->engine))
        return err_set(e, ERR_LIMIT, "%llu tokens are over the context of %u",
                       (unsigned long long)len, engine_ctx_max(ev->engine));
    for (uint32_t i = 0; i < n; i++) {
        if (tokens[i] >= n_vocab)
            return err_set(e, ERR_ARG, "token id %u is over the vocabulary's last, %u", tokens[i],
                           n_vocab - 1);
    }
    return 0;
}

/* Rows first .. first + n of the sequence; logits of all of them, or of the last. */
static const float *eval_chunk(struct eval *ev, const uint32_t *tokens, uint32_t first, uint32_t n,
                               bool all)
{
    struct batch b = {.rows = ev->rows, .n = n};

    for (uint32_t i = 0; i < n; i++) {
        ev->rows[i] = (struct batch_row){.token = tokens[i],
                                         .pos = first + i,
                                         .pages = ev->pages,
                                         .want_logits = all || i + 1 == n};
    }
    return engine_forward(ev->engine, &b);
}

int eval_logits(struct eval *ev, const uint32_t *tokens, uint32_t n, uint32_t chunk, eval_row_fn *fn,
                void *ctx, struct err *e)
{
    uint32_t n_vocab = engine_hparams(ev->engine)->n_vocab, rows = engine_rows_max(ev->engine);
    int rc = eval_check(ev, tokens, n, n, e);

    if (rc)
        return rc;
    if (!chunk || chunk > rows)
        chunk = rows;
    for (uint32_t at = 0; at < n; at += chunk) {
        uint32_t c = u32_min(chunk, n - at);
        const float *logits = eval_chunk(ev, tokens + at, at, c, true);

        for (uint32_t i = 0; i < c; i++)
            fn(ctx, at + i, logits + (size_t)i * n_vocab);
    }
    return 0;
}

struct nll {
    const uint32_t *tokens;
    uint32_t n, n_vocab;
    double sum;
};

static void nll_row(void *ctx, uint32_t pos, const float *logits)
{
    struct nll *x = ctx;
    double top = logits[0], sum = 0;

    if (pos + 1 == x->n)
        return; /* nothing is known of what follows */
    for (uint32_t i = 1; i < x->n_vocab; i++)
        top = fmax(top, logits[i]);
    for (uint32_t i = 0; i < x->n_vocab; i++)
        sum += exp(logits[i] - top);
    x->sum += log(sum) + top - logits[x->tokens[pos + 1]];
}

int eval_nll(struct eval *ev, const uint32_t *tokens, uint32_t n, double *nll, struct err *e)
{
    struct nll x = {tokens, n, engine_hparams(ev->engine)->n_vocab, 0};
    int rc = eval_logits(ev, tokens, n, 0, nll_row, &x, e);

    *nll = x.sum;
    return rc;
}

int eval_generate(struct eval *ev, const uint32_t *tokens, uint32_t n, const struct sample_params *p,
                  uint32_t *out, uint32_t n_new, struct err *e)
{
    uint32_t n_vocab = engine_hparams(ev->engine)->n_vocab, rows = engine_rows_max(ev->engine);
    const float *logits = NULL;
    int rc = eval_check(ev, tokens, n, (uint64_t)n + (n_new ? n_new - 1 : 0), e);

    if (rc)
        return rc;
    for (uint32_t at = 0; at < n; at += rows)
        logits = eval_chunk(ev, tokens + at, at, u32_min(rows, n - at), false);
    for (uint32_t i = 0; i < n_new; i++) {
        out[i] = sample_token(logits, n_vocab, p, i, ev->items);
        if (i + 1 < n_new)
            logits = eval_chunk(ev, &out[i], n + i, 1, false);
    }
    return 0;
}
