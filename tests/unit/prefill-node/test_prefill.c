/* A prefill node as a process, over real sockets: the test plays its router and its decode node, which
 * loses the connection in the middle of a stream. */
#include "prefill-node/prefill.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "host/share.h"
#include "kv/kv_layout.h"
#include "net/sock.h"
#include "tests/lib/node.h"
#include "tests/lib/test.h"

#define MODEL "deploy/demo/austen-5m-q8_0.gguf"
#define TOKENS 150
#define UNITS_MAX 4096
#define DEAF_CREDIT (2u << 20) /* what a decode node grants if nobody says otherwise */
#define PATIENCE (60 * CLOCK_S)

struct rig {
    char dir[64], nodes[96], kv[96];
    pid_t pid;
    struct sock_ctx *ctx;
    struct sock *router, *decode;
    struct peer node;           /* as the router knows it */
    struct msg_register reg;    /* what it said */
    uint64_t resumed, shipped;  /* as its last beat said; shipped: bytes */
    uint32_t n_idle;            /* beats since shipped grew */
    uint64_t request;
    uint64_t sums[UNITS_MAX];   /* checksums of the units that came; 0: did not */
    uint32_t n_units, n_came, n_again, n_resumed, n_hello;
    bool places;                /* we read its memory */
    bool offers;                /* it said that we may */
    struct share_map map;       /* its, once it said hello to somebody who does */
    uint32_t n_places;          /* units that came so */
    uint32_t cut_after;         /* lose the connection at this unit; 0: never */
    bool over;                  /* KV_END came when all was there */
    int64_t give_up;
};

static void decode_open(struct rig *r)
{
    const struct sock_options o = {.kind = SOCK_ROUTER, .lane = SOCK_DATA};

    assert_int_equal(sock_open(&r->decode, r->ctx, &o, NULL), 0);
    assert_int_equal(sock_bind(r->decode, r->kv, NULL), 0);
}

static void rig_open(struct rig *r)
{
    const struct sock_options o = {.kind = SOCK_ROUTER, .lane = SOCK_CONTROL};

    *r = (struct rig){.dir = "/tmp/tandem-test-XXXXXX", .give_up = clock_now() + PATIENCE};
    assert_non_null(mkdtemp(r->dir));
    snprintf(r->nodes, sizeof(r->nodes), "ipc://%s/nodes", r->dir);
    snprintf(r->kv, sizeof(r->kv), "ipc://%s/kv", r->dir);
    r->pid = node_fork(&prefill_option_table, &role_prefill,
                       (const char *[]){"model", MODEL, "router", r->nodes, NULL});
    r->ctx = sock_ctx_new();
    assert_int_equal(sock_open(&r->router, r->ctx, &o, NULL), 0);
    assert_int_equal(sock_bind(r->router, r->nodes, NULL), 0);
    decode_open(r);
}

static void rig_close(struct rig *r)
{
    kill(r->pid, SIGKILL);
    waitpid(r->pid, NULL, 0);
    share_close(&r->map);
    sock_close(&r->router);
    sock_close(&r->decode);
    sock_ctx_free(&r->ctx);
    assert_int_equal(rmdir(r->dir), 0);
}

static void to_decode_peer(struct rig *r, const struct peer *to, struct msg m)
{
    sock_send(r->decode, to, &m, NULL); /* a peer that has gone needs no answer */
    msg_fini(&m);
}

static void on_page(struct rig *r, const struct msg_kv_page *p)
{
    uint32_t i = p->page * r->reg.geometry.n_layer + p->layer;

    assert_true(i < r->n_units && p->head_count == r->reg.geometry.n_kv_head);
    assert_true(hash64(p->bulk.data, p->bulk.size, 0) == p->checksum);
    r->n_again += r->sums[i] != 0;
    r->n_came += r->sums[i] == 0;
    r->sums[i] = p->checksum;
    if (r->n_came == r->cut_after) {
        r->cut_after = 0;
        sock_close(&r->decode);
        decode_open(r);
    }
}

/* The unit is read where it lies. */
static void on_place(struct rig *r, const struct msg_kv_page *p)
{
    struct msg_kv_page got = *p;

    assert_true(r->places && p->place <= r->map.offer.size - p->bulk.size);
    got.bulk.data = r->map.data + p->place;
    r->n_places++;
    on_page(r, &got);
}

static void on_hello(struct rig *r, const struct peer *from, const struct share_offer *offer)
{
    struct msg m = {.type = MSG_KV_WELCOME, .u.credit = {1 << 30, r->places}};

    r->n_hello++;
    r->offers = offer->host;
    if (r->places && !r->map.data) {
        assert_int_equal(offer->pid, r->pid);
        r->places = m.u.credit.places = !share_open(&r->map, offer, NULL);
    }
    to_decode_peer(r, from, m);
}

static void on_resume(struct rig *r, const struct peer *from)
{
    struct msg m = {.type = MSG_KV_MISSING, .u.missing = {.id = {r->request, 1}}};
    uint32_t *units = mem_calloc(2 * (size_t)r->n_units, sizeof(*units)), n = 0;

    for (uint32_t i = 0; i < r->n_units; i++) {
        if (r->sums[i])
            continue;
        units[n++] = i;
        units[n++] = 1;
    }
    r->n_resumed++;
    m.u.missing.units = units;
    m.u.missing.n_units = n;
    to_decode_peer(r, from, m);
}

static void on_decode(struct rig *r, const struct peer *from, const struct msg *m)
{
    switch (m->type) {
    case MSG_KV_HELLO:
        on_hello(r, from, &m->u.hello.offer);
        break;
    case MSG_KV_RESUME:
        on_resume(r, from);
        break;
    case MSG_KV_PAGE:
        on_page(r, &m->u.page);
        break;
    case MSG_KV_PLACE:
        on_place(r, &m->u.page);
        break;
    case MSG_KV_END:
        assert_int_equal(r->n_came, r->n_units);
        to_decode_peer(r, from, (struct msg){.type = MSG_KV_DONE,
                                             .u.cancel.id = {r->request, 1}});
        r->over = true;
        break;
    default:
        fail_msg("%s came to the decode node", msg_type_name(m->type));
    }
}

static void on_router(struct rig *r, const struct peer *from, const struct msg *m)
{
    struct msg answer = {.type = MSG_REGISTERED, .u.registered = {100, 20000}};

    if (m->type == MSG_REGISTER) {
        r->node = *from;
        r->reg = m->u.reg;
        sock_send(r->router, from, &answer, NULL);
    }
    if (m->type == MSG_HEARTBEAT) {
        r->resumed = m->u.heartbeat.resumed;
        r->n_idle = m->u.heartbeat.kv_bytes == r->shipped ? r->n_idle + 1 : 0;
        r->shipped = m->u.heartbeat.kv_bytes;
    }
    if (m->type == MSG_PREFILL_FAILED)
        fail_msg("%s", m->u.failed.text);
}

static void serve(struct rig *r)
{
    struct pollfd fds[2] = {{.fd = sock_fd(r->router), .events = POLLIN},
                            {.fd = sock_fd(r->decode), .events = POLLIN}};
    struct peer from;
    struct msg m;

    assert_true(clock_now() < r->give_up);
    while (sock_recv(r->router, &from, &m, NULL) == 1) {
        on_router(r, &from, &m);
        msg_fini(&m);
    }
    while (sock_recv(r->decode, &from, &m, NULL) == 1) {
        on_decode(r, &from, &m);
        msg_fini(&m);
    }
    if (!sock_readable(r->router) && !sock_readable(r->decode))
        poll(fds, 2, 10);
}

/* A job of a tenant of its own, whose KV is to go to the decode node at `kv`. */
static void job(struct rig *r, uint64_t request, const char *kv, uint32_t n_tokens)
{
    struct msg m = {.type = MSG_PREFILL_JOB,
                    .u.job = {.id = {request, 1}, .n_tokens = n_tokens, .max_new = 5, .salt = request,
                              .sampling = {.top_p = 1}, .decode_name = "d"}};

    snprintf(m.u.job.kv_endpoint, sizeof(m.u.job.kv_endpoint), "%s", kv);
    m.u.job.tokens = mem_calloc(n_tokens, sizeof(uint32_t));
    for (uint32_t i = 0; i < n_tokens; i++)
        m.u.job.tokens[i] = 3 + i * 7 % 200;
    assert_int_equal(sock_send(r->router, &r->node, &m, NULL), 0);
}

/* A stream of the same tokens. */
static void stream(struct rig *r, uint64_t request, uint32_t cut_after)
{
    r->request = request;
    r->n_units = kv_layout_pages(TOKENS) * r->reg.geometry.n_layer;
    memset(r->sums, 0, sizeof(r->sums));
    r->n_places = r->n_came = r->n_again = r->n_resumed = r->n_hello = 0;
    r->cut_after = cut_after;
    r->over = false;
    job(r, request, r->kv, TOKENS);
    while (!r->over)
        serve(r);
}

/* Opens the rig, and waits until the node is there. */
static void rig_start(struct rig *r)
{
    if (access(MODEL, R_OK) != 0)
        skip();
    rig_open(r);
    while (!r->node.n)
        serve(r);
}

static void a_cut_connection_costs_no_stream_and_no_unit_comes_twice(void **state)
{
    uint64_t want[UNITS_MAX];
    struct rig r;

    (void)state;
    rig_start(&r);
    assert_true(kv_layout_pages(TOKENS) * r.reg.geometry.n_layer <= UNITS_MAX);
    stream(&r, 1, 0);
    memcpy(want, r.sums, sizeof(want));
    assert_int_equal(r.n_hello, 1);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t at[] = {1, r.n_units / 2, r.n_units};

        stream(&r, 2 + i, at[i]);
        assert_int_equal(r.n_again, 0);
        assert_int_equal(r.n_resumed, 1);
        assert_memory_equal(r.sums, want, sizeof(want));
    }
    while (r.resumed < 3)
        serve(&r);
    assert_int_equal(r.resumed, 3);
    rig_close(&r);
}

/* A decode node that was stopped: the system takes a little for it, and it reads nothing. */
static void who_does_not_read_holds_up_nobody_else(void **state)
{
    const struct sock_options o = {.kind = SOCK_ROUTER, .lane = SOCK_DATA, .hwm = 1};
    struct msg m, cancel = {.type = MSG_CANCEL, .u.cancel.id = {1, 1}};
    char kv[sizeof(((struct rig *)0)->kv)];
    struct sock *deaf;
    struct peer from;
    struct rig r;

    (void)state;
    rig_start(&r);
    snprintf(kv, sizeof(kv), "ipc://%.80s/deaf", r.dir);
    assert_int_equal(sock_open(&deaf, r.ctx, &o, NULL), 0);
    assert_int_equal(sock_bind(deaf, kv, NULL), 0);
    job(&r, 1, kv, 900);
    while (sock_recv(deaf, &from, &m, NULL) != 1)
        serve(&r);
    assert_int_equal(m.type, MSG_KV_HELLO);
    msg_fini(&m);
    m = (struct msg){.type = MSG_KV_WELCOME, .u.credit.bytes = DEAF_CREDIT};
    assert_int_equal(sock_send(deaf, &from, &m, NULL), 0);
    while (!r.shipped || r.n_idle < 5) /* until nothing more leaves */
        serve(&r);
    assert_true(r.shipped < DEAF_CREDIT);
    assert_int_equal(sock_send(r.router, &r.node, &cancel, NULL), 0);
    r.give_up = clock_now() + 15 * CLOCK_S;
    stream(&r, 2, 0);
    sock_close(&deaf);
    rig_close(&r);
}

/* All of it, the page that the prompt does not fill too. */
static void what_a_decode_node_reads_is_what_would_have_come(void **state)
{
    uint64_t want[UNITS_MAX];
    struct rig r;

    (void)state;
    rig_start(&r);
    stream(&r, 1, 0);
    memcpy(want, r.sums, sizeof(want));
    assert_int_equal(r.n_places, 0);
    r.places = true;
    for (uint32_t i = 0; i < 2; i++) {
        stream(&r, 2 + i, i * r.n_units / 2); /* the second loses its connection on the way */
        if (!r.places) { /* the system lets nobody look at anybody */
            rig_close(&r);
            skip();
        }
        assert_int_equal(r.n_resumed, i);
        assert_int_equal(r.n_places, r.n_units);
        assert_memory_equal(r.sums, want, sizeof(want));
    }
    rig_close(&r);
}

/* Where a file may not be as large as the pool, there is no shared memory: KV goes in frames. */
static void a_node_that_cannot_share_offers_nothing(void **state)
{
    uint64_t want[UNITS_MAX];
    struct rlimit had, small;
    struct rig r;

    (void)state;
    rig_start(&r);
    stream(&r, 1, 0);
    memcpy(want, r.sums, sizeof(want));
    assert_true(r.offers);
    rig_close(&r);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &had), 0);
    small = (struct rlimit){64 << 10, had.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    rig_start(&r); /* which inherits it */
    setrlimit(RLIMIT_FSIZE, &had);
    stream(&r, 1, 0);
    assert_false(r.offers);
    assert_memory_equal(r.sums, want, sizeof(want));
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_connection_costs_no_stream_and_no_unit_comes_twice),
        cmocka_unit_test(who_does_not_read_holds_up_nobody_else),
        cmocka_unit_test(what_a_decode_node_reads_is_what_would_have_come),
        cmocka_unit_test(a_node_that_cannot_share_offers_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
