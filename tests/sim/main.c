/* tandem-sim: plays seeded fault schedules of a whole cluster (world.h) on all cores and reports. A
 * failing seed prints `seed SEED: what broke`; the last line is `sim: N schedules, ..., M failed`. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "config/option.h"
#include "router/nodes.h"
#include "tests/sim/policy.h"
#include "tests/sim/world.h"

#define REPORTED_MAX 20 /* failing seeds that a worker prints */
#define DISCONNECTS 10000 /* at least */

struct result { /* of a worker, in memory that it shares with us */
    uint64_t played, failed;
    struct tally tally;
};

static void tally_add(struct tally *to, const struct tally *t)
{
    to->events += t->events;
    to->packets += t->packets;
    to->lost += t->lost;
    for (int i = 0; i < FAULT_KINDS; i++)
        to->faults[i] += t->faults[i];
    to->spoiled += t->spoiled;
    to->placed += t->placed;
    to->unread += t->unread;
    to->finished += t->finished;
    to->failed += t->failed;
    to->gone += t->gone;
    to->restarts += t->restarts;
    to->stale += t->stale;
    to->tokens += t->tokens;
    to->refused += t->refused;
    to->preempted += t->preempted;
    to->returned += t->returned;
    to->crashes += t->crashes;
    to->quarantined += t->quarantined;
    to->seconds += t->seconds;
    if (t->gap_max > to->gap_max)
        to->gap_max = t->gap_max;
}

static void play(uint64_t seed, struct pools *pools, bool trace, struct result *r)
{
    struct world *w = mem_alloc(sizeof(*w));

    world_play(w, seed, pools, trace);
    r->played++;
    tally_add(&r->tally, &w->tally);
    if (w->broken[0] && r->failed++ < REPORTED_MAX) {
        printf("seed %" PRIu64 ": %s\n", seed, w->broken);
        fflush(stdout);
    }
    world_fini(w);
    mem_free(w);
}

static void play_disconnects(struct pools *pools, struct result *r)
{
    struct world *w = mem_alloc(sizeof(*w));

    world_play_disconnects(w, 1, pools, 2 * DISCONNECTS);
    if (w->broken[0])
        printf("disconnects: %s\n", w->broken);
    else
        printf("disconnects: %" PRIu64 " clients went before their end; %d others got their tokens, and all "
               "pages were free 1 s later\n", w->tally.gone, DISCONNECT_WITNESSES);
    r->failed += w->broken[0] != 0;
    r->played++;
    world_fini(w);
    mem_free(w);
}

/* Seeds first, first + stride, ... below end. */
static void work(uint64_t first, uint64_t end, uint64_t stride, struct result *r)
{
    struct pools pools = {0};

    for (uint64_t seed = first; seed < end; seed += stride)
        play(seed, &pools, false, r);
    pools_close(&pools);
}

static void report(const struct result *r, double s)
{
    const struct tally *t = &r->tally;

    printf("%" PRIu64 " s simulated in %.1f s, %.0f schedules/s; %" PRIu64 " events, %" PRIu64
           " messages, %" PRIu64 " lost, %" PRIu64 " stale\n",
           t->seconds, s, (double)r->played / s, t->events, t->packets, t->lost, t->stale);
    printf("faults: %" PRIu64 " kills, %" PRIu64 " stops, %" PRIu64 " cuts, %" PRIu64
           " terminations, %" PRIu64 " slow nodes, %" PRIu64 " routers killed, %" PRIu64
           " nodes drained, %" PRIu64 " pages spoiled, %" PRIu64 " of %" PRIu64
           " read too late, %" PRIu64 " nodes crashed by poison\n",
           t->faults[FAULT_KILL], t->faults[FAULT_STOP], t->faults[FAULT_CUT],
           t->faults[FAULT_TERM], t->faults[FAULT_SLOW], t->faults[FAULT_ROUTER], t->faults[FAULT_DRAIN],
           t->spoiled, t->unread, t->placed, t->crashes);
    printf("requests: %" PRIu64 " finished, %" PRIu64 " answered 503, %" PRIu64
           " left or lost their router, %" PRIu64 " quarantined, %" PRIu64 " restarts; %" PRIu64 " tokens\n",
           t->finished, t->failed, t->gone, t->quarantined, t->restarts, t->tokens);
}

static int play_all(uint64_t first, uint64_t n, uint32_t jobs)
{
    struct result *results =
        mmap(NULL, (jobs + 1) * sizeof(*results), PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct result *sum = &results[jobs];
    int64_t start = clock_now();
    struct pools pools = {0};
    uint64_t died = 0;
    int status;

    ASSERT(results != MAP_FAILED);
    for (uint32_t i = 0; i < jobs; i++) {
        pid_t pid = fork();

        ASSERT(pid >= 0);
        if (pid == 0) {
            work(first + i, first + n, jobs, &results[i]);
            exit(0);
        }
    }
    while (wait(&status) > 0)
        died += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    play_disconnects(&pools, sum);
    pools_close(&pools);
    for (uint32_t i = 0; i < jobs; i++) {
        sum->played += results[i].played;
        sum->failed += results[i].failed;
        tally_add(&sum->tally, &results[i].tally);
    }
    sum->failed += died;
    report(sum, clock_s(clock_now() - start));
    if (died)
        printf("%" PRIu64 " workers died; the next seed of each was the cause\n", died);
    printf("sim: %" PRIu64 " schedules, %" PRIu64 " preempted, %" PRIu64 " of them brought back, %" PRIu64
           " failed\n", sum->played, sum->tally.preempted, sum->tally.returned, sum->failed);
    return sum->failed > 0;
}

struct sim_options {
    uint64_t schedules, first, seed;
    uint32_t jobs;
    bool tell;
    struct policy_options policy;
};

static const struct option sim_options[] = {
    OPTION(sim_options, schedules, U64, .def = "10000", .help = "how many to play"),
    OPTION(sim_options, first, U64, .def = "1", .min = 1, .max = 1e15, .help = "seed of the first"),
    OPTION(sim_options, jobs, U32, .max = 1024, .help = "processes; 0: one a core"),
    OPTION(sim_options, seed, U64, .help = "play this one alone"),
    OPTION(sim_options, tell, BOOL, .help = "with --seed: say on stderr what happens"),
    OPTION_IN(sim_options, policy, nodes, U32, .max = NODES_MAX,
              .help = "instead: so many nodes that are formulas under the router, and --trace"),
    OPTION_IN(sim_options, policy, trace, STR, .def = "synthetic", .unit = "FILE|synthetic",
              .help = "arrivals: *.jsonl as Mooncake's, *.csv as Azure's"),
    OPTION_IN(sim_options, policy, trace_scale, F64, .def = "1", .min = 1e-6, .max = 1e6,
              .help = "a trace's times are multiplied by this"),
    OPTION_IN(sim_options, policy, rate, F64, .def = "1000", .min = 1e-3, .max = 1e7,
              .help = "synthetic: requests a second"),
    OPTION_IN(sim_options, policy, requests, U32, .def = "20000", .min = 1, .max = 1e8,
              .help = "of the trace at most"),
    OPTION_IN(sim_options, policy, prefill_share, F64, .def = "0.3", .max = 0.99,
              .help = "of the nodes are prefill nodes"),
    OPTION_IN(sim_options, policy, slots, U32, .def = "64", .min = 1, .max = 65536,
              .help = "of a node"),
    OPTION_IN(sim_options, policy, prefill_tokens_s, F64, .def = "20000", .min = 1, .max = 1e9,
              .help = "of a prefill node"),
    OPTION_IN(sim_options, policy, step_ms, F64, .def = "20", .min = 0.001, .max = 1e6,
              .help = "of a decode node, and stream_ms for each stream"),
    OPTION_IN(sim_options, policy, stream_ms, F64, .def = "0.3", .max = 1e6,
              .help = "see step_ms"),
};
static const struct option_table sim_table = {
    .program = "tandem-sim",
    .summary = "Plays fault schedules of a simulated cluster, all from seeds, and checks every token",
    .options = sim_options,
    .n = ARRAY_LEN(sim_options),
};

static int play_policy(struct sim_options *o)
{
    uint64_t failed = 0;
    struct err e = {0};

    o->policy.seed = o->first;
    if (policy_run(&o->policy, &failed, &e)) {
        fprintf(stderr, "tandem-sim: %s\n", e.text);
        return 2;
    }
    printf("policy: %u nodes, %" PRIu64 " failed\n", o->policy.nodes, failed);
    return failed > 0;
}

static int play_one(const struct sim_options *o)
{
    struct result one = {0};
    struct pools pools = {0};

    play(o->seed, &pools, o->tell, &one);
    pools_close(&pools);
    report(&one, 1);
    printf("sim: 1 schedules, %" PRIu64 " failed\n", one.failed);
    return one.failed > 0;
}

int main(int argc, char **argv)
{
    struct sim_options o = {0};
    enum option_action action;
    struct err e = {0};
    int rc = 0;

    log_init("sim", LOG_ERROR);
    if (option_main(&sim_table, &o, argc, argv, NULL, &action, &e)) {
        fprintf(stderr, "tandem-sim: %s\n", e.text);
        return 2;
    }
    if (action == OPTION_RUN && o.policy.nodes)
        rc = play_policy(&o);
    else if (action == OPTION_RUN && !o.seed)
        rc = play_all(o.first, o.schedules,
                      o.jobs ? o.jobs : (uint32_t)sysconf(_SC_NPROCESSORS_ONLN));
    else if (action == OPTION_RUN)
        rc = play_one(&o);
    option_free(&sim_table, &o);
    return rc;
}
