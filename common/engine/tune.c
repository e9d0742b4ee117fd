/* DESIGN: matrices of one type and width make a group, and the tallest of it stand for it, a different
 * one each time, so that weights come from where they come from in a pass. All threads multiply parts
 * of their own panels by one kernel, then by the other, from meeting to meeting; the best of several
 * rounds counts, because a neighbour only ever adds time. From the usual number of rows one steps up
 * while the kernel for few is no slower, or down while it is slower by more than MARGIN. */
#include "engine/tune.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/lane.h"

#define GROUPS 8
#define MATRICES 16
#define PANELS 64 /* of a thread at a time: about a millisecond, and past L2 */
#define ROUNDS_MIN 3
#define ROUNDS_MAX 9
#define BUDGET_NS (250 * CLOCK_MS) /* of all groups */
#define MARGIN 1.02                /* so much is noise */

struct group {
    enum dtype type;
    uint32_t n_in, n_out; /* n_out: of the tallest */
    const struct panels *matrices[MATRICES];
    uint32_t n, few;
    struct kernels_few range;
};

struct tune {
    struct engine *e;
    struct group groups[GROUPS];
    uint32_t n, rows; /* rows: of x, at most so many */
    struct act x;
    float *y; /* [rows][n_out] of the tallest */
};

/* One multiplication. */
struct turn {
    const struct tune *t;
    struct panels w;
    uint32_t m;
    int64_t ns; /* written by thread 0 */
};

static struct group *group_of(struct tune *t, const struct panels *w)
{
    for (uint32_t i = 0; i < t->n; i++)
        if (t->groups[i].type == w->type && t->groups[i].n_in == w->n_in)
            return &t->groups[i];
    return NULL;
}

/* Groups past the last, of which no model has so many, stay as they are. */
static void matrix_add(void *ctx, struct panels *w)
{
    struct tune *t = ctx;
    struct group *g = group_of(t, w);
    struct kernels_few range;

    if (!kernels_few(t->e->kern, w->type, &range))
        return;
    if (!g && t->n < GROUPS) {
        g = &t->groups[t->n++];
        *g = (struct group){.type = w->type, .n_in = w->n_in, .few = range.usual, .range = range};
    }
    if (!g || w->n_out < g->n_out || (w->n_out == g->n_out && g->n == MATRICES))
        return;
    if (w->n_out > g->n_out)
        g->n = 0;
    g->n_out = w->n_out;
    g->matrices[g->n++] = w;
}

static void matrix_set(void *ctx, struct panels *w)
{
    const struct group *g = group_of(ctx, w);

    if (g)
        w->few = g->few;
}

static void turn_part(void *ctx, uint32_t tid, uint32_t nt)
{
    struct turn *u = ctx;
    const struct engine *e = u->t->e;
    uint32_t p0, p1;
    int64_t start;

    team_range(u->w.n_panels, tid, nt, &p0, &p1);
    p1 = u32_min(p1, p0 + PANELS);
    team_barrier(e->team, tid);
    start = clock_now();
    if (p0 < p1)
        kernels_matmul(e->kern, u->t->y, u->w.n_out, &u->w, &u->t->x, u->m, p0, p1);
    team_barrier(e->team, tid);
    if (tid == 0)
        u->ns = clock_now() - start;
}

static int64_t group_turn(const struct tune *t, const struct group *g, uint32_t number, uint32_t m, bool few)
{
    struct turn u = {.t = t, .w = *g->matrices[number % g->n], .m = m};

    u.w.few = few ? m : m - 1;
    team_run(t->e->team, turn_part, &u);
    return u.ns;
}

/* Whether the kernel for few rows is no slower at m, within the margin. */
static bool group_few(const struct tune *t, const struct group *g, uint32_t m, int64_t end)
{
    int64_t few = INT64_MAX, many = INT64_MAX;

    for (uint32_t i = 0; i < ROUNDS_MAX && (i < ROUNDS_MIN || clock_now() < end); i++) {
        int64_t a = group_turn(t, g, 2 * i, m, true), b = group_turn(t, g, 2 * i + 1, m, false);

        few = a < few ? a : few;
        many = b < many ? b : many;
    }
    return (double)few <= (double)many * MARGIN;
}

static void group_tune(const struct tune *t, struct group *g, int64_t end)
{
    uint32_t step = g->range.step, most = u32_min(g->range.max, t->rows);
    uint32_t m = u32_min(g->few, most);

    if (m <= g->range.min)
        return; /* the engine takes no more rows */
    if (group_few(t, g, m, end)) {
        while (m + step <= most && group_few(t, g, m + step, end))
            m += step;
    } else {
        do
            m -= step;
        while (m > g->range.min && !group_few(t, g, m, end));
    }
    g->few = m;
}

/* Rows of some values in the forms that matrices of the group's width read. */
static void group_prepare(struct tune *t, const struct group *g)
{
    float *row = t->e->s.own[0].row;
    uint32_t seed = 1;

    t->x = lane_act(&t->e->s.later, t->e->s.att, g->n_in);
    for (uint32_t i = 0; i < g->n_in; i++) {
        seed = seed * 1664525 + 1013904223;
        row[i] = (float)(seed >> 8) * 0x1p-23f - 1;
    }
    for (uint32_t r = 0; r < t->rows; r++)
        kernels_prepare(t->e->kern, &t->x, 1u << kernels_act_kind(t->e->kern, g->type), r, row, g->n_in);
}

static void tune_measure(struct tune *t)
{
    int64_t start = clock_now();
    size_t tallest = 0;
    uint32_t rows = 0;

    for (uint32_t i = 0; i < t->n; i++) {
        tallest = size_max(tallest, t->groups[i].n_out);
        rows = u32_max(rows, t->groups[i].range.max);
    }
    t->rows = u32_min(rows, t->e->rows_max);
    t->y = mem_aligned(size_max(t->rows * tallest, 1) * sizeof(float), 64);
    for (uint32_t i = 0; i < t->n; i++) {
        group_prepare(t, &t->groups[i]);
        group_tune(t, &t->groups[i], start + BUDGET_NS * (i + 1) / t->n);
    }
    mem_free(t->y);
}

void tune_engine(struct engine *en, uint32_t rows)
{
    struct tune t = {.e = en};
    int64_t start = clock_now();

    model_each_matrix(&en->model, matrix_add, &t);
    if (!t.n)
        return;
    if (!rows)
        tune_measure(&t);
    for (uint32_t i = 0; i < t.n; i++) {
        struct group *g = &t.groups[i];

        if (rows)
            g->few = rows;
        str_addf(&en->few_rows, "%s%s*%u=%u", i ? " " : "", dtype_info(g->type)->name, g->n_in, g->few);
    }
    model_each_matrix(&en->model, matrix_set, &t);
    log_info("engine", "ms=%.1f kernels for few rows are taken up to: %s",
             (double)(clock_now() - start) / CLOCK_MS, str_text(&en->few_rows));
}
