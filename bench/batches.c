#include "bench/batches.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"

#define BATCHES_T 2.093024 /* Student's t of 19 degrees of freedom, 97.5 % */

/* First start and last end, as figures.c has the seconds; returns how many succeeded. */
static uint64_t batches_span(int64_t *from, int64_t *to, const struct result *r)
{
    uint64_t ok = 0;

    for (size_t i = 0; i < r->n; i++) {
        const struct record *c = &r->records[i];

        *from = i == 0 || c->start < *from ? c->start : *from;
        *to = i == 0 || c->done > *to ? c->done : *to;
        ok += c->outcome == OUTCOME_OK;
    }
    return ok;
}

static void batches_add(double parts[BATCHES_PARTS], int64_t at, int64_t from, int64_t to, double what)
{
    double part = (double)(at - from) / (double)(to - from) * BATCHES_PARTS;
    int i = part < 0 ? 0 : part >= BATCHES_PARTS ? BATCHES_PARTS - 1 : (int)part;

    parts[i] += what;
}

/* An output's tokens are its share of the answer's. */
static void batches_take(double requests[BATCHES_PARTS], double tokens[BATCHES_PARTS],
                         const struct record *c, int64_t from, int64_t to)
{
    double each = c->outputs > 0 ? (double)c->output_tokens / c->outputs : 0;
    int64_t at = c->first;

    batches_add(requests, c->done, from, to, 1);
    for (uint32_t i = 0; i < c->outputs; i++) {
        batches_add(tokens, at, from, to, each);
        if (i + 1 < c->outputs)
            at += (int64_t)((double)c->gaps_ms[i] * CLOCK_MS);
    }
}

static void batches_interval(double out[2], const double parts[BATCHES_PARTS], double part_s)
{
    double mean = 0, square = 0, spread;

    for (int i = 0; i < BATCHES_PARTS; i++)
        mean += parts[i] / part_s / BATCHES_PARTS;
    for (int i = 0; i < BATCHES_PARTS; i++)
        square += (parts[i] / part_s - mean) * (parts[i] / part_s - mean);
    spread = BATCHES_T * sqrt(square / (BATCHES_PARTS - 1) / BATCHES_PARTS);
    out[0] = fmax(0, mean - spread);
    out[1] = mean + spread;
}

bool batches_make(struct batches *b, const struct result *r)
{
    double requests[BATCHES_PARTS] = {0}, tokens[BATCHES_PARTS] = {0};
    int64_t from = 0, to = 0;

    memset(b, 0, sizeof(*b));
    for (size_t i = 0; i < r->n; i++)
        if (r->records[i].segment != r->records[0].segment)
            return false;
    if (batches_span(&from, &to, r) < BATCHES_REQUESTS_MIN || to <= from)
        return false;
    for (size_t i = 0; i < r->n; i++)
        if (r->records[i].outcome == OUTCOME_OK)
            batches_take(requests, tokens, &r->records[i], from, to);
    batches_interval(b->requests_per_s, requests, clock_s(to - from) / BATCHES_PARTS);
    batches_interval(b->output_tokens_per_s, tokens, clock_s(to - from) / BATCHES_PARTS);
    return true;
}
