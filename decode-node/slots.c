#include "decode-node/slots.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"

void slots_init(struct slots *s, uint32_t n, uint32_t ctx_max, const struct kv_cut *cut,
                const struct slots_memory *memory, size_t page_bytes)
{
    size_t pages = kv_layout_pages(ctx_max);
    size_t words = size_div_up(kv_cut_count(cut, ctx_max), 64);

    *s = (struct slots){.n = n, .n_free = n, .ctx_max = ctx_max, .memory = *memory,
                        .page_bytes = page_bytes, .cut = *cut};
    s->ids = mem_calloc(pages, sizeof(*s->ids));
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
    mem_free(s->ids);
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

/* Where its pages are. */
static void slot_bytes(struct slots *s, struct slot *slot)
{
    for (uint32_t i = 0; i < slot->n_pages; i++)
        slot->pages[i] = kv_pool_page(s->memory.pool, slot->page_ids[i]);
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
    slot->fed = false;
    slot->n_tokens = slot->n_known = r->n_tokens;
    slot->first_index = slot->index = r->first_index;
    slot->max_new = max_new;
    slot->sampling = r->sampling;
    slot->n_stop_tokens = r->n_stop_tokens;
    memcpy(slot->stop_tokens, r->stop_tokens, sizeof(slot->stop_tokens));
    memcpy(slot->tokens, r->tokens, r->n_tokens * sizeof(*r->tokens));
    slot->salt = r->salt;
    slot->trace = r->trace;
    slot->pos = slot->held;
    slot->started_at = 0;
    slot_bytes(s, slot);
    slot_units(s, slot);
}

uint32_t slots_available(const struct slots *s)
{
    return kv_pool_free_count(s->memory.pool) + prefix_evictable(s->memory.prefix);
}

/* Sequences that may want another page before they end. */
static uint32_t slots_growing(const struct slots *s)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->n - s->n_free; i++) {
        const struct slot *slot = &s->items[s->order[i]];

        n += slot->n_pages < kv_layout_pages(slot->n_tokens + slot->max_new);
    }
    return n;
}

/* The first n pages, those in front shared with the prefix cache if it has them. False: too few are
 * left beside what the others may soon want. */
static bool slot_take_pages(struct slots *s, struct slot *slot, const struct msg_reserve *r, uint32_t n)
{
    uint32_t held = prefix_match(s->memory.prefix, r->salt, r->tokens, r->n_tokens, slot->page_ids);

    slot->held = held * KV_PAGE_TOKENS;
    slot->n_pages = n;
    if (n - held + slots_growing(s) <= slots_available(s) &&
        prefix_take(s->memory.prefix, slot->page_ids + held, n - held))
        return true;
    while (held)
        kv_pool_unref(s->memory.pool, slot->page_ids[--held]);
    return false;
}

/* What no waiting mends: ERR_LIMIT. */
static int reserve_fits(const struct slots *s, const struct msg_reserve *r, uint32_t max_new,
                        struct err *e)
{
    uint32_t pages = kv_layout_pages(r->n_tokens + max_new), total = kv_pool_total(s->memory.pool);

    if (!r->n_tokens || !r->max_new)
        return err_set(e, ERR_LIMIT, "%u prompt tokens and %u new ones: both must be at least 1",
                       r->n_tokens, r->max_new);
    if (r->n_tokens >= s->ctx_max)
        return err_set(e, ERR_LIMIT, "the prompt has %u tokens, the context %u", r->n_tokens,
                       s->ctx_max);
    if (pages > total)
        return err_set(e, ERR_LIMIT, "%u tokens need %u KV pages, the pool has %u",
                       r->n_tokens + max_new, pages, total);
    return 0;
}

/* Whoever was set aside comes back before anything new begins: else it might wait for ever. */
static bool slots_any_aside(const struct slots *s)
{
    for (uint32_t i = 0; i < s->n - s->n_free; i++)
        if (s->items[s->order[i]].state == SLOT_ASIDE)
            return true;
    return false;
}

int slots_take(struct slots *s, struct slot **out, const struct msg_reserve *r, struct err *e)
{
    uint32_t max_new = r->n_tokens < s->ctx_max ? u32_min(r->max_new, s->ctx_max - r->n_tokens) : 0;
    uint32_t n_pages = kv_layout_pages(r->n_tokens + u32_min(max_new, SLOT_AHEAD_TOKENS));
    struct slot *slot = s->items;
    int rc = reserve_fits(s, r, max_new, e);

    if (rc)
        return rc;
    if (!s->n_free)
        return err_set(e, ERR_BUSY, "all %u slots are taken", s->n);
    if (slots_any_aside(s))
        return err_set(e, ERR_BUSY, "a sequence that was set aside waits for KV pages");
    while (slot->state != SLOT_FREE)
        slot++;
    if (!slot_take_pages(s, slot, r, n_pages)) {
        slot->n_pages = 0;
        return err_set(e, ERR_BUSY, "%u tokens need %u KV pages and others soon %u, %u of %u are free",
                       r->n_tokens, n_pages, slots_growing(s), slots_available(s),
                       kv_pool_total(s->memory.pool));
    }
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
        prefix_insert(s->memory.prefix, slot->salt, slot->tokens, slot_final(s, slot), slot->page_ids);
}

void slots_share(struct slots *s, struct slot *slot)
{
    uint32_t n;

    slots_remember(s, slot);
    n = prefix_match(s->memory.prefix, slot->salt, slot->tokens, slot->pos + 1, s->ids);
    for (uint32_t i = 0; i < n; i++) {
        kv_pool_unref(s->memory.pool, slot->page_ids[i]); /* its own, or the reference just taken */
        slot->page_ids[i] = s->ids[i];
    }
    slot_bytes(s, slot);
}

void slots_start(struct slots *s, struct slot *slot, uint32_t token)
{
    ASSERT(slot->state == SLOT_FILLING);
    slot->state = SLOT_RUNNING;
    slot->tokens[slot->n_known++] = token;
    slot->pos = slot->n_tokens;
    slot->index = slot->first_index + 1;
    slots_share(s, slot);
}

uint32_t slot_needs(const struct slot *slot)
{
    return kv_layout_pages(slot->n_known);
}

bool slots_grow(struct slots *s, struct slot *slot)
{
    ASSERT(slot->state == SLOT_RUNNING && !slot->in_step);
    if (!prefix_take(s->memory.prefix, &slot->page_ids[slot->n_pages], 1))
        return false;
    slot->pages[slot->n_pages] = kv_pool_page(s->memory.pool, slot->page_ids[slot->n_pages]);
    slot->n_pages++;
    return true;
}

/* Copies n pages from ids of one pool to others of another. */
static void pages_copy(const struct slots *s, struct kv_pool *to, const uint32_t *to_ids,
                       struct kv_pool *from, const uint32_t *from_ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        memcpy(kv_pool_page(to, to_ids[i]), kv_pool_page(from, from_ids[i]), s->page_bytes);
}

static void pages_unref(struct kv_pool *pool, const uint32_t *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        kv_pool_unref(pool, ids[i]);
}

bool slots_set_aside(struct slots *s, struct slot *slot)
{
    uint32_t n = kv_layout_pages(slot->pos);

    ASSERT(slot->state == SLOT_RUNNING && !slot->in_step);
    if (!s->memory.swap || !kv_pool_take(s->memory.swap, s->ids, n))
        return false;
    pages_copy(s, s->memory.swap, s->ids, s->memory.pool, slot->page_ids, n);
    pages_unref(s->memory.pool, slot->page_ids, slot->n_pages);
    memcpy(slot->page_ids, s->ids, n * sizeof(*s->ids));
    slot->n_pages = n;
    slot->state = SLOT_ASIDE;
    return true;
}

bool slots_bring_back(struct slots *s, struct slot *slot)
{
    uint32_t n = slot_needs(slot);

    ASSERT(slot->state == SLOT_ASIDE);
    if (!prefix_take(s->memory.prefix, s->ids, n))
        return false;
    pages_copy(s, s->memory.pool, s->ids, s->memory.swap, slot->page_ids, slot->n_pages);
    pages_unref(s->memory.swap, slot->page_ids, slot->n_pages);
    memcpy(slot->page_ids, s->ids, n * sizeof(*s->ids));
    slot->n_pages = n;
    slot->state = SLOT_RUNNING;
    slot_bytes(s, slot);
    return true;
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
    pages_unref(slot->state == SLOT_ASIDE ? s->memory.swap : s->memory.pool, slot->page_ids, slot->n_pages);
    order_remove(s, (uint32_t)(slot - s->items));
    slot->n_pages = 0;
    slot->in_step = false;
    slot->state = SLOT_FREE;
    s->n_free++;
}

void slots_drop(struct slots *s, struct slot *slot)
{
    ASSERT(slot->state != SLOT_FREE && slot->state != SLOT_ENDING);
    map_del(&s->by_request, slot->id.request);
    if (slot->state != SLOT_ASIDE)
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

uint32_t slot_missing(const struct slot *slot, uint32_t *runs, uint32_t max)
{
    uint32_t n = 0;

    for (size_t i = 0; i < slot->n_units && n < max; i++) {
        if (slot_has(slot, i))
            continue;
        runs[n] = (uint32_t)i;
        while (i < slot->n_units && !slot_has(slot, i))
            i++;
        runs[n + 1] = (uint32_t)i - runs[n];
        n += 2;
    }
    return n;
}
