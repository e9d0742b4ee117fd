/* A decode node as a process, over real sockets: the test plays its router and a prefill node whose memory
 * it may read, or may not. */
#include "decode-node/decode.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "host/peek.h"
#include "kv/kv_unit.h"
#include "kv/kv_wire.h"
#include "net/sock.h"
#include "tests/lib/node.h"
#include "tests/lib/test.h"

#define MODEL "deploy/demo/austen-5m-q8_0.gguf"
#define TOKENS 64 /* two pages */
#define PATIENCE (60 * CLOCK_S)

struct rig {
    char dir[64], nodes[96], kv[96];
    pid_t pid;
    struct sock_ctx *ctx;
    struct sock *router, *prefill;
    struct peer node;        /* as the router knows it */
    struct msg_register reg; /* what it said */
    struct kv_layout layout;
    struct kv_cut cut;
    uint8_t *pages;          /* of the prompt, as in a pool of this layout */
    uint64_t probe, request;
    struct msg got;          /* the last of the decode node to the prefill node but KV_CREDIT; 0: none */
    bool reserved;
    int64_t give_up;
};

static void on_router(struct rig *r, const struct peer *from, const struct msg *m)
{
    struct msg answer = {.type = MSG_REGISTERED, .u.registered = {100, 20000}};

    if (m->type == MSG_REGISTER) {
        r->node = *from;
        r->reg = m->u.reg;
        sock_send(r->router, from, &answer, NULL);
    }
    r->reserved |= m->type == MSG_RESERVED;
    if (m->type == MSG_DECODE_FAILED || m->type == MSG_RESERVE_REFUSED)
        fail_msg("%s", m->u.failed.text);
}

static void serve(struct rig *r)
{
    struct pollfd fds[2] = {{.fd = sock_fd(r->router), .events = POLLIN},
                            {.fd = r->prefill ? sock_fd(r->prefill) : -1, .events = POLLIN}};
    struct peer from;
    struct msg m;

    assert_true(clock_now() < r->give_up);
    while (sock_recv(r->router, &from, &m, NULL) == 1) {
        on_router(r, &from, &m);
        msg_fini(&m);
    }
    while (r->prefill && !r->got.type && sock_recv(r->prefill, NULL, &m, NULL) == 1)
        if (m.type != MSG_KV_CREDIT)
            r->got = m; /* none of those that come owns anything */
    if (!sock_readable(r->router) && !(r->prefill && sock_readable(r->prefill)))
        poll(fds, 2, 10);
}

/* The next message that the prefill node gets. */
static struct msg answer(struct rig *r, enum msg_type type)
{
    struct msg m;

    while (!r->got.type)
        serve(r);
    m = r->got;
    r->got = (struct msg){0};
    assert_string_equal(msg_type_name(m.type), msg_type_name(type));
    return m;
}

static void say(struct rig *r, struct msg m)
{
    while (sock_send(r->prefill, NULL, &m, NULL))
        serve(r);
}

static void rig_open(struct rig *r, const char *kv_path)
{
    const struct sock_options o = {.kind = SOCK_ROUTER, .lane = SOCK_CONTROL};
    const struct sock_options data = {.kind = SOCK_DEALER, .lane = SOCK_DATA, .identity = "p#1.0"};
    const struct kv_geometry *g = &r->reg.geometry;

    if (access(MODEL, R_OK) != 0)
        skip();
    *r = (struct rig){.dir = "/tmp/tandem-test-XXXXXX", .probe = rng_entropy(),
                      .give_up = clock_now() + PATIENCE};
    assert_non_null(mkdtemp(r->dir));
    snprintf(r->nodes, sizeof(r->nodes), "ipc://%s/nodes", r->dir);
    snprintf(r->kv, sizeof(r->kv), "ipc://%s/kv", r->dir);
    r->pid = node_fork(&decode_option_table, &role_decode,
                       (const char *[]){"model", MODEL, "router", r->nodes, "kv", r->kv, "kv_path", kv_path,
                                        "prefix_cache", "off", NULL});
    r->ctx = sock_ctx_new();
    assert_int_equal(sock_open(&r->router, r->ctx, &o, NULL), 0);
    assert_int_equal(sock_bind(r->router, r->nodes, NULL), 0);
    while (!r->node.n)
        serve(r);
    kv_layout_init(&r->layout, (enum kv_type)g->wire_type, g->n_layer, g->n_kv_head, g->head_dim);
    assert_true(kv_cut_init(&r->cut, &r->layout, r->layout.type, MSG_BULK_MAX));
    r->pages = mem_zalloc(TOKENS / KV_PAGE_TOKENS * r->layout.page_bytes);
    assert_int_equal(sock_open(&r->prefill, r->ctx, &data, NULL), 0);
    assert_int_equal(sock_connect(r->prefill, r->reg.kv_endpoint, NULL), 0);
}

static void rig_close(struct rig *r)
{
    kill(r->pid, SIGKILL);
    waitpid(r->pid, NULL, 0);
    sock_close(&r->router);
    sock_close(&r->prefill);
    sock_ctx_free(&r->ctx);
    mem_free(r->pages);
    unlink(r->kv + 6);
    assert_int_equal(rmdir(r->dir), 0);
}

/* KV_HELLO with an offer whose value is off by `wrong`; whether places are welcome then. */
static bool hello(struct rig *r, uint64_t wrong)
{
    struct msg m = {.type = MSG_KV_HELLO, .u.hello = {
        .protocol = MSG_PROTOCOL, .name = "p", .model_hash = r->reg.model_hash,
        .geometry = r->reg.geometry}};

    snprintf(m.u.hello.cluster, sizeof(m.u.hello.cluster), "%s", r->reg.cluster);
    peek_allow(&m.u.hello.offer, &r->probe);
    m.u.hello.offer.value += wrong;
    say(r, m);
    return answer(r, MSG_KV_WELCOME).u.credit.places;
}

/* Skips the test where the system lets nobody read anybody. */
static void rig_open_readable(struct rig *r)
{
    rig_open(r, "auto");
    if (hello(r, 0))
        return;
    rig_close(r);
    skip();
}

static void reserve(struct rig *r)
{
    struct msg m = {.type = MSG_RESERVE,
                    .u.reserve = {.id = {++r->request, 1}, .n_tokens = TOKENS,
                                  .sampling = {.top_p = 1}, .max_new = 2}};

    m.u.reserve.tokens = mem_calloc(TOKENS, sizeof(uint32_t));
    for (uint32_t i = 0; i < TOKENS; i++)
        m.u.reserve.tokens[i] = 3 + i;
    r->reserved = false;
    assert_int_equal(sock_send(r->router, &r->node, &m, NULL), 0);
    while (!r->reserved)
        serve(r);
}

/* Unit i of the prompt: its place, or its bytes. */
static struct msg unit(struct rig *r, size_t i, bool place)
{
    struct kv_unit u = kv_cut_unit(&r->cut, i, TOKENS);
    const uint8_t *data = kv_wire_in_place(&r->layout, r->layout.type,
                                           r->pages + u.page * r->layout.page_bytes, u.layer,
                                           u.head_first, u.n_tokens);
    size_t bytes = kv_wire_bytes(&r->layout, r->layout.type, u.head_count, u.n_tokens);

    assert_non_null(data);
    return (struct msg){.type = place ? MSG_KV_PLACE : MSG_KV_PAGE, .u.page = {
        .id = {r->request, 1}, .layer = u.layer, .page = u.page, .head_first = u.head_first,
        .head_count = u.head_count, .n_tokens = u.n_tokens, .checksum = hash64(data, bytes, 0),
        .place = place ? (uintptr_t)data : 0,
        .bulk = {place ? NULL : data, bytes, NULL, NULL}}};
}

static void send_end(struct rig *r)
{
    say(r, (struct msg){.type = MSG_KV_END,
                        .u.end = {.id = {r->request, 1}, .n_tokens = TOKENS, .token = 5}});
}

static void a_page_is_read_where_it_lies_or_asked_for(void **state)
{
    struct rig r;
    struct msg m;
    size_t n;

    (void)state;
    rig_open_readable(&r);
    n = kv_cut_count(&r.cut, TOKENS);
    reserve(&r);
    for (size_t i = 0; i < n; i++) {
        m = unit(&r, i, true);
        if (i == 0)
            m.u.page.place = 8; /* nothing is there */
        if (i == n - 1)
            m.u.page.checksum++;
        say(&r, m);
    }
    send_end(&r);
    m = answer(&r, MSG_KV_AGAIN);
    assert_true(m.u.page.page == 0 && m.u.page.layer == 0);
    say(&r, unit(&r, 0, false));
    send_end(&r);
    m = answer(&r, MSG_KV_AGAIN);
    assert_true(m.u.page.page == TOKENS / KV_PAGE_TOKENS - 1 && m.u.page.layer == r.layout.n_layer - 1);
    say(&r, unit(&r, n - 1, true)); /* a place will do */
    send_end(&r);
    answer(&r, MSG_KV_DONE);
    assert_false(hello(&r, 0)); /* one read failed */
    rig_close(&r);
}

/* A job that ended early has other KV in its pages: no reason to think that reading does not work. */
static void a_wrong_checksum_is_forgiven(void **state)
{
    struct rig r;
    struct msg m;

    (void)state;
    rig_open_readable(&r);
    reserve(&r);
    m = unit(&r, 0, true);
    m.u.page.checksum++;
    say(&r, m);
    send_end(&r);
    answer(&r, MSG_KV_AGAIN);
    assert_true(hello(&r, 0));
    rig_close(&r);
}

static void an_offer_that_does_not_hold_means_frames(void **state)
{
    struct rig r;

    (void)state;
    rig_open(&r, "auto");
    assert_false(hello(&r, 1));
    reserve(&r);
    say(&r, unit(&r, 0, true)); /* not read */
    for (size_t i = 1; i < kv_cut_count(&r.cut, TOKENS); i++)
        say(&r, unit(&r, i, false));
    send_end(&r);
    answer(&r, MSG_KV_AGAIN);
    say(&r, unit(&r, 0, false));
    send_end(&r);
    answer(&r, MSG_KV_DONE);
    rig_close(&r);
}

static void nobody_is_read_if_frames_are_asked_for(void **state)
{
    struct rig r;

    (void)state;
    rig_open(&r, "frames");
    assert_false(hello(&r, 0));
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_is_read_where_it_lies_or_asked_for),
        cmocka_unit_test(a_wrong_checksum_is_forgiven),
        cmocka_unit_test(an_offer_that_does_not_hold_means_frames),
        cmocka_unit_test(nobody_is_read_if_frames_are_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
