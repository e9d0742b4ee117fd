/* The engine's place: KV is what a wrong page would change. Let c(i) be a chain hash of tokens 0 .. i.
 * A plane is a layer, or a part of one if a layer's heads take two KV_PAGEs; its KV at position i is
 * c(i) ^ K[plane], and the chain goes on from what the page holds, not from what it should hold. A
 * token is a hash of the KV of all planes at all positions, of the seed, and of its index. */
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"
#include "tests/sim/world.h"

#define CHAIN_START 0x9e3779b97f4a7c15u

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
    return x ^ (x >> 32);
}

static uint64_t chain(uint64_t before, uint32_t token) { return mix(before + token + 1); }
static uint64_t key(uint32_t plane) { return mix(plane + 77); }

static uint32_t sampled(uint64_t attention, uint64_t seed, uint32_t index)
{
    uint64_t h = mix(attention ^ mix(seed) ^ ((uint64_t)index << 40));
    uint32_t stop_in = seed % 2 ? 61 : 1021; /* some answers are cut short, some are as long as asked for */

    return h % stop_in == 0 ? STOP_TOKEN : 3 + (uint32_t)(h % (POISON - 3));
}

void compute_want(struct client *c, uint32_t planes)
{
    uint64_t at = CHAIN_START, sum = 0;

    c->want = mem_calloc(c->max_new, sizeof(*c->want));
    c->want_finish = FINISH_LENGTH;
    for (uint32_t i = 0; i < c->n_prompt + c->max_new; i++) {
        uint32_t token;

        if (i >= c->n_prompt) { /* the token after those before i */
            token = sampled(sum, c->seed, i - c->n_prompt);
            if (token == STOP_TOKEN) {
                c->want_finish = FINISH_STOP;
                return;
            }
            c->want[c->n_want++] = token;
        } else {
            token = c->prompt[i];
        }
        at = chain(at, token);
        for (uint32_t plane = 0; plane < planes; plane++)
            sum += (at ^ key(plane)) * (2 * i + 1);
    }
}

/* Our KV lies at the start of a page. */
static uint64_t *kv(uint8_t *page, uint32_t plane)
{
    return (uint64_t *)(void *)page + (size_t)plane * KV_PAGE_TOKENS;
}

static uint64_t kv_at(uint8_t *const *pages, uint32_t plane, uint32_t pos)
{
    return kv(pages[pos / KV_PAGE_TOKENS], plane)[pos % KV_PAGE_TOKENS];
}

bool compute_is_poisoned(const struct proc *p)
{
    const uint32_t *tokens = p->run_tokens;

    for (uint32_t i = 0; i < p->n_work; tokens += p->work[i].count, i++)
        for (uint32_t t = 0; t < p->work[i].count; t++)
            if (tokens[t] == POISON)
                return true;
    return false;
}

void compute_layer(struct world *w, struct proc *p, uint32_t layer)
{
    const uint32_t *tokens = p->run_tokens;

    for (uint32_t i = 0; i < p->n_work; tokens += p->work[i].count, i++) {
        const struct work *k = &p->work[i];

        for (uint32_t part = 0; part < w->cut.parts; part++) {
            uint32_t plane = layer * w->cut.parts + part;
            uint64_t at = k->first ? kv_at(k->pages, plane, k->first - 1) ^ key(plane)
                                   : CHAIN_START;

            for (uint32_t t = 0; t < k->count; t++) {
                uint32_t pos = k->first + t;

                at = chain(at, tokens[t]);
                kv(k->pages[pos / KV_PAGE_TOKENS], plane)[pos % KV_PAGE_TOKENS] = at ^ key(plane);
            }
        }
    }
}

void compute_sample(struct world *w, struct proc *p, uint32_t *tokens)
{
    for (uint32_t i = 0; i < p->n_work; i++) {
        const struct work *k = &p->work[i];
        uint32_t end = k->first + k->count;
        uint64_t sum = 0;

        tokens[i] = 0;
        if (!k->want)
            continue;
        for (uint32_t first = 0; first < end; first += KV_PAGE_TOKENS) {
            uint32_t n = u32_min(KV_PAGE_TOKENS, end - first);

            for (uint32_t plane = 0; plane < w->planes; plane++) {
                const uint64_t *v = kv(k->pages[first / KV_PAGE_TOKENS], plane);

                for (uint32_t t = 0; t < n; t++)
                    sum += v[t] * (2 * (first + t) + 1);
            }
        }
        tokens[i] = sampled(sum, k->seed, k->index);
    }
}

size_t compute_export(const struct world *w, uint64_t *out, const uint8_t *page,
                      const struct kv_unit *u)
{
    uint32_t plane = u->layer * w->cut.parts + u->head_first / w->cut.heads;

    memcpy(out, kv((uint8_t *)page, plane), u->n_tokens * sizeof(*out));
    return u->n_tokens * sizeof(*out);
}

void compute_import(const struct world *w, uint8_t *page, const uint64_t *in,
                    const struct kv_unit *u)
{
    uint32_t plane = u->layer * w->cut.parts + u->head_first / w->cut.heads;

    memcpy(kv(page, plane), in, u->n_tokens * sizeof(*in));
}

void compute_scrub(const struct world *w, struct kv_pool *pool)
{
    for (uint32_t i = 0; i < kv_pool_total(pool); i++)
        memset(kv_pool_page(pool, i), 0xee, w->planes * KV_PAGE_TOKENS * sizeof(uint64_t));
}
