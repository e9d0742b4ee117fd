#include "bench/kv/ttft.h"

#include <dirent.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "bench/kv/times.h"
#include "host/share.h"
#include "kv/kv_wire.h"
#include "net/credit.h"
#include "net/sock.h"

#define WINDOW (8u << 20)
#define PATIENCE (600 * CLOCK_S)

/* Processor time, ns. */
struct cpu {
    int64_t all;
    int64_t ship; /* of the threads that do not compute */
};

struct bench {
    char dir[64], nodes[96], kv[96];
    pid_t pid;
    struct sock_ctx *ctx;
    struct sock *router, *decode;
    struct peer node;
    struct msg_register reg;
    struct kv_layout layout;
    uint8_t *page;  /* where all units go, one over the other */
    struct share_map map;
    struct credit_in credit;
    uint64_t request;
    int64_t sent, token, end; /* of the prompt under way; 0: not yet */
    struct cpu cpu; /* that the node took for it */
    uint64_t bytes;
    struct err err;
    bool bad;
};

static void node_start(struct bench *b, const char *program, const char *model)
{
    char *argv[] = {(char *)program, (char *)"--model", (char *)model, (char *)"--router", b->nodes,
                    (char *)"--prefix_cache=off", (char *)"--log_level=error", NULL};

    b->pid = fork();
    if (b->pid == 0) {
        execv(program, argv);
        _exit(127);
    }
}

static int bench_open(struct bench *b, const char *program, const char *model, struct err *e)
{
    const struct sock_options control = {.kind = SOCK_ROUTER, .lane = SOCK_CONTROL};
    const struct sock_options data = {.kind = SOCK_ROUTER, .lane = SOCK_DATA};
    int rc;

    *b = (struct bench){.dir = "/tmp/tandem-bench-XXXXXX"};
    if (!mkdtemp(b->dir))
        return err_set(e, ERR_IO, "cannot make a directory in /tmp");
    snprintf(b->nodes, sizeof(b->nodes), "ipc://%s/nodes", b->dir);
    snprintf(b->kv, sizeof(b->kv), "ipc://%s/kv", b->dir);
    node_start(b, program, model);
    b->ctx = sock_ctx_new();
    rc = sock_open(&b->router, b->ctx, &control, e);
    if (!rc)
        rc = sock_bind(b->router, b->nodes, e);
    if (!rc)
        rc = sock_open(&b->decode, b->ctx, &data, e);
    return rc ? rc : sock_bind(b->decode, b->kv, e);
}

static void bench_close(struct bench *b)
{
    if (b->pid > 0) {
        kill(b->pid, SIGKILL);
        waitpid(b->pid, NULL, 0);
    }
    sock_close(&b->router);
    sock_close(&b->decode);
    if (b->ctx)
        sock_ctx_free(&b->ctx);
    mem_free(b->page);
    share_close(&b->map);
    rmdir(b->dir);
}

/* The bytes of a unit: of a place, those of the page into which they were copied. */
static const uint8_t *page_bytes(const struct bench *b, const struct msg *m)
{
    const struct msg_kv_page *p = &m->u.page;
    uint8_t *to = b->page + kv_layout_k(&b->layout, p->layer, p->head_first);

    if (m->type == MSG_KV_PAGE)
        return p->bulk.data;
    if (!b->map.data || p->place > b->map.offer.size - p->bulk.size)
        return NULL;
    return memcpy(to, b->map.data + p->place, p->bulk.size);
}

static void on_page(struct bench *b, const struct peer *from, const struct msg *unit)
{
    const struct msg_kv_page *p = &unit->u.page;
    struct msg m = {.type = MSG_KV_CREDIT};
    const uint8_t *data = NULL;

    if (p->layer < b->layout.n_layer && p->head_first + p->head_count <= b->layout.n_kv_head &&
        p->n_tokens <= KV_PAGE_TOKENS &&
        p->bulk.size == kv_wire_bytes(&b->layout, b->layout.type, p->head_count, p->n_tokens))
        data = page_bytes(b, unit);
    if (!data || hash64(data, p->bulk.size, 0) != p->checksum ||
        !credit_in_received(&b->credit, p->bulk.size)) {
        b->bad = true;
        err_set(&b->err, ERR_FORMAT, "page %u of layer %u came spoiled", p->page, p->layer);
        return;
    }
    if (unit->type == MSG_KV_PAGE)
        kv_wire_import(b->page, &b->layout, data, b->layout.type, p->layer, p->head_first,
                       p->head_count, p->n_tokens);
    b->bytes += p->bulk.size;
    m.u.credit.bytes = credit_in_consumed(&b->credit, p->bulk.size);
    if (m.u.credit.bytes)
        sock_send(b->decode, from, &m, NULL);
}

static void on_decode(struct bench *b, const struct peer *from, const struct msg *m)
{
    struct msg welcome = {.type = MSG_KV_WELCOME, .u.credit.bytes = WINDOW};
    struct msg done = {.type = MSG_KV_DONE, .u.cancel.id = {b->request, 1}};

    if (m->type == MSG_KV_HELLO) {
        share_close(&b->map);
        welcome.u.credit.places = !share_open(&b->map, &m->u.hello.offer, NULL);
        credit_in_init(&b->credit, WINDOW);
        sock_send(b->decode, from, &welcome, NULL);
    } else if (m->type == MSG_KV_PAGE || m->type == MSG_KV_PLACE) {
        on_page(b, from, m);
    } else if (m->type == MSG_KV_END) {
        b->end = clock_now();
        sock_send(b->decode, from, &done, NULL);
    }
}

static void on_router(struct bench *b, const struct peer *from, const struct msg *m)
{
    struct msg answer = {.type = MSG_REGISTERED, .u.registered = {1000, 600000}};
    const struct kv_geometry *g = &m->u.reg.geometry;

    if (m->type == MSG_REGISTER) {
        b->node = *from;
        b->reg = m->u.reg;
        kv_layout_init(&b->layout, (enum kv_type)g->wire_type, g->n_layer, g->n_kv_head, g->head_dim);
        if (!b->page)
            b->page = mem_aligned(b->layout.page_bytes, 64);
        sock_send(b->router, from, &answer, NULL);
    } else if (m->type == MSG_PREFILL_TOKEN) {
        b->token = clock_now();
    } else if (m->type == MSG_PREFILL_FAILED) {
        b->bad = true;
        err_set(&b->err, ERR_PEER, "the prefill node failed: %s", m->u.failed.text);
    }
}

/* Takes what came, or sleeps until something does. */
static int serve(struct bench *b, int64_t give_up, struct err *e)
{
    struct pollfd fds[2] = {{.fd = sock_fd(b->router), .events = POLLIN},
                            {.fd = sock_fd(b->decode), .events = POLLIN}};
    struct peer from;
    struct msg m;

    while (sock_recv(b->router, &from, &m, NULL) == 1) {
        on_router(b, &from, &m);
        msg_fini(&m);
    }
    for (int i = 0; i < 32 && sock_recv(b->decode, &from, &m, NULL) == 1; i++) {
        on_decode(b, &from, &m);
        msg_fini(&m);
    }
    if (b->bad) {
        *e = b->err;
        return e->code;
    }
    if (clock_now() > give_up || waitpid(b->pid, NULL, WNOHANG) == b->pid)
        return err_set(e, ERR_TIMEOUT, "the prefill node did not answer, or ended");
    if (!sock_readable(b->router) && !sock_readable(b->decode))
        poll(fds, 2, 5);
    return 0;
}

/* Processor time of a thread so far; 0: it is no more. ours: it is the network thread or one of ZeroMQ's. */
static int64_t thread_cpu(pid_t pid, const char *tid, bool *ours)
{
    char path[96], name[32] = "";
    int64_t ns = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/task/%.16s/comm", pid, tid);
    f = fopen(path, "r");
    if (f) {
        *ours = (fgets(name, sizeof(name), f) && strncmp(name, "ZMQ", 3) == 0) || atoi(tid) == pid;
        fclose(f);
    }
    snprintf(path, sizeof(path), "/proc/%d/task/%.16s/schedstat", pid, tid);
    f = fopen(path, "r");
    if (f) {
        if (fscanf(f, "%" SCNd64, &ns) != 1)
            ns = 0;
        fclose(f);
    }
    return ns;
}

/* Of the node so far: all threads, and those that do not compute. */
static struct cpu node_cpu(const struct bench *b)
{
    struct cpu c = {0};
    struct dirent *d;
    char path[64];
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/task", b->pid);
    dir = opendir(path);
    while (dir && (d = readdir(dir))) {
        bool ours = false;
        int64_t ns = d->d_name[0] == '.' ? 0 : thread_cpu(b->pid, d->d_name, &ours);

        c.all += ns;
        c.ship += ours ? ns : 0;
    }
    if (dir)
        closedir(dir);
    return c;
}

/* One prompt from the job to KV_END. */
static int prompt(struct bench *b, uint32_t n, uint32_t skip, struct err *e)
{
    struct msg m = {.type = MSG_PREFILL_JOB,
                    .u.job = {.id = {++b->request, 1}, .n_tokens = n, .max_new = 9,
                              .skip_tokens = skip, .sampling = {.top_p = 1}, .decode_name = "d"}};
    struct cpu before, after;
    int rc = 0;

    snprintf(m.u.job.kv_endpoint, sizeof(m.u.job.kv_endpoint), "%s", b->kv);
    m.u.job.tokens = mem_calloc(n, sizeof(uint32_t));
    for (uint32_t i = 0; i < n; i++)
        m.u.job.tokens[i] = 3 + i * 7 % 97;
    b->token = b->end = 0;
    b->bytes = 0;
    before = node_cpu(b);
    b->sent = clock_now();
    if (sock_send(b->router, &b->node, &m, NULL)) {
        msg_fini(&m);
        return err_set(e, ERR_PEER, "the prefill node is not there");
    }
    while (!rc && !(b->token && b->end))
        rc = serve(b, b->sent + PATIENCE, e);
    after = node_cpu(b);
    b->cpu = (struct cpu){after.all - before.all, after.ship - before.ship};
    return rc;
}

/* By how much a is more than b. */
static double percent(double a, double b) { return 100 * (a / b - 1); }

static void report(const char *name, struct times *t)
{
    printf("%-34s %10.2f %10.2f\n", name, times_best(t), times_median(t));
}

/* What the prompts of a case took. */
struct figures {
    struct times ttft, tail, cpu, ship; /* tail: from the first token to KV_END */
};

/* One prompt whose KV is shipped, or only the last page of it. */
static int prompt_of(struct bench *b, uint32_t n, bool ship, struct figures *f, struct err *e)
{
    uint32_t skip = ship ? 0 : (n - 1) / KV_PAGE_TOKENS * KV_PAGE_TOKENS;
    int rc = prompt(b, n, skip, e);

    times_add(&f->ttft, b->token - b->sent);
    times_add(&f->tail, b->end - b->token);
    times_add(&f->cpu, b->cpu.all);
    times_add(&f->ship, b->cpu.ship);
    return rc;
}

int ttft_run(const char *program, const char *model, uint32_t n, uint32_t rounds, struct err *e)
{
    static struct figures none, all;
    double ttft, cpu;
    struct bench b;
    int rc = bench_open(&b, program, model, e);
    uint64_t bytes = 0;

    for (int64_t start = clock_now(); !rc && !b.node.n;)
        rc = serve(&b, start + PATIENCE, e);
    n = u32_min(n, b.node.n ? b.reg.ctx_max - 16 : n);
    if (!rc)
        rc = prompt(&b, n, 0, e); /* warms up */
    bytes = b.bytes;
    for (uint32_t r = 0; !rc && r < u32_min(rounds, TIMES_MAX); r++) {
        bool first = r % 2; /* A B, B A */

        rc = prompt_of(&b, n, first, first ? &all : &none, e);
        if (!rc)
            rc = prompt_of(&b, n, !first, first ? &none : &all, e);
    }
    bench_close(&b);
    if (rc)
        return rc;
    ttft = percent(times_ratio(&all.ttft, &none.ttft), 1); /* before they are sorted */
    cpu = percent(times_ratio(&all.cpu, &none.cpu), 1);
    printf("%u tokens, %.1f MiB of KV            best ms  median ms\n", n, (double)bytes / 0x1p20);
    report("TTFT, KV not shipped", &none.ttft);
    report("TTFT, KV shipped meanwhile", &all.ttft);
    report("from the first token to KV_END", &all.tail);
    report("processor time, KV not shipped", &none.cpu);
    report("processor time, KV shipped", &all.cpu);
    report("of it not computing, not shipped", &none.ship);
    report("of it not computing, shipped", &all.ship);
    printf("added by shipping (of the best, of the median, median of pairs): TTFT %+.1f %%, %+.1f %%, %+.1f %%; "
           "processor time %+.1f %%, %+.1f %%, %+.1f %%\n",
           percent(times_best(&all.ttft), times_best(&none.ttft)),
           percent(times_median(&all.ttft), times_median(&none.ttft)), ttft,
           percent(times_best(&all.cpu), times_best(&none.cpu)),
           percent(times_median(&all.cpu), times_median(&none.cpu)), cpu);
    printf("added by the threads that ship: %+.2f %% of the prompt's processor time\n",
           100 * (times_median(&all.ship) - times_median(&none.ship)) / times_median(&none.cpu));
    return 0;
}
