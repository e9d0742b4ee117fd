#include "decode-node/rows.h"

uint32_t rows_next(struct slots *s, struct decode_row *rows)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        struct slot *slot = &s->items[i];

        if (slot->state != SLOT_RUNNING)
            continue;
        slot->in_step = true;
        rows[n++] = (struct decode_row){
            .slot = i,
            .token = slot->token,
            .pos = slot->pos,
            .index = slot->index,
            .pages = slot->pages,
            .sampling = slot->sampling,
        };
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
    slot->token = token;
    slot->pos++;
    slot->index++;
    if (slot->index - slot->first_index >= slot->max_new) {
        out->finish = FINISH_LENGTH;
        out->kv_bytes = slot->kv_bytes;
    }
}
