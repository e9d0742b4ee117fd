/* DESIGN: attention of a pass is cut into jobs that threads draw; any order will do.
 *
 *   whole   a job is a block of rows of one sequence and a kv head: its segments one after the other
 *   parts   a job is one segment of that. Where a pass has few blocks and long sequences, as decode
 *           has, threads share a sequence so. Each segment's result waits in a slot; who ends the
 *           last one of a block and head merges them.
 *
 * What a thread will draw next it guesses, and asks for its pages while it works on the last ones: were
 * it drawn so early, an idle thread could not have it.
 * Both merge segments in ascending order, and a segment's length is fixed, so which of the two it is
 * changes no bit, nor does the number of threads. */
#include <math.h>

#include "base/check.h"
#include "engine/lane.h"

/* Rows r0 <= r < r1 of one sequence, which attention takes together, and a kv head. */
struct job {
    uint32_t r0, r1, h;
};

/* A segment of a job. */
struct step {
    struct job job;
    uint32_t segment;
};

/* o, mx and sum of a job's query heads over one segment; o rows are o_stride floats apart. */
struct part {
    float *o, *mx, *sum;
    size_t o_stride;
};

/* A walk over all jobs, the same in every thread: rows from the last to the first, because later ones
 * cost more and the threads should end together; of each block all kv heads. */
struct walk {
    struct job job;
    uint32_t n;    /* jobs before it */
    uint32_t most; /* rows of a block */
};

static uint32_t lane_draw(struct lane *t)
{
    return atomic_fetch_add_explicit(&t->p->drawn, 1, memory_order_relaxed);
}

/* What this thread would draw now: if no other does, the next draw. */
static uint32_t lane_guess(const struct lane *t)
{
    return atomic_load_explicit(&t->p->drawn, memory_order_relaxed);
}

static const struct batch_row *lane_batch_row(const struct lane *t, uint32_t r)
{
    return &t->p->b->rows[t->last ? t->s->wanted[r] : r];
}

/* The block that ends before row r1. Where blocks begin changes no bit. */
static void walk_block(struct walk *w, const struct lane *t, uint32_t r1)
{
    uint32_t r0 = r1;

    while (r0 > 0 && r1 - r0 < w->most && lane_batch_row(t, r0 - 1)->pages == lane_batch_row(t, r1 - 1)->pages)
        r0--;
    w->job = (struct job){r0, r1, 0};
}

/* False: that was the last. */
static bool walk_next(struct walk *w, const struct lane *t)
{
    w->n++;
    if (++w->job.h == t->hp->n_head_kv)
        walk_block(w, t, w->job.r0);
    return w->job.r1 > 0;
}

/* On to the job that n are before, if there is one. */
static bool walk_to(struct walk *w, const struct lane *t, uint32_t n)
{
    while (w->n < n)
        if (!walk_next(w, t))
            return false;
    return true;
}

/* Blocks of at most so many rows that every thread gets some jobs. */
static void walk_start(struct walk *w, const struct lane *t, uint32_t most)
{
    uint32_t share = (uint32_t)((uint64_t)t->n * t->hp->n_head_kv / (4 * t->nt));

    w->n = 0;
    w->most = u32_max(1, u32_min(share, most));
    walk_block(w, t, t->n);
}

static uint32_t job_segments(const struct lane *t, const struct job *j)
{
    return lane_batch_row(t, j->r1 - 1)->pos / ATTENTION_SEGMENT + 1;
}

/* The first row that attends to the segment. */
static uint32_t job_row(const struct lane *t, const struct job *j, uint32_t segment)
{
    uint32_t r = j->r0;

    while (lane_batch_row(t, r)->pos < segment * ATTENTION_SEGMENT)
        r++;
    return r;
}

static uint32_t lane_group(const struct lane *t) { return t->hp->n_head / t->hp->n_head_kv; }

/* Where the output of row r's query heads of kv head h goes. */
static float *lane_out(const struct lane *t, uint32_t r, uint32_t h)
{
    return t->s->att + ((size_t)r * t->hp->n_head + (size_t)h * lane_group(t)) * t->hp->head_dim;
}

/* A part in a buffer of so many query heads; the first segment's o is in att from the start. */
static struct part lane_part(const struct lane *t, const struct job *j, uint32_t segment, float *buffer,
                             uint32_t heads)
{
    uint32_t d = t->hp->head_dim;
    float *mx = buffer + (size_t)heads * d;

    if (segment == 0)
        return (struct part){lane_out(t, j->r0, j->h), mx, mx + heads, (size_t)t->hp->n_head * d};
    return (struct part){buffer, mx, mx + heads, (size_t)lane_group(t) * d};
}

/* What is read after a, if it is known. */
static void attention_next(struct attention *a, const struct lane *t, const struct step *next)
{
    const struct batch_row *last = lane_batch_row(t, next->job.r1 - 1);
    uint32_t pages = ATTENTION_SEGMENT / KV_PAGE_TOKENS, first = next->segment * pages;

    a->next = last->pages + first;
    a->next_count = u32_min(pages, kv_layout_pages(last->pos + 1) - first);
    a->next_head = next->job.h;
}

/* One segment, for those rows that reach it. next: what this thread may read after it, or NULL. */
static void step_run(struct lane *t, uint32_t layer, const struct step *s, const struct part *to,
                     const struct step *next)
{
    const struct job *j = &s->job;
    uint32_t r = job_row(t, j, s->segment), group = lane_group(t), d = t->hp->head_dim, n[ATTENTION_HEADS];
    size_t skip = r - j->r0;
    struct attention a = {.q = t->s->q + r * t->s->q_stride + (size_t)j->h * group * d,
                          .q_stride = t->s->q_stride,
                          .pages = lane_batch_row(t, r)->pages, .layout = &t->e->layout,
                          .layer = layer, .head = j->h, .rows = j->r1 - r, .group = group,
                          .first = s->segment * ATTENTION_SEGMENT, .n = n,
                          .scale = 1.0f / sqrtf((float)d)};

    if (next)
        attention_next(&a, t, next);
    for (uint32_t i = 0; i < a.rows; i++)
        n[i] = u32_min(ATTENTION_SEGMENT, lane_batch_row(t, r + i)->pos + 1 - a.first);
    t->k->attention(to->o + skip * to->o_stride, to->o_stride, to->mx + skip * group,
                    to->sum + skip * group, &a);
}

/* Folds a segment after the first into `all`. */
static void job_merge(struct lane *t, const struct job *j, uint32_t segment, const struct part *all,
                      const struct part *part)
{
    uint32_t group = lane_group(t), d = t->hp->head_dim;

    for (uint32_t i = (job_row(t, j, segment) - j->r0) * group; i < (j->r1 - j->r0) * group; i++)
        t->k->attention_merge(all->o + i / group * all->o_stride + (size_t)(i % group) * d, all->mx + i,
                              all->sum + i, part->o + (size_t)i * d, part->mx[i], part->sum[i], d);
}

bool lane_prepares_heads(const struct lane *t, unsigned kind)
{
    return lane_group(t) * t->hp->head_dim % kernels_act_block(kind) == 0;
}

/* o / sum; and what wo reads, if these columns are whole blocks. */
static void job_finish(struct lane *t, const struct job *j, const struct part *all, unsigned kind)
{
    uint32_t group = lane_group(t), d = t->hp->head_dim, width = t->hp->n_head * d;
    struct act later = lane_act(&t->s->later, t->s->att, width);

    for (uint32_t r = j->r0; r < j->r1; r++) {
        float *o = lane_out(t, r, j->h);

        for (uint32_t g = 0; g < group; g++)
            kernels_divide(o + (size_t)g * d, all->sum[(r - j->r0) * group + g], d);
        if (lane_prepares_heads(t, kind))
            kernels_prepare_part(t->k, &later, kind, r, j->h * group * d, o, (size_t)group * d);
    }
}

static void attend_whole(struct lane *t, uint32_t layer, unsigned kind, struct walk *w)
{
    uint32_t heads = t->s->block_rows * lane_group(t);
    float *buffer = t->s->seg + (size_t)t->tid * t->s->seg_width;

    while (walk_to(w, t, lane_draw(t))) {
        const struct job *job = &w->job;
        struct part all = lane_part(t, job, 0, buffer, heads), part;
        uint32_t segments = job_segments(t, job);

        /* one buffer will do: the first segment's o is in att, and its mx and sum stay before the others' */
        part = lane_part(t, job, 1, buffer, heads);
        part.mx = all.sum + heads;
        part.sum = part.mx + heads;
        lane_await_head(t, layer, job->h);
        for (uint32_t s = 0; s < segments; s++) {
            struct step next = {*job, s + 1};
            bool known = true;

            if (next.segment == segments) {
                struct walk guess = *w;

                known = walk_to(&guess, t, lane_guess(t));
                next = (struct step){guess.job, 0};
            }
            step_run(t, layer, &(struct step){*job, s}, s ? &part : &all, known ? &next : NULL);
            if (s)
                job_merge(t, job, s, &all, &part);
        }
        job_finish(t, job, &all, kind);
    }
}

/* A segment of a job whose parts are in the slots from `slot` on; done counts those that are there. */
static void attend_part(struct lane *t, uint32_t layer, unsigned kind, const struct step *s,
                        uint32_t slot, _Atomic uint32_t *done, const struct step *next)
{
    const struct job *j = &s->job;
    uint32_t heads = t->s->part_rows * lane_group(t), segments = job_segments(t, j);
    float *at = t->s->parts + (size_t)slot * t->s->part_width;
    struct part all = lane_part(t, j, 0, at, heads);
    struct part part = lane_part(t, j, s->segment, at + (size_t)s->segment * t->s->part_width, heads);

    lane_await_head(t, layer, j->h);
    step_run(t, layer, s, &part, next);
    /* acq_rel: who counts the last one sees what the others wrote before they counted */
    if (atomic_fetch_add_explicit(done, 1, memory_order_acq_rel) + 1 < segments)
        return;
    atomic_store_explicit(done, 0, memory_order_relaxed); /* a barrier is before its next use */
    for (uint32_t i = 1; i < segments; i++) {
        part = lane_part(t, j, i, at + (size_t)i * t->s->part_width, heads);
        job_merge(t, j, i, &all, &part);
    }
    job_finish(t, j, &all, kind);
}

/* The step that is n steps after segment s of w's job; false: there is none. */
static bool step_after(struct step *next, const struct lane *t, struct walk w, uint32_t s, uint32_t n)
{
    for (s += n; s >= job_segments(t, &w.job);) {
        s -= job_segments(t, &w.job);
        if (!walk_next(&w, t))
            return false;
    }
    *next = (struct step){w.job, s};
    return true;
}

/* As many jobs at a time as there are slots for; then all threads meet and the slots are free again. */
static void attend_parts(struct lane *t, uint32_t layer, unsigned kind, struct walk *w)
{
    uint32_t n = 0, mine = lane_draw(t), slots = t->s->part_slots;
    bool more = true;

    while (more) {
        uint32_t used = 0, i = 0;

        do { /* one job always fits */
            uint32_t segments = job_segments(t, &w->job);

            for (uint32_t s = 0; s < segments; s++, n++) {
                struct step next;

                if (n != mine)
                    continue;
                attend_part(t, layer, kind, &(struct step){w->job, s}, used, &t->s->parts_done[i],
                            step_after(&next, t, *w, s, lane_guess(t) - n) ? &next : NULL);
                mine = lane_draw(t);
            }
            used += segments;
            i++;
            more = walk_next(w, t);
        } while (more && used + job_segments(t, &w->job) <= slots);
        if (more)
            lane_barrier(t);
    }
}

/* Whether there are too few whole jobs for the threads, and something to share. */
static bool lane_shares(const struct lane *t)
{
    struct walk w;
    uint32_t jobs = 0, segments = 1;

    if (t->nt == 1)
        return false;
    walk_start(&w, t, t->s->block_rows);
    do {
        jobs++;
        segments = u32_max(segments, job_segments(t, &w.job));
    } while (jobs < 4 * t->nt && walk_next(&w, t));
    return jobs < 4 * t->nt && segments > 1;
}

void lane_attend(struct lane *t, uint32_t layer, unsigned kind)
{
    struct walk w;

    if (lane_shares(t)) {
        walk_start(&w, t, t->s->part_rows);
        attend_parts(t, layer, kind, &w);
    } else {
        walk_start(&w, t, t->s->block_rows);
        attend_whole(t, layer, kind, &w);
    }
}
