#include "decode-node/rows.h"

#include "base/check.h"

uint32_t rows_max(uint32_t slots, const struct rows_budget *b)
{
    return u32_max(slots + b->mixed, b->alone);
}

/* The next n rows of a slot. */
static uint32_t rows_add(struct slots *s, uint32_t place, uint32_t n, struct decode_row *rows)
{
    struct slot *slot = &s->items[place];

    slot->in_step = true;
    for (uint32_t i = 0; i < n; i++)
        rows[i] = (struct decode_row){
            .slot = place,
            .token = slot->tokens[slot->pos + i],
            .pos = slot->pos + i,
            .sample = slot->pos + i + 1 == slot->n_known,
            .index = slot->index,
            .pages = slot->pages,
            .sampling = slot->sampling,
        };
    return n;
}

uint32_t rows_next(struct slots *s, const struct rows_budget *b, struct decode_row *rows)
{
    uint32_t n = 0, taken = s->n - s->n_free, left;

    for (uint32_t i = 0; i < taken; i++) {
        const struct slot *slot = &s->items[s->order[i]];

        if (slot->state == SLOT_RUNNING && slot->n_known - slot->pos == 1)
            n += rows_add(s, s->order[i], 1, rows + n);
    }
    left = n ? b->mixed : b->alone;
    for (uint32_t i = 0; i < taken && left; i++) {
        const struct slot *slot = &s->items[s->order[i]];
        uint32_t count = u32_min(left, slot->n_known - slot->pos);

        if (slot->state != SLOT_RUNNING || slot->in_step)
            continue;
        n += rows_add(s, s->order[i], count, rows + n);
        left -= count;
    }
    return n;
}

static bool slot_stops_at(const struct slot *slot, uint32_t token)
{
    for (uint32_t i = 0; i < slot->n_stop_tokens; i++)
        if (slot->stop_tokens[i] == token)
            return true;
    return false;
}

void rows_take_token(struct slot *slot, uint32_t token, struct msg_tokens *out)
{
    *out = (struct msg_tokens){.id = slot->id, .index = slot->index};
    if (slot_stops_at(slot, token)) {
        out->finish = FINISH_STOP;
        out->kv_bytes = slot->kv_bytes;
        return;
    }
    out->n_tokens = 1;
    out->tokens[0] = token;
    slot->index++;
    if (slot->index - slot->first_index >= slot->max_new) {
        out->finish = FINISH_LENGTH;
        out->kv_bytes = slot->kv_bytes;
        return;
    }
    slot->tokens[slot->n_known++] = token;
}
