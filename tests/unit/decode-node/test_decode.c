/* A decode node as a process, over real sockets: the test plays its router and a prefill node whose pages
 * it can map, or cannot. */
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
#include "host/share.h"
#include "kv/kv_unit.h"
#include "kv/kv_wire.h"
#include "net/sock.h"
#include "tests/lib/node.h"
#include "tests/lib/test.h"

#define MODEL "deploy/demo/austen-5m-q8_0.gguf"
#define TOKENS 50 /* two pages, the second not full */
#define N_PAGES 2
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
    struct mem_map pages;    /* of the prompt, as in a pool of this layout */
    int fd;                  /* theirs */
    uint64_t request;
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
    *r = (struct rig){.dir = "/tmp/tandem-test-XXXXXX",
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
    assert_int_equal(mem_map_open_shared(&r->pages, &r->fd, N_PAGES * r->layout.page_bytes, false, NULL), 0);
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
    mem_map_close(&r->pages);
    close(r->fd);
    unlink(r->kv + 6);
    assert_int_equal(rmdir(r->dir), 0);
}

/* KV_HELLO with an offer that is off by `wrong`; whether places are welcome then. */
static bool hello(struct rig *r, uint64_t wrong)
{
    struct msg m = {.type = MSG_KV_HELLO, .u.hello = {
        .protocol = MSG_PROTOCOL, .name = "p", .model_hash = r->reg.model_hash,
        .geometry = r->reg.geometry}};

    snprintf(m.u.hello.cluster, sizeof(m.u.hello.cluster), "%s", r->reg.cluster);
    share_offer(&m.u.hello.offer, r->fd);
    m.u.hello.offer.ino += wrong;
    say(r, m);
    return answer(r, MSG_KV_WELCOME).u.credit.places;
}

/* Skips the test where the system lets nobody read anybody. */
static void rig_open_mapped(struct rig *r)
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
    size_t at = u.page * r->layout.page_bytes + kv_layout_k(&r->layout, u.layer, u.head_first);
    size_t bytes = kv_wire_bytes(&r->layout, r->layout.type, u.head_count, u.n_tokens);
    const uint8_t *data = (const uint8_t *)r->pages.data + at;

    assert_true(kv_wire_whole(&r->layout, r->layout.type));
    return (struct msg){.type = place ? MSG_KV_PLACE : MSG_KV_PAGE, .u.page = {
        .id = {r->request, 1}, .layer = u.layer, .page = u.page, .head_first = u.head_first,
        .head_count = u.head_count, .n_tokens = u.n_tokens, .checksum = hash64(data, bytes, 0),
        .place = place ? at : 0,
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
    rig_open_mapped(&r);
    n = kv_cut_count(&r.cut, TOKENS);
    reserve(&r);
    for (size_t i = 0; i < n; i++) {
        m = unit(&r, i, true);
        if (i == 0)
            m.u.page.place = r.pages.size - m.u.page.bulk.size + 1; /* a byte is not there */
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
    assert_true(m.u.page.page == N_PAGES - 1 && m.u.page.layer == r.layout.n_layer - 1);
    say(&r, unit(&r, n - 1, true)); /* a place will do */
    send_end(&r);
    answer(&r, MSG_KV_DONE);
    assert_true(hello(&r, 0));
    rig_close(&r);
}

/* The checksum is of what was there before: a page that has other KV meanwhile is not taken. */
static void what_has_changed_since_is_not_taken(void **state)
{
    struct rig r;
    struct msg m;

    (void)state;
    rig_open_mapped(&r);
    reserve(&r);
    m = unit(&r, 0, true);
    *(uint8_t *)r.pages.data ^= 1;
    say(&r, m);
    send_end(&r);
    answer(&r, MSG_KV_AGAIN);
    rig_close(&r);
}

/* Of the decode node: how many of its mappings are of memory without a name. */
static int mappings(const struct rig *r)
{
    char path[64], line[512];
    int n = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/maps", (int)r->pid);
    f = fopen(path, "re");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        n += strstr(line, "/memfd:tandem") != NULL;
    fclose(f);
    return n;
}

/* However often it says hello; another offer takes the place of the one before. */
static void a_peer_is_mapped_once(void **state)
{
    struct rig r;

    (void)state;
    rig_open_mapped(&r);
    assert_int_equal(mappings(&r), 1);
    assert_true(hello(&r, 0));
    assert_int_equal(mappings(&r), 1);
    assert_false(hello(&r, 1));
    assert_int_equal(mappings(&r), 0);
    assert_true(hello(&r, 0));
    assert_int_equal(mappings(&r), 1);
    rig_close(&r);
}

/* The owner closes its file, as one that dies does: while a stream is under way its bytes are still there,
 * and afterwards the memory is given back. */
static void the_memory_of_who_is_gone_is_given_back(void **state)
{
    struct rig r;
    int fd;

    (void)state;
    rig_open_mapped(&r);
    reserve(&r);
    say(&r, unit(&r, 0, true));
    send_end(&r);
    answer(&r, MSG_KV_AGAIN); /* so unit 0 has come, and the stream is under way */
    fd = dup(r.fd); /* for rig_close */
    close(r.fd);
    r.fd = fd;
    for (size_t i = 1; i < kv_cut_count(&r.cut, TOKENS); i++)
        say(&r, unit(&r, i, true));
    assert_int_equal(mappings(&r), 1);
    send_end(&r);
    answer(&r, MSG_KV_DONE);
    while (mappings(&r))
        serve(&r);
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
        cmocka_unit_test(what_has_changed_since_is_not_taken),
        cmocka_unit_test(a_peer_is_mapped_once),
        cmocka_unit_test(the_memory_of_who_is_gone_is_given_back),
        cmocka_unit_test(an_offer_that_does_not_hold_means_frames),
        cmocka_unit_test(nobody_is_read_if_frames_are_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
