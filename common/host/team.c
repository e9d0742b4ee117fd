/* DESIGN
 *
 *   thread 0   team_run: job, epoch++ ....... fn ....... arrive, wait for phase ... returns
 *   thread i   wait for epoch ............... fn ....... arrive ................... wait for epoch
 *   all        team_barrier: arrive, wait for phase
 *
 * The last to arrive advances `phase`. Arrival is counted in groups of 8 threads, then over groups,
 * so that 128 threads make 8 + 16 atomic steps in a row and not 128 on one cache line.
 *
 * A gate is a word that only advances. A waiter spins, then sleeps in futex(2). Who advances it makes
 * the system call only if somebody sleeps; no wake-up is lost because the waiter counts itself a
 * sleeper before the kernel compares the word, and the opener advances the word before it reads the
 * count (all three sequentially consistent): one of the two sees the other. */
#include "host/team.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "host/topo.h"

#define LINE 64    /* bytes of a cache line */
#define GROUP 8    /* threads that count on one line */
#define SPIN_NS (5 * CLOCK_US) /* about what a futex wake-up costs: at worst waiting costs twice that */
#define SPIN_POLLS 16 /* between two looks at the clock */

struct counter {
    _Alignas(LINE) atomic_uint value;
};

struct worker {
    struct team *team;
    pthread_t thread;
    uint32_t tid;
};

struct team {
    struct team_gate epoch; /* opened by thread 0: a job, or the end if fn is NULL */
    struct team_gate phase; /* opened by the last to arrive */
    struct counter root;
    struct counter groups[(TEAM_THREADS_MAX + GROUP - 1) / GROUP];
    uint32_t n, n_started; /* threads; of them running, thread 0 included */
    int64_t spin_ns;
    team_fn *fn; /* written by thread 0 before epoch opens */
    void *ctx;
    struct worker *workers; /* [n]; workers[0] is not used */
    cpu_set_t old_affinity; /* of thread 0 */
    bool pinned;
};

static inline void pause_core(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void team_gate_reset(struct team_gate *g)
{
    /* relaxed: team_run publishes it */
    atomic_store_explicit(&g->value, 0, memory_order_relaxed);
    atomic_store_explicit(&g->sleepers, 0, memory_order_relaxed);
}

void team_gate_add(struct team_gate *g, uint32_t n)
{
    /* release to the acquire loads in gate_passed, additions after it belonging to its release
     * sequence; seq_cst for the sleepers, see DESIGN */
    atomic_fetch_add_explicit(&g->value, n, memory_order_seq_cst);
    if (atomic_load_explicit(&g->sleepers, memory_order_seq_cst) > 0)
        syscall(SYS_futex, &g->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static bool gate_passed(struct team_gate *g, unsigned full, unsigned *value)
{
    /* acquire: matches team_gate_add. A count may wrap. */
    *value = atomic_load_explicit(&g->value, memory_order_acquire);
    return (int)(*value - full) >= 0;
}

static bool gate_spin(struct team_gate *g, unsigned full, int64_t spin_ns)
{
    unsigned value;
    int64_t end;

    if (gate_passed(g, full, &value))
        return true;
    if (spin_ns == 0)
        return false;
    end = clock_now() + spin_ns;
    do {
        for (int i = 0; i < SPIN_POLLS; i++) {
            if (gate_passed(g, full, &value))
                return true;
            pause_core();
        }
    } while (clock_now() < end);
    return false;
}

static void gate_wait(struct team_gate *g, unsigned full, int64_t spin_ns)
{
    unsigned value;

    if (gate_spin(g, full, spin_ns))
        return;
    /* seq_cst: pairs with team_gate_add, see DESIGN */
    atomic_fetch_add_explicit(&g->sleepers, 1, memory_order_seq_cst);
    while (!gate_passed(g, full, &value))
        syscall(SYS_futex, &g->value, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
    /* relaxed: a count too high for a moment costs who adds a system call, no more */
    atomic_fetch_sub_explicit(&g->sleepers, 1, memory_order_relaxed);
}

void team_gate_wait(struct team *t, struct team_gate *g, uint32_t full) { gate_wait(g, full, t->spin_ns); }

/* True if it completes the count. Resets it then: nobody counts again before `phase` opens. acq_rel:
 * what every thread wrote before it counted is visible to the one that completes the count. */
static bool counter_add(struct counter *c, uint32_t full)
{
    if (atomic_fetch_add_explicit(&c->value, 1, memory_order_acq_rel) + 1 < full)
        return false;
    atomic_store_explicit(&c->value, 0, memory_order_relaxed); /* published by team_gate_add */
    return true;
}

/* True if the caller was the last, and has opened `phase`. */
static bool arrive(struct team *t, uint32_t tid)
{
    uint32_t group = tid / GROUP;
    uint32_t n_groups = (t->n + GROUP - 1) / GROUP;

    if (!counter_add(&t->groups[group], u32_min(GROUP, t->n - group * GROUP)) ||
        !counter_add(&t->root, n_groups))
        return false;
    team_gate_add(&t->phase, 1);
    return true;
}

void team_barrier(struct team *t, uint32_t tid)
{
    /* relaxed: the phase cannot advance before this thread has arrived */
    unsigned phase = atomic_load_explicit(&t->phase.value, memory_order_relaxed);

    if (t->n > 1 && !arrive(t, tid))
        gate_wait(&t->phase, phase + 1, t->spin_ns);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct team *t = w->team;
    unsigned epoch = 0; /* no job is given before all have arrived in team_new */
    char name[16];      /* the kernel's limit */

    snprintf(name, sizeof(name), "team-%u", w->tid % 10000);
    pthread_setname_np(pthread_self(), name);
    arrive(t, w->tid);
    for (;;) {
        gate_wait(&t->epoch, ++epoch, t->spin_ns);
        if (!t->fn)
            return NULL;
        t->fn(t->ctx, w->tid, t->n);
        arrive(t, w->tid);
    }
}

void team_run(struct team *t, team_fn *fn, void *ctx)
{
    if (t->n == 1) {
        fn(ctx, 0, 1);
        return;
    }
    t->fn = fn;
    t->ctx = ctx;
    team_gate_add(&t->epoch, 1);
    fn(ctx, 0, t->n);
    team_barrier(t, 0);
}

static int worker_start(struct team *t, uint32_t tid, const uint32_t *pus, struct err *e)
{
    struct worker *w = &t->workers[tid];
    pthread_attr_t attr;
    int rc;

    *w = (struct worker){.team = t, .tid = tid};
    pthread_attr_init(&attr);
    if (pus) {
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET(pus[tid], &set);
        pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
    }
    rc = pthread_create(&w->thread, &attr, worker_main, w);
    pthread_attr_destroy(&attr);
    if (rc == EINVAL && pus)
        return err_set(e, ERR_ARG, "team: this process may not run a thread on PU %u", pus[tid]);
    if (rc != 0)
        return err_set(e, ERR_IO, "team: cannot start thread %u of %u: %s", tid, t->n,
                       strerror(rc));
    t->n_started++;
    return ERR_OK;
}

/* Signals are the business of the thread that runs the loop. */
static int workers_start(struct team *t, const uint32_t *pus, struct err *e)
{
    sigset_t all, old;
    int rc = ERR_OK;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (uint32_t i = 1; i < t->n && rc == ERR_OK; i++)
        rc = worker_start(t, i, pus, e);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

/* Cores that the team's threads have to themselves: different PUs, or those the caller may use. */
static uint32_t cores_for(const uint32_t *pus, uint32_t n)
{
    cpu_set_t set;

    if (!pus)
        return topo_allowed_pus();
    CPU_ZERO(&set);
    for (uint32_t i = 0; i < n; i++)
        CPU_SET(pus[i], &set);
    return (uint32_t)CPU_COUNT(&set);
}

int team_new(struct team **out, const uint32_t *pus, uint32_t n, struct err *e)
{
    struct team *t;
    int rc = ERR_OK;

    *out = NULL;
    if (n < 1 || n > TEAM_THREADS_MAX)
        return err_set(e, ERR_ARG, "team: %u threads, must be 1 to %u", n, TEAM_THREADS_MAX);
    for (uint32_t i = 0; pus && i < n; i++)
        if (pus[i] >= CPU_SETSIZE)
            return err_set(e, ERR_ARG, "team: PU %u is over the limit of %d", pus[i],
                           CPU_SETSIZE - 1);
    t = mem_aligned(sizeof(*t), LINE);
    memset(t, 0, sizeof(*t));
    t->n = n;
    t->n_started = 1;
    t->workers = mem_calloc(n, sizeof(*t->workers));
    t->spin_ns = cores_for(pus, n) >= n ? SPIN_NS : 0;
    if (pus) {
        t->pinned = sched_getaffinity(0, sizeof(t->old_affinity), &t->old_affinity) == 0;
        rc = topo_bind_thread(pus[0], e);
    }
    if (rc == ERR_OK)
        rc = workers_start(t, pus, e);
    if (rc != ERR_OK)
        goto fail;
    team_barrier(t, 0);
    *out = t;
    return ERR_OK;
fail:
    team_free(&t);
    return rc;
}

void team_free(struct team **out)
{
    struct team *t = *out;

    if (!t)
        return;
    t->fn = NULL;
    team_gate_add(&t->epoch, 1);
    for (uint32_t i = 1; i < t->n_started; i++)
        pthread_join(t->workers[i].thread, NULL);
    if (t->pinned)
        sched_setaffinity(0, sizeof(t->old_affinity), &t->old_affinity);
    mem_free(t->workers);
    mem_free(t);
    *out = NULL;
}

uint32_t team_size(const struct team *t)
{
    return t->n;
}
