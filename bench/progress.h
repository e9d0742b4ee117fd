/* progress: a line on stderr that tells how far a run is, written over itself twice a second. */
#ifndef TANDEM_BENCH_PROGRESS_H
#define TANDEM_BENCH_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#define PROGRESS_RECENT 64 /* TTFTs whose median is shown */

struct progress {
    bool on;
    char label[64]; /* of the run */
    int64_t start, shown_at;
    uint64_t planned, ok, failed, tokens; /* planned: UINT32_MAX if unknown */
    double recent[PROGRESS_RECENT];       /* ms */
    uint64_t n_recent;
};

void progress_begin(struct progress *p, bool on, const char *label, uint64_t planned, int64_t now);
/* A request has ended; ttft_ms: negative if it has none. */
void progress_add(struct progress *p, bool ok, uint32_t tokens, double ttft_ms);
/* Shows the line if it is time. */
void progress_show(struct progress *p, uint64_t in_flight, int64_t now);
/* Wipes the line. */
void progress_end(struct progress *p);

#endif
