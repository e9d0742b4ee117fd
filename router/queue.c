#include "router/queue.h"

#include "base/hash.h"
#include "base/mem.h"

void queue_fini(struct queue *q)
{
    for (size_t b = 0; b < QUEUE_BANDS; b++) {
        struct queue_flow *f;
        size_t iter = 0;

        while ((f = map_next(&q->bands[b].flows, &iter)))
            mem_free(f);
        map_fini(&q->bands[b].flows);
    }
    *q = (struct queue){0};
}

uint32_t queue_cost(const struct session *s) { return s->n_prompt + s->max_new; }

/* The list of all that wait, by queued_at; most come last. */
static void queue_add_waiting(struct queue *q, struct session *s)
{
    struct session *before = q->newest;

    while (before && before->queued_at > s->queued_at)
        before = before->older;
    s->older = before;
    s->newer = before ? before->newer : q->oldest;
    *(s->newer ? &s->newer->older : &q->newest) = s;
    *(before ? &before->newer : &q->oldest) = s;
    q->n++;
    q->tokens += s->n_prompt + s->n_delivered;
    q->reserve += queue_cost(s);
}

static void queue_remove_waiting(struct queue *q, struct session *s)
{
    *(s->older ? &s->older->newer : &q->oldest) = s->newer;
    *(s->newer ? &s->newer->older : &q->newest) = s->older;
    s->older = s->newer = NULL;
    q->n--;
    q->tokens -= s->n_prompt + s->n_delivered;
    q->reserve -= queue_cost(s);
}

/* Lists by request number; most come last. */
static void list_add(struct session **head, struct session **tail, struct session *s)
{
    struct session *before = *tail;

    while (before && before->id.request > s->id.request)
        before = before->prev;
    s->prev = before;
    s->next = before ? before->next : *head;
    *(s->next ? &s->next->prev : tail) = s;
    *(before ? &before->next : head) = s;
}

static void list_remove(struct session **head, struct session **tail, struct session *s)
{
    *(s->prev ? &s->prev->next : head) = s->next;
    *(s->next ? &s->next->prev : tail) = s->prev;
    s->prev = s->next = NULL;
}

/* The tenant's flow in the band, made if it has none: behind all others in the ring. */
static struct queue_flow *band_flow(struct queue_band *band, uint64_t tenant)
{
    struct queue_flow *f = map_get(&band->flows, tenant);

    if (f)
        return f;
    f = mem_zalloc(sizeof(*f));
    f->tenant = tenant;
    f->next = band->turn ? band->turn : f;
    f->prev = band->turn ? band->turn->prev : f;
    f->prev->next = f;
    f->next->prev = f;
    if (!band->turn)
        band->turn = f;
    map_put(&band->flows, tenant, f);
    return f;
}

static void band_drop_flow(struct queue_band *band, struct queue_flow *f)
{
    if (band->turn == f)
        band->turn = f->next != f ? f->next : NULL;
    f->prev->next = f->next;
    f->next->prev = f->prev;
    map_del(&band->flows, f->tenant);
    mem_free(f);
}

static void queue_enter(struct queue *q, struct session *s, int64_t now)
{
    struct queue_band *band = &q->bands[s->priority];

    s->parked = false;
    if (s->id.epoch) { /* placed before */
        list_add(&q->restarted_head, &q->restarted_tail, s);
        return;
    }
    if (!band->n++)
        band->served_at = now;
    s->flow = band_flow(band, s->tenant_id);
    list_add(&s->flow->head, &s->flow->tail, s);
}

static void queue_leave(struct queue *q, struct session *s)
{
    struct queue_band *band = &q->bands[s->priority];
    struct queue_flow *f = s->flow;

    s->flow = NULL;
    if (s->parked)
        return;
    if (!f) {
        list_remove(&q->restarted_head, &q->restarted_tail, s);
        return;
    }
    list_remove(&f->head, &f->tail, s);
    band->n--;
    if (!f->head)
        band_drop_flow(band, f);
}

void queue_add(struct queue *q, struct session *s, int64_t now)
{
    queue_add_waiting(q, s);
    queue_enter(q, s, now);
}

void queue_remove(struct queue *q, struct session *s)
{
    queue_remove_waiting(q, s);
    queue_leave(q, s);
}

void queue_take(struct queue *q, struct session *s, int64_t now)
{
    if (s->flow) {
        s->flow->deficit -= queue_cost(s);
        q->bands[s->priority].served_at = now;
    }
    queue_remove(q, s);
}

void queue_park(struct queue *q, struct session *s)
{
    queue_leave(q, s);
    s->parked = true;
}

void queue_unpark(struct queue *q, int64_t now)
{
    for (struct session *s = q->oldest; s; s = s->newer) {
        if (s->parked)
            queue_enter(q, s, now);
    }
}

/* As many rounds of the ring at once as pass before any flow has what its head costs: large requests would
 * take thousands. */
static void band_skip_rounds(struct queue_band *band)
{
    int64_t rounds = INT64_MAX;
    struct queue_flow *f = band->turn;

    do {
        int64_t lacks = (int64_t)queue_cost(f->head) - f->deficit;
        int64_t needs = lacks <= 0 ? 0 : (lacks + QUEUE_QUANTUM - 1) / QUEUE_QUANTUM;

        rounds = needs < rounds ? needs : rounds;
        f = f->next;
    } while (f != band->turn && rounds);
    if (!rounds)
        return;
    do {
        f->deficit += rounds * QUEUE_QUANTUM;
        f = f->next;
    } while (f != band->turn);
}

/* The band whose turn it is, by age. NULL: nobody waits. */
static struct queue_band *queue_band_next(struct queue *q, int64_t now)
{
    struct queue_band *best = NULL;
    int64_t best_rank = 0;

    for (int64_t b = 0; b < QUEUE_BANDS; b++) {
        struct queue_band *band = &q->bands[b];
        int64_t rank = q->age_ns ? b - (now - band->served_at) / q->age_ns : b;

        if (!band->n)
            continue;
        rank = rank < 0 ? 0 : rank;
        if (!best || rank < best_rank ||
            (rank == best_rank && band->served_at < best->served_at)) {
            best = band;
            best_rank = rank;
        }
    }
    return best;
}

struct session *queue_next(struct queue *q, int64_t now)
{
    struct queue_band *band;

    if (q->restarted_head)
        return q->restarted_head;
    band = queue_band_next(q, now);
    if (!band)
        return NULL;
    if (band->turn->deficit < queue_cost(band->turn->head))
        band_skip_rounds(band);
    while (band->turn->deficit < queue_cost(band->turn->head)) {
        band->turn->deficit += QUEUE_QUANTUM;
        band->turn = band->turn->next;
    }
    return band->turn->head;
}
