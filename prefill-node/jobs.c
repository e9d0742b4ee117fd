#include "prefill-node/jobs.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "kv/kv_layout.h"

void jobs_init(struct jobs *j, uint32_t n, uint32_t ctx_max, struct kv_pool *pool,
               struct prefix *prefix)
{
    *j = (struct jobs){.n = n, .ctx_max = ctx_max, .pool = pool, .prefix = prefix};
    j->items = mem_calloc(n, sizeof(*j->items));
    j->order = mem_calloc(n, sizeof(*j->order));
    for (uint32_t i = 0; i < n; i++) {
        j->items[i].page_ids = mem_calloc(kv_layout_pages(ctx_max), sizeof(uint32_t));
        j->items[i].pages = mem_calloc(kv_layout_pages(ctx_max), sizeof(uint8_t *));
    }
}

void jobs_fini(struct jobs *j)
{
    for (uint32_t i = 0; j->items && i < j->n; i++) {
        mem_free(j->items[i].tokens);
        mem_free(j->items[i].ship.missing);
        mem_free(j->items[i].page_ids);
        mem_free(j->items[i].pages);
    }
    mem_free(j->items);
    mem_free(j->order);
    *j = (struct jobs){0};
}

static struct job *job_free_place(struct jobs *j)
{
    for (uint32_t i = 0; i < j->n; i++)
        if (j->items[i].state == JOB_FREE)
            return &j->items[i];
    return NULL;
}

/* Behind all jobs of its band and of those before. */
static void order_insert(struct jobs *j, const struct job *job)
{
    uint32_t i = j->n_order;

    while (i > 0 && j->items[j->order[i - 1]].priority > job->priority)
        i--;
    memmove(&j->order[i + 1], &j->order[i], (j->n_order - i) * sizeof(*j->order));
    j->order[i] = (uint32_t)(job - j->items);
    j->n_order++;
}

struct job *jobs_add(struct jobs *j, struct msg_prefill_job *m, int64_t now)
{
    struct job *job = job_free_place(j);

    if (!job)
        return NULL;
    ASSERT(m->n_tokens && m->n_tokens <= j->ctx_max);
    *job = (struct job){
        .state = JOB_QUEUED,
        .id = m->id,
        .tokens = m->tokens,
        .n_tokens = m->n_tokens,
        .first_index = m->first_index,
        .max_new = m->max_new,
        .skip_tokens = m->skip_tokens,
        .priority = m->priority,
        .salt = m->salt,
        .trace = m->trace,
        .sampling = m->sampling,
        .n_stop_tokens = m->n_stop_tokens,
        .page_ids = job->page_ids,
        .pages = job->pages,
        .queued_at = now,
    };
    memcpy(job->stop_tokens, m->stop_tokens, sizeof(job->stop_tokens));
    m->tokens = NULL;
    m->n_tokens = 0;
    order_insert(j, job);
    return job;
}

struct job *jobs_find_request(const struct jobs *j, uint64_t request)
{
    for (uint32_t i = 0; i < j->n_order; i++)
        if (j->items[j->order[i]].id.request == request)
            return &j->items[j->order[i]];
    return NULL;
}

struct job *jobs_find(const struct jobs *j, struct stream_id id)
{
    struct job *job = jobs_find_request(j, id.request);

    return job && job->id.epoch == id.epoch ? job : NULL;
}

bool jobs_start(struct jobs *j, struct job *job, int64_t now)
{
    uint32_t n = kv_layout_pages(job->n_tokens), hit;

    ASSERT(job->state == JOB_QUEUED);
    hit = prefix_match(j->prefix, job->salt, job->tokens, job->n_tokens, job->page_ids);
    if (!prefix_take(j->prefix, job->page_ids + hit, n - hit)) {
        while (hit--)
            kv_pool_unref(j->pool, job->page_ids[hit]);
        return false;
    }
    job->n_pages = n;
    job->done = job->hit_tokens = hit * KV_PAGE_TOKENS;
    for (uint32_t i = 0; i < n; i++)
        job->pages[i] = kv_pool_page(j->pool, job->page_ids[i]);
    if (job->n_tokens % KV_PAGE_TOKENS)
        kv_pool_clear(j->pool, job->page_ids[n - 1]);
    job->state = JOB_COMPUTING;
    job->started_at = now;
    return true;
}

static void job_free(struct jobs *j, struct job *job)
{
    for (uint32_t i = 0; i < job->n_pages; i++)
        kv_pool_unref(j->pool, job->page_ids[i]);
    mem_free(job->tokens);
    mem_free(job->ship.missing);
    job->tokens = NULL;
    job->ship = (struct ship){0};
    job->n_pages = 0;
    job->state = JOB_FREE;
}

void jobs_drop(struct jobs *j, struct job *job)
{
    uint32_t place = (uint32_t)(job - j->items), i = 0;

    ASSERT(job->state != JOB_FREE && job->state != JOB_ENDING);
    while (j->order[i] != place)
        i++;
    j->n_order--;
    memmove(&j->order[i], &j->order[i + 1], (j->n_order - i) * sizeof(*j->order));
    if (job->in_chunk)
        job->state = JOB_ENDING;
    else
        job_free(j, job);
}

void jobs_chunk_over(struct jobs *j)
{
    for (uint32_t i = 0; i < j->n; i++) {
        j->items[i].in_chunk = false;
        if (j->items[i].state == JOB_ENDING)
            job_free(j, &j->items[i]);
    }
}
