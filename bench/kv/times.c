#include "bench/kv/times.h"

#include <stdlib.h>

void times_add(struct times *t, int64_t ns)
{
    if (t->n < TIMES_MAX)
        t->ms[t->n++] = (double)ns / 1e6;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double times_best(struct times *t)
{
    qsort(t->ms, t->n, sizeof(*t->ms), by_value);
    return t->n ? t->ms[0] : 0;
}

double times_median(struct times *t)
{
    qsort(t->ms, t->n, sizeof(*t->ms), by_value);
    return t->n ? t->ms[t->n / 2] : 0;
}

double times_ratio(const struct times *a, const struct times *b)
{
    static struct times t;

    for (t.n = 0; t.n < a->n && t.n < b->n; t.n++)
        t.ms[t.n] = a->ms[t.n] / b->ms[t.n];
    return times_median(&t);
}
