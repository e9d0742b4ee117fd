#include "bench/kv/ingest.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "bench/kv/times.h"
#include "host/share.h"
#include "kv/kv_unit.h"
#include "kv/kv_wire.h"
#include "net/credit.h"
#include "net/sock.h"

#define PATIENCE (600 * CLOCK_S)
#define STREAMS 4
#define PROMPT 64        /* tokens of each of them */
#define QUIET_STEPS 12   /* of a round, before the KV comes */
#define ROUNDS_LOST_MAX 3 /* in a row, because a stream ended in them */

struct ingest {
    char dir[64], nodes[96], kv[96];
    pid_t pid;
    cpu_set_t cpus; /* ours, before the node got one of them */
    struct sock_ctx *ctx;
    struct sock *router, *prefill;
    struct peer node;
    struct msg_register reg;
    struct kv_layout layout;
    struct kv_cut cut;
    struct credit_out credit;
    struct mem_map memory; /* [MSG_BULK_MAX], what all units are made of */
    uint8_t *bytes;        /* its */
    int fd;
    uint32_t n;     /* tokens whose KV comes in */
    uint64_t request;
    uint64_t first, last; /* of the streams that run; first 0: none do */
    bool ended;           /* one of them has no context left */
    bool reserved, welcome;
    bool places;     /* the node has mapped `memory` */
    int64_t stepped; /* when the last step ended; 0: none yet */
    uint32_t steps;
    struct err err;
    bool bad;
};

/* The node gets the first of our processors, we keep the rest. */
static void ingest_fork(struct ingest *g, const char *program, const char *model, const char *path)
{
    char *argv[] = {(char *)program, (char *)"--model", (char *)model, (char *)"--router", g->nodes,
                    (char *)"--kv", g->kv, (char *)path, (char *)"--prefix_cache=off", (char *)"--log_level=error",
                    NULL};
    cpu_set_t one, rest;
    int first = 0;

    while (first < CPU_SETSIZE - 1 && !CPU_ISSET(first, &g->cpus))
        first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    rest = g->cpus;
    if (CPU_COUNT(&g->cpus) > 1)
        CPU_CLR(first, &rest);
    sched_setaffinity(0, sizeof(rest), &rest);
    g->pid = fork();
    if (g->pid == 0) {
        sched_setaffinity(0, sizeof(one), &one);
        execv(program, argv);
        _exit(127);
    }
}

static int ingest_open(struct ingest *g, const char *program, const char *model, const char *path,
                       struct err *e)
{
    const struct sock_options control = {.kind = SOCK_ROUTER, .lane = SOCK_CONTROL};
    int rc;

    *g = (struct ingest){.dir = "/tmp/tandem-bench-XXXXXX", .fd = -1};
    sched_getaffinity(0, sizeof(g->cpus), &g->cpus);
    if (!mkdtemp(g->dir))
        return err_set(e, ERR_IO, "cannot make a directory in /tmp");
    snprintf(g->nodes, sizeof(g->nodes), "ipc://%s/nodes", g->dir);
    snprintf(g->kv, sizeof(g->kv), "ipc://%s/kv", g->dir);
    if ((rc = mem_map_open_shared(&g->memory, &g->fd, MSG_BULK_MAX, false, e)))
        return rc;
    g->bytes = g->memory.data;
    for (size_t i = 0; i + 8 <= MSG_BULK_MAX; i += 8)
        ((uint64_t *)g->bytes)[i / 8] = rng_u64(1, i);
    ingest_fork(g, program, model, path);
    g->ctx = sock_ctx_new();
    rc = sock_open(&g->router, g->ctx, &control, e);
    return rc ? rc : sock_bind(g->router, g->nodes, e);
}

static void ingest_close(struct ingest *g)
{
    if (g->pid > 0) {
        kill(g->pid, SIGKILL);
        waitpid(g->pid, NULL, 0);
    }
    sock_close(&g->router);
    sock_close(&g->prefill);
    if (g->ctx)
        sock_ctx_free(&g->ctx);
    mem_map_close(&g->memory);
    if (g->fd >= 0)
        close(g->fd);
    sched_setaffinity(0, sizeof(g->cpus), &g->cpus);
    unlink(g->kv + 6);
    rmdir(g->dir);
}

static void refused(struct ingest *g, const char *what, const char *why)
{
    g->bad = true;
    err_set(&g->err, ERR_PEER, "the decode node %s: %s", what, why);
}

static void on_router(struct ingest *g, const struct peer *from, const struct msg *m)
{
    struct msg answer = {.type = MSG_REGISTERED, .u.registered = {1000, 600000}};
    const struct kv_geometry *k = &m->u.reg.geometry;

    if (m->type == MSG_REGISTER) {
        g->node = *from;
        g->reg = m->u.reg;
        kv_layout_init(&g->layout, (enum kv_type)k->wire_type, k->n_layer, k->n_kv_head, k->head_dim);
        kv_cut_init(&g->cut, &g->layout, g->layout.type, MSG_BULK_MAX);
        sock_send(g->router, from, &answer, NULL);
    } else if (m->type == MSG_RESERVED) {
        g->reserved = true;
    } else if (m->type == MSG_TOKENS) {
        uint64_t request = m->u.tokens.id.request;

        if (request == g->last) { /* one a step of all */
            g->stepped = clock_now();
            g->steps++;
        }
        g->ended |= request >= g->first && request <= g->last && m->u.tokens.finish != FINISH_NONE;
    } else if (m->type == MSG_RESERVE_REFUSED || m->type == MSG_DECODE_FAILED) {
        refused(g, "refused a stream", m->u.failed.text);
    }
}

static void on_decode(struct ingest *g, const struct msg *m)
{
    if (m->type == MSG_KV_WELCOME || m->type == MSG_KV_CREDIT) {
        g->welcome = true;
        g->places |= m->u.credit.places;
        credit_out_grant(&g->credit, m->u.credit.bytes);
    } else if (m->type == MSG_KV_ABORT) {
        refused(g, "gave up a stream", m->u.failed.text);
    } else if (m->type == MSG_REFUSED) {
        refused(g, "refused KV", m->u.text.text);
    }
}

/* Takes what came, or sleeps until something does. */
static int serve(struct ingest *g, int64_t give_up, struct err *e)
{
    struct pollfd fds[2] = {{.fd = sock_fd(g->router), .events = POLLIN},
                            {.fd = g->prefill ? sock_fd(g->prefill) : -1, .events = POLLIN}};
    struct peer from;
    struct msg m;

    while (sock_recv(g->router, &from, &m, NULL) == 1) {
        on_router(g, &from, &m);
        msg_fini(&m);
    }
    while (g->prefill && sock_recv(g->prefill, NULL, &m, NULL) == 1) {
        on_decode(g, &m);
        msg_fini(&m);
    }
    if (g->bad) {
        *e = g->err;
        return e->code;
    }
    if (clock_now() > give_up || waitpid(g->pid, NULL, WNOHANG) == g->pid)
        return err_set(e, ERR_TIMEOUT, "the decode node did not answer, or ended");
    if (!sock_readable(g->router) && !(g->prefill && sock_readable(g->prefill)))
        poll(fds, 2, 5);
    return 0;
}

/* Asks for a slot: of a stream that the node prefills itself, or of one whose KV we send. */
static int reserve(struct ingest *g, uint32_t n, bool local, struct err *e)
{
    struct msg m = {.type = MSG_RESERVE,
                    .u.reserve = {.id = {++g->request, 1}, .n_tokens = n, .sampling = {.top_p = 1},
                                  .max_new = local ? g->reg.ctx_max - n - 1 : 8, .local = local}};
    int64_t give_up = clock_now() + PATIENCE;
    int rc = 0;

    m.u.reserve.tokens = mem_calloc(n, sizeof(uint32_t));
    for (uint32_t i = 0; i < n; i++)
        m.u.reserve.tokens[i] = 3 + (i * 7 + (uint32_t)g->request) % 97;
    g->reserved = false;
    if (sock_send(g->router, &g->node, &m, NULL)) {
        msg_fini(&m);
        return err_set(e, ERR_PEER, "the decode node is not there");
    }
    while (!rc && !g->reserved)
        rc = serve(g, give_up, e);
    return rc;
}

static int hello(struct ingest *g, struct err *e)
{
    const struct sock_options o = {.kind = SOCK_DEALER, .lane = SOCK_DATA, .identity = "p#1"};
    struct msg m = {.type = MSG_KV_HELLO, .u.hello = {
        .protocol = MSG_PROTOCOL, .name = "p", .model_hash = g->reg.model_hash,
        .geometry = g->reg.geometry}};
    int64_t give_up = clock_now() + PATIENCE;
    int rc = sock_open(&g->prefill, g->ctx, &o, e);

    snprintf(m.u.hello.cluster, sizeof(m.u.hello.cluster), "%s", g->reg.cluster);
    share_offer(&m.u.hello.offer, g->fd);
    if (!rc)
        rc = sock_connect(g->prefill, g->reg.kv_endpoint, e);
    while (!rc && sock_send(g->prefill, NULL, &m, NULL))
        rc = serve(g, give_up, e);
    while (!rc && !g->welcome)
        rc = serve(g, give_up, e);
    return rc;
}

/* Sends the KV of the stream that was reserved last, and then gives it up. */
static int send_kv(struct ingest *g, struct err *e)
{
    struct msg m = {.type = MSG_KV_ABORT, .u.failed = {.id = {g->request, 1}}};
    int64_t give_up = clock_now() + PATIENCE;
    int rc = 0;

    for (size_t i = 0; !rc && i < kv_cut_count(&g->cut, g->n);) {
        struct kv_unit u = kv_cut_unit(&g->cut, i, g->n);
        size_t bytes = kv_wire_bytes(&g->layout, g->layout.type, u.head_count, u.n_tokens);
        struct msg page = {.type = g->places ? MSG_KV_PLACE : MSG_KV_PAGE, .u.page = {
            .id = {g->request, 1}, .layer = u.layer, .page = u.page, .head_first = u.head_first,
            .head_count = u.head_count, .n_tokens = u.n_tokens,
            .checksum = hash64(g->bytes, bytes, 0), .place = 0,
            .bulk = {g->places ? NULL : g->bytes, bytes, NULL, NULL}}};

        if (credit_out_can_send(&g->credit, bytes) && sock_send(g->prefill, NULL, &page, NULL) == 0) {
            credit_out_sent(&g->credit, bytes);
            i++;
        } else {
            rc = serve(g, give_up, e);
        }
    }
    while (!rc && sock_send(g->prefill, NULL, &m, NULL))
        rc = serve(g, give_up, e);
    return rc;
}

/* Serves until the n-th step from now has ended, or one of the streams has. */
static int steps_await(struct ingest *g, uint32_t n, struct err *e)
{
    uint32_t until = g->steps + n;
    int64_t give_up = clock_now() + PATIENCE;
    int rc = 0;

    while (!rc && g->steps < until && !g->ended)
        rc = serve(g, give_up, e);
    return rc;
}

/* New streams in the place of those that ran, warm. */
static int streams_begin(struct ingest *g, struct err *e)
{
    int rc = 0;

    for (uint64_t i = g->first; i && i <= g->last; i++) {
        struct msg m = {.type = MSG_CANCEL, .u.cancel.id = {i, 1}};

        sock_send(g->router, &g->node, &m, NULL); /* one that has ended hears nothing */
    }
    g->first = g->request + 1;
    g->last = g->request + STREAMS;
    for (int i = 0; !rc && i < STREAMS; i++)
        rc = reserve(g, PROMPT, true, e);
    g->ended = false;
    return rc ? rc : steps_await(g, QUIET_STEPS, e);
}

/* Some steps without KV, then those in which it comes; of each, what a step took on average. Adds nothing
 * if a stream ended meanwhile. */
static int round_run(struct ingest *g, struct times *quiet, struct times *busy, int64_t *ns,
                     struct err *e)
{
    int64_t start = g->stepped, calm;
    uint32_t first = g->steps;
    int rc = steps_await(g, QUIET_STEPS, e);

    calm = (g->stepped - start) / u32_max(1, g->steps - first);
    if (!rc)
        rc = reserve(g, g->n, false, e);
    if (!rc)
        rc = steps_await(g, 1, e);
    start = g->stepped;
    first = g->steps;
    if (!rc)
        rc = send_kv(g, e);
    if (!rc)
        rc = steps_await(g, 1, e); /* in which the last window is taken in */
    if (!rc && !g->ended) {
        times_add(quiet, calm);
        times_add(busy, (g->stepped - start) / u32_max(1, g->steps - first));
        *ns += g->stepped - start;
    }
    return rc ? rc : steps_await(g, 1, e);
}

/* So many rounds that count. */
static int rounds_run(struct ingest *g, uint32_t rounds, struct times *quiet, struct times *busy, int64_t *ns,
                      struct err *e)
{
    uint32_t lost = 0;
    int rc = 0;

    while (!rc && busy->n < rounds) {
        uint32_t before = busy->n;

        rc = round_run(g, quiet, busy, ns, e);
        lost = busy->n > before ? 0 : lost + 1;
        if (!rc && lost > ROUNDS_LOST_MAX)
            return err_set(e, ERR_LIMIT, "a context of %u tokens is too short for a round", g->reg.ctx_max);
        if (!rc && g->ended)
            rc = streams_begin(g, e);
    }
    return rc;
}

/* path: an option of the node. */
static int ingest_run_path(const char *program, const char *model, const char *path, uint32_t n,
                           uint32_t rounds, struct err *e)
{
    static struct times quiet, busy;
    struct ingest g;
    int64_t ns = 0;
    int rc = ingest_open(&g, program, model, path, e);

    quiet.n = busy.n = 0;

    for (int64_t start = clock_now(); !rc && !g.node.n;)
        rc = serve(&g, start + PATIENCE, e);
    g.n = u32_min(n, g.node.n ? g.reg.ctx_max - 16 : n);
    if (!rc)
        rc = streams_begin(&g, e);
    if (!rc)
        rc = hello(&g, e);
    if (!rc)
        rc = rounds_run(&g, u32_min(rounds, TIMES_MAX), &quiet, &busy, &ns, e);
    if (!rc) {
        double more = 100 * (times_ratio(&busy, &quiet) - 1); /* before they are sorted */
        double bytes = (double)kv_layout_token_bytes(&g.layout) * g.layout.n_layer * g.n;

        printf("%d streams; KV of %u tokens, %.1f MiB, %u times, %-10s best ms  median ms\n", STREAMS, g.n,
               bytes / 0x1p20, rounds, g.places ? "mapped" : "in frames");
        printf("%-50s %10.2f %10.2f\n", "a step, mean of a round, no KV comes in", times_best(&quiet),
               times_median(&quiet));
        printf("%-50s %10.2f %10.2f\n", "a step, mean of a round, KV comes in", times_best(&busy),
               times_median(&busy));
        printf("a step of running streams: %+.1f %% of the median, %+.1f %% median of pairs, while KV came in at "
               "%.0f MB/s\n", 100 * (times_median(&busy) / times_median(&quiet) - 1), more,
               bytes * rounds / (double)ns * 1e3);
    }
    ingest_close(&g);
    return rc;
}

int ingest_run(const char *program, const char *model, uint32_t n, uint32_t rounds, struct err *e)
{
    int rc = ingest_run_path(program, model, "--kv_path=frames", n, rounds, e);

    return rc ? rc : ingest_run_path(program, model, "--kv_path=auto", n, rounds, e);
}
