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

static double percentile(const struct series *s, double p)
{
    size_t rank = (size_t)ceil(p / 100 * (double)s->n);

    return s->values[rank > 0 ? rank - 1 : 0];
}

struct stats series_stats(struct series *s)
{
    double sum = 0;

    if (s->n == 0)
        return (struct stats){0};
    qsort(s->values, s->n, sizeof(*s->values), compare);
    for (size_t i = 0; i < s->n; i++)
        sum += s->values[i];
    return (struct stats){s->n,
                          sum / (double)s->n,
                          percentile(s, 50),
                          percentile(s, 90),
                          percentile(s, 95),
                          percentile(s, 99),
                          s->values[s->n - 1]};
}
