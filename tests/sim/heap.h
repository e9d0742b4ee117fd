/* heap: what happens next in a simulated cluster. Events leave by time, those of one time in the
 * order in which they came, so that a schedule is the same each time it is played. */
#ifndef TANDEM_SIM_HEAP_H
#define TANDEM_SIM_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event {
    int64_t at;
    uint64_t seq;  /* order of events of one time */
    int kind;
    uint32_t proc; /* whose event; it waits while that process is stopped */
    uint32_t life; /* and is void if that process has died since */
    uint32_t arg;
    void *data;
};

struct heap { /* zeroed: empty */
    struct event *items;
    size_t n, cap;
    uint64_t next_seq;
};

/* Adds *e; its seq is set unless it is not 0: an event put back keeps its place. */
void heap_push(struct heap *h, struct event e);
/* False: empty. */
bool heap_pop(struct heap *h, struct event *out);
void heap_fini(struct heap *h);

#endif
