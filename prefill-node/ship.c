#include "prefill-node/ship.h"

#include "base/check.h"
#include "base/mem.h"

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

/* The window before the first. */
static void ship_rewind(struct job *job, const struct kv_cut *cut)
{
    struct ship *s = &job->ship;

    s->page_first = s->page_end = s->page = job->skip_tokens / KV_PAGE_TOKENS;
    s->layer = cut->n_layer;
    s->part = 0;
}

void ship_init(struct job *job, const struct kv_cut *cut)
{
    job->ship = (struct ship){0};
    ship_rewind(job, cut);
}

static size_t ship_index(const struct ship *s, const struct kv_cut *cut)
{
    return ((size_t)s->page * cut->n_layer + s->layer) * cut->parts + s->part;
}

/* Whether the decode node lacks this unit: it is in one of the runs, or behind a list that is full. */
static bool ship_wanted(const struct ship *s, size_t unit)
{
    uint32_t lo = 0, hi = s->n_missing / 2;

    if (!s->missing)
        return true;
    while (lo < hi) { /* the last run that begins at or before the unit */
        uint32_t mid = (lo + hi) / 2;

        if (s->missing[2 * mid] <= unit)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (!lo)
        return false;
    return unit - s->missing[2 * lo - 2] < s->missing[2 * lo - 1] ||
           (lo == MSG_UNITS_MAX / 2);
}

/* Opens the next window if this one is through. */
static void ship_open(struct job *job, const struct kv_cut *cut)
{
    struct ship *s = &job->ship;
    uint32_t end = job_whole_pages(job, job->done);

    if (s->layer < cut->n_layer)
        return;
    if (end <= s->page_end && job->chunk_layers)
        end = job_whole_pages(job, job->chunk_end);
    if (end <= s->page_end)
        return;
    s->page_first = s->page = s->page_end;
    s->page_end = end;
    s->layer = s->part = 0;
}

/* One unit further. */
static void ship_step(struct job *job, const struct kv_cut *cut)
{
    struct ship *s = &job->ship;

    if (++s->part < cut->parts)
        return;
    s->part = 0;
    if (++s->page < s->page_end)
        return;
    s->page = s->page_first;
    s->layer++;
    ship_open(job, cut);
}

void ship_advance(struct job *job, const struct kv_cut *cut)
{
    struct ship *s = &job->ship;

    ship_open(job, cut);
    while (s->layer < cut->n_layer && !ship_wanted(s, ship_index(s, cut)))
        ship_step(job, cut);
}

bool ship_next(const struct job *job, const struct kv_cut *cut, struct kv_unit *out)
{
    const struct ship *s = &job->ship;
    size_t index;

    if (s->resuming)
        return false;
    if (s->again)
        index = s->again_unit;
    else if (s->layer < ship_layers(job, cut) && s->layer < cut->n_layer)
        index = ship_index(s, cut);
    else
        return false;
    *out = kv_cut_unit(cut, index, job->n_tokens);
    return true;
}

void ship_sent(struct job *job, const struct kv_cut *cut)
{
    struct ship *s = &job->ship;

    s->started = true;
    if (s->again) {
        s->again = false;
        return;
    }
    ASSERT(s->layer < cut->n_layer);
    ship_step(job, cut);
    ship_advance(job, cut);
}

bool ship_finished(const struct job *job, const struct kv_cut *cut)
{
    const struct ship *s = &job->ship;

    return !s->resuming && !s->again && s->layer == cut->n_layer &&
           s->page_end == kv_layout_pages(job->n_tokens);
}

bool ship_again(struct job *job, const struct kv_cut *cut, const struct kv_unit *u)
{
    size_t index;

    if ((job->state != JOB_HELD && job->state != JOB_SHIPPING) || job->ship.resuming ||
        !kv_cut_index(cut, &index, u, job->n_tokens) ||
        u->page < job->skip_tokens / KV_PAGE_TOKENS)
        return false;
    job->ship.again = true;
    job->ship.again_unit = index;
    return true;
}

void ship_resume(struct job *job)
{
    job->ship.resuming = true;
    job->ship.again = false;
}

bool ship_missing(struct job *job, const struct kv_cut *cut, struct msg_kv_missing *m)
{
    struct ship *s = &job->ship;
    size_t n = kv_cut_count(cut, job->n_tokens), end = 0;

    for (uint32_t i = 0; i < m->n_units; i += 2) {
        if (i + 1 == m->n_units || m->units[i] < end || !m->units[i + 1] || m->units[i] >= n ||
            m->units[i + 1] > n - m->units[i])
            return false;
        end = (size_t)m->units[i] + m->units[i + 1];
    }
    mem_free(s->missing);
    s->missing = m->units ? m->units : mem_alloc(0);
    s->n_missing = m->n_units;
    m->units = NULL;
    m->n_units = 0;
    s->resuming = false;
    ship_rewind(job, cut);
    ship_advance(job, cut);
    return true;
}
