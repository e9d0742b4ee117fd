#include "router/cost.h"

#include <math.h>

#define COST_PROMPT_WEIGHT 512.0 /* tokens that move the correction half of the way */

static double cost_or(uint64_t value, double unknown)
{
    return value ? (double)value : unknown;
}

void cost_model_init(struct cost_model *m, const struct msg_register *reg)
{
    *m = (struct cost_model){
        .weight_bytes = cost_or(reg->weight_bytes, COST_UNKNOWN_WEIGHTS),
        .kv_token_bytes = cost_or(reg->kv_token_bytes, COST_UNKNOWN_KV),
        .flops_token = cost_or(reg->flops_token, COST_UNKNOWN_FLOPS),
        .read_bytes_s = cost_or(reg->read_bytes_s, COST_UNKNOWN_READ),
        .flops_s = cost_or(reg->flops_s, COST_UNKNOWN_FLOPS_S),
        .known = reg->weight_bytes && reg->kv_token_bytes && reg->flops_token &&
                 reg->read_bytes_s && reg->flops_s,
        .prompt_x = 1,
        .step_x = 1,
    };
}

void cost_model_level(struct cost_model *a, struct cost_model *b)
{
    if (!a->known || !b->known)
        return;
    a->read_bytes_s = b->read_bytes_s = fmax(a->read_bytes_s, b->read_bytes_s);
    a->flops_s = b->flops_s = fmax(a->flops_s, b->flops_s);
}

/* The correction x, seen at `seen`, as of now. */
static double cost_faded(double x, int64_t seen, int64_t now)
{
    double age = now > seen ? (double)(now - seen) : 0;

    return x == 1.0 ? x : pow(x, exp2(-age / (double)COST_FADE_NS));
}

static double cost_row_s(const struct cost_model *m)
{
    return m->flops_token / (COST_PEAK * m->flops_s);
}

struct cost_rates cost_rates(const struct cost_model *m, int64_t now)
{
    double prompt_x = cost_faded(m->prompt_x, m->prompt_seen, now);
    double step_x = cost_faded(m->step_x, m->step_seen, now);

    return (struct cost_rates){
        .token_s = cost_row_s(m) * prompt_x,
        .step_s = m->weight_bytes / m->read_bytes_s * step_x,
        .step_row_s = (cost_row_s(m) + COST_ROW * m->weight_bytes / m->read_bytes_s) * step_x,
        .step_kv_s = m->kv_token_bytes / m->read_bytes_s * step_x,
        .kv_token_bytes = m->kv_token_bytes,
        .known = m->known,
    };
}

double cost_step_s(const struct cost_rates *r, double rows, double kv_tokens)
{
    return r->step_s + rows * r->step_row_s + kv_tokens * r->step_kv_s;
}

/* Moves *x by `share` of the way to seen_s / plain_s, in the logarithm: twice and half weigh alike. */
static void cost_correct(double *x, int64_t *seen, double seen_s, double plain_s, double share,
                         int64_t now)
{
    double ratio = seen_s / plain_s;

    ratio = fmin(fmax(ratio, 1 / COST_X_MAX), COST_X_MAX);
    *x = cost_faded(*x, *seen, now);
    *x *= pow(ratio / *x, share);
    *seen = now;
}

void cost_saw_prompt(struct cost_model *m, uint64_t tokens, int64_t ns, int64_t now)
{
    double n = (double)tokens;

    if (!tokens || ns <= 0)
        return;
    cost_correct(&m->prompt_x, &m->prompt_seen, (double)ns / 1e9, n * cost_row_s(m),
                 n / (n + COST_PROMPT_WEIGHT), now);
}

void cost_saw_step(struct cost_model *m, double rows, double kv_tokens, int64_t step_ns,
                   int64_t now)
{
    struct cost_model plain = *m;
    struct cost_rates r;

    if (step_ns <= 0 || rows <= 0)
        return;
    plain.step_x = 1;
    r = cost_rates(&plain, now);
    cost_correct(&m->step_x, &m->step_seen, (double)step_ns / 1e9, cost_step_s(&r, rows, kv_tokens),
                 0.25, now);
}
