/* schedule: which item is sent when, and which one its client cancels. Pure: options, seed and rate
 * give the list. */
#ifndef TANDEM_BENCH_SCHEDULE_H
#define TANDEM_BENCH_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/arrivals.h"
#include "bench/options.h"
#include "bench/workload.h"

enum schedule_kind {
    SCHEDULE_ASAP,     /* as the server, or --max-concurrency, lets them */
    SCHEDULE_ARRIVALS, /* at random times of a rate */
    SCHEDULE_TRACE     /* at a trace's times */
};

struct planned {
    uint32_t item;
    int64_t due_ns;    /* after the start; 0 if ASAP */
    int64_t cancel_ns; /* after it was sent; 0: never */
};

struct schedule {
    const struct bench_options *options;
    const struct workload *workload;
    enum schedule_kind kind;
    struct arrivals arrivals;
    uint32_t first, count, next; /* items first .. first + count - 1; next: how many are taken */
    int64_t first_due;           /* a trace's time of item `first` */
    bool cancels;
};

/* rate: requests/s of this run; INFINITY: as the options say without a rate. Items first .. first +
 * count - 1, less where a trace ends. */
void schedule_init(struct schedule *s, const struct bench_options *o, const struct workload *w,
                   double rate, uint32_t first, uint32_t count);

/* The next one, in order of due_ns; false: that was all. */
bool schedule_next(struct schedule *s, struct planned *out);

#endif
