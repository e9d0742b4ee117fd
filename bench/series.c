#include "bench/series.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void series_add(struct series *s, double value)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 256;
        s->values = mem_realloc(s->values, s->cap * sizeof(*s->values));
    }
    s->values[s->n++] = value;
    s->sorted = false;
}

void series_fini(struct series *s)
{
    mem_free(s->values);
    memset(s, 0, sizeof(*s));
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

double series_percentile(struct series *s, double p)
{
    /* a hair less: 99.9 % of 1000 is 999, though 99.9 / 100 * 1000 is not quite */
    size_t rank = (size_t)ceil(p / 100 * (double)s->n - 1e-9);

    if (s->n == 0)
        return 0;
    if (!s->sorted)
        qsort(s->values, s->n, sizeof(*s->values), compare);
    s->sorted = true;
    return s->values[rank > 0 ? rank - 1 : 0];
}

struct stats series_stats(struct series *s)
{
    struct stats out = {.n = s->n,
                        .min = series_percentile(s, 0),
                        .p50 = series_percentile(s, 50),
                        .p90 = series_percentile(s, 90),
                        .p95 = series_percentile(s, 95),
                        .p99 = series_percentile(s, 99),
                        .max = series_percentile(s, 100)};
    double squares = 0;

    for (size_t i = 0; i < s->n; i++)
        out.mean += s->values[i] / (double)s->n;
    for (size_t i = 0; i < s->n; i++)
        squares += (s->values[i] - out.mean) * (s->values[i] - out.mean);
    out.std = s->n > 0 ? sqrt(squares / (double)s->n) : 0;
    return out;
}
