#include "decode-node/slots.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"

void slots_init(struct slots *s, uint32_t n, uint32_t ctx_max, const struct kv_cut *cut,
                struct kv_pool *pool, struct prefix *prefix)
{
    size_t pages = kv_layout_pages(ctx_max);
    size_t words = size_div_up(kv_cut_count(cut, ctx_max), 64);

    *s = (struct slots){.n = n, .n_free = n, .ctx_max = ctx_max, .pool = pool, .prefix = prefix,
                        .cut = *cut};
    s->items = mem_calloc(n, sizeof(*s->items));
    s->order = mem_calloc(n, sizeof(*s->order));
    for (uint32_t i = 0; i < n; i++) {
        s->items[i].tokens = mem_calloc(ctx_max, sizeof(uint32_t));
        s->items[i].page_ids = mem_calloc(pages, sizeof(uint32_t));
        s->items[i].pages = mem_calloc(pages, sizeof(uint8_t *));
        s->items[i].got = mem_calloc(words, sizeof(uint64_t));
    }
}

void slots_fini(struct slots *s)
{
    for (uint32_t i = 0; s->items && i < s->n; i++) {
        mem_free(s->items[i].tokens);
        mem_free(s->items[i].page_ids);
        mem_free(s->items[i].pages);
        mem_free(s->items[i].got);
    }
    mem_free(s->items);
    mem_free(s->order);
    map_fini(&s->by_request);
    *s = (struct slots){0};
}

/* Into the order, behind all of its rank. */
static void order_insert(struct slots *s, uint32_t slot)
{
    uint32_t n = s->n - s->n_free, i = n;

    while (i && s->items[s->order[i - 1]].priority > s->items[slot].priority)
        i--;
    memmove(&s->order[i + 1], &s->order[i], (n - i) * sizeof(*s->order));
    s->order[i] = slot;
}

static void order_remove(struct slots *s, uint32_t slot)
{
    uint32_t n = s->n - s->n_free, i = 0;

    while (s->order[i] != slot)
        i++;
    memmove(&s->order[i], &s->order[i + 1], (n - i - 1) * sizeof(*s->order));
}

/* Units of one page. */
static size_t page_units(const struct slots *s)
{
    return (size_t)s->cut.n_layer * s->cut.parts;
}

/* FILLING, with only what was held here. */
static void slot_units(struct slots *s, struct slot *slot)
{
    size_t held = slot->held / KV_PAGE_TOKENS * page_units(s);

    slot->n_units = kv_cut_count(&s->cut, slot->n_tokens);
    memset(slot->got, 0, size_div_up(slot->n_units, 64) * sizeof(*slot->got));
    slot->n_got = 0;
    for (size_t i = 0; i < held; i++)
        slot_got(slot, i);
    slot->n_got_asked = slot->n_got;
    slot->barren_asks = 0;
    slot->kv_bytes = 0;
}

static void slot_fill(struct slots *s, struct slot *slot, const struct msg_reserve *r,
                      uint32_t max_new)
{
    slot->state = r->local ? SLOT_RUNNING : SLOT_FILLING;
    slot->in_step = slot->told = slot->doubtful = false;
    slot->local = r->local;
    slot->id = r->id;
    slot->priority = r->priority;
    slot->peer = SLOT_NO_PEER;
    slot->n_tokens = slot->n_known = r->n_tokens;
    slot->first_index = slot->index = r->first_index;
    slot->max_new = max_new;
    slot->sampling = r->sampling;
    slot->n_stop_tokens = r->n_stop_tokens;
    memcpy(slot->stop_tokens, r->stop_tokens, sizeof(slot->stop_tokens));
    memcpy(slot->tokens, r->tokens, r->n_tokens * sizeof(*r->tokens));
    slot->salt = r->salt;
    slot->pos = slot->held;
    slot->started_at = 0;
    for (uint32_t i = 0; i < slot->n_pages; i++)
        slot->pages[i] = kv_pool_page(s->pool, slot->page_ids[i]);
    slot_units(s, slot);
}

/* Pages for n, the first of them shared with the prefix cache if it has them. False: too few. */
static bool slot_take_pages(struct slots *s, struct slot *slot, const struct msg_reserve *r, uint32_t n)
{
    uint32_t held = prefix_match(s->prefix, r->salt, r->tokens, r->n_tokens, slot->page_ids);

    slot->held = held * KV_PAGE_TOKENS;
    slot->n_pages = n;
    if (prefix_take(s->prefix, slot->page_ids + held, n - held))
        return true;
    while (held)
        kv_pool_unref(s->pool, slot->page_ids[--held]);
    return false;
}

int slots_take(struct slots *s, struct slot **out, const struct msg_reserve *r, struct err *e)
{
    uint32_t max_new, n_pages, total = kv_pool_total(s->pool);
    struct slot *slot = s->items;

    if (!r->n_tokens || !r->max_new)
        return err_set(e, ERR_LIMIT, "%u prompt tokens and %u new ones: both must be at least 1",
                       r->n_tokens, r->max_new);
    if (r->n_tokens >= s->ctx_max)
        return err_set(e, ERR_LIMIT, "the prompt has %u tokens, the context %u", r->n_tokens,
                       s->ctx_max);
    max_new = u32_min(r->max_new, s->ctx_max - r->n_tokens);
    n_pages = kv_layout_pages(r->n_tokens + max_new);
    if (n_pages > total)
        return err_set(e, ERR_LIMIT, "%u tokens need %u KV pages, the pool has %u",
                       r->n_tokens + max_new, n_pages, total);
    if (!s->n_free)
        return err_set(e, ERR_BUSY, "all %u slots are taken", s->n);
    while (slot->state != SLOT_FREE)
        slot++;
    if (!slot_take_pages(s, slot, r, n_pages))
        return err_set(e, ERR_BUSY, "%u tokens need %u KV pages, %u of %u are free",
                       r->n_tokens + max_new, n_pages,
                       kv_pool_free_count(s->pool) + prefix_evictable(s->prefix), total);
    slot_fill(s, slot, r, max_new);
    order_insert(s, (uint32_t)(slot - s->items));
    s->n_free--;
    map_put(&s->by_request, r->id.request, slot);
    *out = slot;
    return 0;
}

/* Leading tokens whose KV is final. */
static uint32_t slot_final(const struct slots *s, const struct slot *slot)
{
    size_t units = 0;

    if (slot->state != SLOT_FILLING)
        return slot->pos;
    while (units < slot->n_units && slot_has(slot, units))
        units++;
    return u32_min(slot->n_tokens, (uint32_t)(units / page_units(s)) * KV_PAGE_TOKENS);
}

void slots_remember(struct slots *s, const struct slot *slot)
{
    if (!slot->doubtful)
        prefix_insert(s->prefix, slot->salt, slot->tokens, slot_final(s, slot), slot->page_ids);
}

void slots_start(struct slots *s, struct slot *slot, uint32_t token)
{
    ASSERT(slot->state == SLOT_FILLING);
    slot->state = SLOT_RUNNING;
    slot->tokens[slot->n_known++] = token;
    slot->pos = slot->n_tokens;
    slot->index = slot->first_index + 1;
    slots_remember(s, slot);
}

struct slot *slots_find_request(const struct slots *s, uint64_t request)
{
    return map_get(&s->by_request, request);
}

struct slot *slots_find(const struct slots *s, struct stream_id id)
{
    struct slot *slot = slots_find_request(s, id.request);

    return slot && slot->id.epoch == id.epoch ? slot : NULL;
}

static void slot_free(struct slots *s, struct slot *slot)
{
    for (uint32_t i = 0; i < slot->n_pages; i++)
        kv_pool_unref(s->pool, slot->page_ids[i]);
    order_remove(s, (uint32_t)(slot - s->items));
    slot->n_pages = 0;
    slot->in_step = false;
    slot->state = SLOT_FREE;
    s->n_free++;
}

void slots_drop(struct slots *s, struct slot *slot)
{
    ASSERT(slot->state == SLOT_FILLING || slot->state == SLOT_RUNNING);
    map_del(&s->by_request, slot->id.request);
    slots_remember(s, slot);
    if (slot->in_step)
        slot->state = SLOT_ENDING;
    else
        slot_free(s, slot);
}

void slots_step_over(struct slots *s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        struct slot *slot = &s->items[i];

        slot->in_step = false;
        if (slot->state == SLOT_ENDING)
            slot_free(s, slot);
    }
}

bool slot_has(const struct slot *slot, size_t unit)
{
    return slot->got[unit / 64] >> (unit % 64) & 1;
}

bool slot_got(struct slot *slot, size_t unit)
{
    if (slot_has(slot, unit))
        return false;
    slot->got[unit / 64] |= UINT64_C(1) << (unit % 64);
    slot->n_got++;
    return true;
}
