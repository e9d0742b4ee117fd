#include "prefill-node/ship.h"

#include "base/check.h"

/* Pages of the first `tokens` tokens that are complete. */
static uint32_t job_whole_pages(const struct job *job, uint32_t tokens)
{
    return tokens == job->n_tokens ? kv_layout_pages(tokens) : tokens / KV_PAGE_TOKENS;
}

/* Layers of the window that are final. */
static uint32_t ship_layers(const struct job *job, const struct kv_cut *cut)
{
    return job->ship.page_end <= job_whole_pages(job, job->done) ? cut->n_layer
                                                                 : job->chunk_layers;
}

void ship_init(struct job *job, const struct kv_cut *cut)
{
    uint32_t held = job->skip_tokens / KV_PAGE_TOKENS;

    job->ship = (struct ship){.page_first = held, .page_end = held, .page = held,
                              .layer = cut->n_layer};
}

bool ship_next(const struct job *job, const struct kv_cut *cut, struct kv_unit *out)
{
    const struct ship *s = &job->ship;
    size_t index;

    if (s->again)
        index = s->again_unit;
    else if (s->layer < ship_layers(job, cut) && s->layer < cut->n_layer)
        index = ((size_t)s->page * cut->n_layer + s->layer) * cut->parts + s->part;
    else
        return false;
    *out = kv_cut_unit(cut, index, job->n_tokens);
    return true;
}

void ship_sent(struct job *job, const struct kv_cut *cut)
{
    struct ship *s = &job->ship;

    if (s->again) {
        s->again = false;
        return;
    }
    ASSERT(s->layer < cut->n_layer);
    if (++s->part < cut->parts)
        return;
    s->part = 0;
    if (++s->page < s->page_end)
        return;
    s->page = s->page_first;
    s->layer++;
    ship_advance(job, cut);
}

void ship_advance(struct job *job, const struct kv_cut *cut)
{
    struct ship *s = &job->ship;
    uint32_t end = job_whole_pages(job, job->done);

    if (s->layer < cut->n_layer)
        return;
    if (end <= s->page_end && job->chunk_layers)
        end = job_whole_pages(job, job->chunk_end);
    if (end <= s->page_end)
        return;
    *s = (struct ship){.page_first = s->page_end, .page_end = end, .page = s->page_end,
                       .again = s->again, .again_unit = s->again_unit};
}

bool ship_finished(const struct job *job, const struct kv_cut *cut)
{
    const struct ship *s = &job->ship;

    return !s->again && s->layer == cut->n_layer && s->page_end == kv_layout_pages(job->n_tokens);
}

bool ship_again(struct job *job, const struct kv_cut *cut, const struct kv_unit *u)
{
    size_t index;

    if ((job->state != JOB_HELD && job->state != JOB_SHIPPING) ||
        !kv_cut_index(cut, &index, u, job->n_tokens) ||
        u->page < job->skip_tokens / KV_PAGE_TOKENS)
        return false;
    job->ship.again = true;
    job->ship.again_unit = index;
    return true;
}
