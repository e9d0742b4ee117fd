/* search: the highest request rate at which a share of requests keeps its targets. Pure: it asks for
 * the attainment at one rate after the other.
 *
 *   GROW    the rate doubles from the start while it holds (halves if the first does not, until it
 *           does, or requests no longer meet)
 *   BISECT  geometric means of the highest that held and the lowest that did not, until they are
 *           within SEARCH_PRECISION or SEARCH_PROBES_MAX probes were made
 *
 * Attainment has noise: the interval of the answer goes from the
 * highest rate whose attainment is surely at least the share (95 %, Wilson) to the lowest where it is
 * surely not. */
#ifndef TANDEM_BENCH_SEARCH_H
#define TANDEM_BENCH_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#define SEARCH_PROBES_MAX 16
#define SEARCH_PRECISION 1.08 /* highest failing over highest holding rate at which to stop */

struct probe {
    double rate;
    uint64_t good, judged;
    double goodput; /* good requests/s */
    bool saturated; /* cut short: it surely does not hold */
    bool alone;     /* no two requests met: if it does not hold, no lower rate does */
};

struct search {
    double share;
    double next; /* rate to try */
    struct probe probes[SEARCH_PROBES_MAX];
    uint32_t n;
};

struct search_answer {
    double rate;      /* the highest that held; 0: none did */
    double low, high; /* its interval; high is INFINITY if nothing surely failed */
    bool bounded;     /* a higher rate did not hold: otherwise the search ended before */
};

void search_init(struct search *s, double start, double share);

/* The next rate to try; false: the answer is known as well as it will be. */
bool search_next(double *rate, struct search *s);

/* What came of search_next's rate. */
void search_add(struct search *s, const struct probe *p);

/* Whether the probe kept the share. */
bool probe_holds(const struct probe *p, double share);

struct search_answer search_answer(const struct search *s);

#endif
