/* target: what a request must hold to count as good: "ttft:500 tpot:100", in ms. Pure. */
#ifndef TANDEM_BENCH_TARGET_H
#define TANDEM_BENCH_TARGET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum metric { METRIC_TTFT, METRIC_TTST, METRIC_TPOT, METRIC_ITL, METRIC_E2EL, METRIC_COUNT };

struct targets {
    size_t n;                /* how many are set */
    double ms[METRIC_COUNT]; /* 0: none */
};

/* "ttft", ...: the word in options and in JSON keys. */
const char *metric_name(enum metric m);

/* METRIC_COUNT if s[n] is no metric's name. */
enum metric metric_find(const char *s, size_t n);

/* Reads NAME:MS separated by blanks or commas. itl is a request's mean gap. ERR_CONFIG. */
int targets_parse(struct targets *t, const char *text, struct err *e);

/* Whether values (ms; negative: the request has none, which holds) keep each target. */
bool targets_hold(const struct targets *t, const double values[METRIC_COUNT]);

#endif
