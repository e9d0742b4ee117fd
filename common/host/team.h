/* team: threads that compute together, each pinned to a core.
 *
 * The thread that calls team_new is thread 0 of the team, and the only one that may call team_run
 * and team_free. Waiting threads spin a few microseconds, so that the many short steps of a decode
 * do not pay a wake-up each, then sleep. With more threads than cores nobody spins. */
#ifndef TANDEM_HOST_TEAM_H
#define TANDEM_HOST_TEAM_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"

#define TEAM_THREADS_MAX 1024

struct team;

typedef void team_fn(void *ctx, uint32_t tid, uint32_t n);

/* n threads in all, 1 <= n <= TEAM_THREADS_MAX: the caller and n - 1 new ones, thread i on hardware
 * thread pus[i]. pus NULL: none is pinned. Returns when all are ready; they block all signals.
 * ERR_ARG: n out of range, or a PU this process may not run on; ERR_IO: the system starts no more
 * threads. */
int team_new(struct team **t, const uint32_t *pus, uint32_t n, struct err *e);

/* Ends the threads and waits for them; the caller may then run where it could before team_new. */
void team_free(struct team **t);

uint32_t team_size(const struct team *t);

/* Runs fn(ctx, tid, n) on every thread, tid 0 being the caller; returns when all have returned. What
 * the caller wrote before is visible to fn, what fn wrote to the caller after. */
void team_run(struct team *t, team_fn *fn, void *ctx);

/* Inside fn, called by every thread: returns when all have called it, and makes visible to each what
 * the others wrote before. */
void team_barrier(struct team *t, uint32_t tid);

/* A count that some threads add to and others wait for. Owned by the caller of team_run. */
struct team_gate {
    _Alignas(64) atomic_uint value; /* a line of its own; only advances */
    atomic_uint sleepers;
};

/* To zero, while no thread uses it. */
void team_gate_reset(struct team_gate *g);

/* Inside fn. What a thread wrote before it added is visible to who has waited for that. */
void team_gate_add(struct team_gate *g, uint32_t n);

/* Inside fn: returns when `full` or more has been added; spins and sleeps as the barrier does. */
void team_gate_wait(struct team *t, struct team_gate *g, uint32_t full);

/* The part [*lo, *hi) of n items that is thread tid's of nt: contiguous, sizes differ by at most 1. */
static inline void team_range(uint32_t n, uint32_t tid, uint32_t nt, uint32_t *lo, uint32_t *hi)
{
    *lo = (uint32_t)((uint64_t)n * tid / nt);
    *hi = (uint32_t)((uint64_t)n * (tid + 1) / nt);
}

#endif
