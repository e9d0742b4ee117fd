#include "engine/sample.h"

#include <math.h>
#include <stdbool.h>

#include "base/check.h"
#include "base/rng.h"
#include "kernels/kernels.h"

/* a comes before b: larger logit, then lower id. */
static bool sample_before(const struct sample_item *a, const struct sample_item *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

/* Restores the heap (best item on top) below i. */
static void sample_sift(struct sample_item *heap, uint32_t n, uint32_t i)
{
    struct sample_item x = heap[i];

    for (uint32_t c; (c = 2 * i + 1) < n; i = c) {
        if (c + 1 < n && sample_before(&heap[c + 1], &heap[c]))
            c++;
        if (!sample_before(&heap[c], &x))
            break;
        heap[i] = heap[c];
    }
    heap[i] = x;
}

/* Moves the best item of heap[0..n) to heap[n - 1]; the heap is one shorter then. */
static void sample_pop(struct sample_item *heap, uint32_t n)
{
    struct sample_item best = heap[0];

    heap[0] = heap[n - 1];
    sample_sift(heap, n - 1, 0);
    heap[n - 1] = best;
}

static uint32_t sample_greedy(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    float top = -INFINITY;

    for (uint32_t i = 0; i < n; i++) {
        if (logits[i] > top) { /* false for NaN */
            top = logits[i];
            best = i;
        }
    }
    return best;
}

static double sample_weight(float logit, float top, float temperature)
{
    return (double)kernels_exp((logit - top) / temperature);
}

uint32_t sample_token(const float *logits, uint32_t n, const struct sample_params *p,
                      uint32_t index, struct sample_item *items)
{
    uint32_t keep = p->top_k && p->top_k < n ? p->top_k : n, i;
    double total = 0, cut = 0, draw, sum = 0;
    float top;

    ASSERT(n > 0);
    if (p->temperature <= 0)
        return sample_greedy(logits, n);
    for (i = 0; i < n; i++)
        items[i] = (struct sample_item){isnan(logits[i]) ? -INFINITY : logits[i], i};
    for (i = n / 2; i-- > 0;)
        sample_sift(items, n, i);
    top = items[0].logit;
    if (!isfinite(top))
        return items[0].id; /* all -inf, or a +inf: nothing to weigh */
    if (keep == n) {
        for (i = 0; i < n; i++)
            total += sample_weight(isnan(logits[i]) ? -INFINITY : logits[i], top, p->temperature);
    } else {
        for (i = 0; i < keep; i++)
            sample_pop(items, n - i);
        for (i = 0; i < keep; i++)
            total += sample_weight(items[n - 1 - i].logit, top, p->temperature);
    }
    /* From here the kept items come best first: those popped already, the rest as needed. */
    cut = (double)p->top_p < 1 ? total * (double)p->top_p : total;
    if (cut < total) {
        double mass = 0;

        for (i = 0; i < keep && mass < cut; i++) {
            if (keep == n)
                sample_pop(items, n - i);
            mass += sample_weight(items[n - 1 - i].logit, top, p->temperature);
        }
        keep = i;
        total = mass;
    } else if (keep == n) {
        /* Nothing is cut off: in the order of ids, without sorting the vocabulary. */
        draw = rng_f64(p->seed, index) * total;
        for (i = 0; i < n; i++) {
            sum += sample_weight(isnan(logits[i]) ? -INFINITY : logits[i], top, p->temperature);
            if (sum > draw)
                return i;
        }
        return sample_greedy(logits, n); /* rounding at the end of the sum */
    }
    draw = rng_f64(p->seed, index) * total;
    for (i = 0; i < keep; i++) {
        sum += sample_weight(items[n - 1 - i].logit, top, p->temperature);
        if (sum > draw)
            return items[n - 1 - i].id;
    }
    return items[n - 1].id;
}
