/* A member and a router's socket on one loop, in a directory of its own. */
#include "daemon/member.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"

struct fixture {
    char dir[64], endpoint[128];
    struct loop *loop;
    struct sock_ctx *ctx;
    struct sock *router; /* NULL while it is down */
    struct member *member;
    struct peer node;    /* as the router saw it last */
    struct loop_event *patience;
    uint32_t n_registers, n_beats, n_byes, n_joined, n_lost, n_refused, n_messages;
    bool mute;           /* the router answers nothing */
    const char *refuse;
    uint32_t *wait_for, wait_count;
};

/* Runs the loop until *count is n. */
static void await(struct fixture *f, uint32_t *count, uint32_t n)
{
    f->wait_for = count;
    f->wait_count = n;
    if (*count < n)
        loop_run(f->loop);
    assert_true(*count >= n);
}

static void seen(struct fixture *f, uint32_t *count)
{
    (*count)++;
    if (count == f->wait_for && *count >= f->wait_count)
        loop_stop(f->loop);
}

static void out_of_patience(void *ctx)
{
    loop_stop(((struct fixture *)ctx)->loop);
}

static void router_send(struct fixture *f, struct msg m)
{
    assert_int_equal(sock_send(f->router, &f->node, &m, NULL), 0);
}

static void on_router(void *ctx, const struct peer *from, struct msg *m)
{
    struct fixture *f = ctx;

    f->node = *from;
    if (m->type == MSG_REGISTER && !f->mute) {
        struct msg answer = {.type = MSG_REGISTERED, .u.registered = {20, 300}};

        if (f->refuse) {
            answer.type = MSG_REFUSED;
            snprintf(answer.u.text.text, sizeof(answer.u.text.text), "%s", f->refuse);
        }
        router_send(f, answer);
    }
    if (m->type == MSG_REGISTER) {
        assert_string_equal(m->u.reg.name, "decode-7");
        seen(f, &f->n_registers);
    } else if (m->type == MSG_HEARTBEAT) {
        assert_int_equal(m->u.heartbeat.tokens, 42);
        if (!f->mute)
            router_send(f, (struct msg){.type = MSG_HEARTBEAT});
        seen(f, &f->n_beats);
    } else if (m->type == MSG_BYE) {
        seen(f, &f->n_byes);
    }
}

static void on_message(void *ctx, struct msg *m)
{
    struct fixture *f = ctx;

    assert_int_equal(m->type, MSG_CANCEL);
    seen(f, &f->n_messages);
}

static void on_joined(void *ctx) { seen(ctx, &((struct fixture *)ctx)->n_joined); }
static void on_lost(void *ctx) { seen(ctx, &((struct fixture *)ctx)->n_lost); }

static void on_refused(void *ctx, const char *sentence)
{
    struct fixture *f = ctx;

    assert_string_equal(sentence, f->refuse);
    seen(f, &f->n_refused);
}

static void on_beat(void *ctx, struct msg_heartbeat *h)
{
    (void)ctx;
    h->tokens = 42;
}

static void router_up(struct fixture *f)
{
    const struct sock_options o = {.kind = SOCK_ROUTER, .lane = SOCK_CONTROL};

    assert_int_equal(sock_open(&f->router, f->ctx, &o, NULL), 0);
    assert_int_equal(sock_bind(f->router, f->endpoint, NULL), 0);
    loop_add_sock(f->loop, f->router, on_router, f);
}

static void router_down(struct fixture *f)
{
    loop_del_sock(f->loop, f->router);
    sock_close(&f->router);
}

static void setup(struct fixture *f)
{
    const struct member_events events = {f, on_message, on_joined, on_lost, on_refused, on_beat};
    const struct msg_register reg = {.protocol = MSG_PROTOCOL, .role = ROLE_DECODE, .cluster = "c",
                                     .name = "decode-7", .tier = "ref",
                                     .kv_endpoint = "ipc:///x", .boot = 5, .model_hash = 6,
                                     .geometry = {1, 1, 8, 32, 0}, .ctx_max = 64, .slots = 1,
                                     .pages_total = 2, .cores = 1, .pid = 1};

    log_level_max = LOG_ERROR;
    *f = (struct fixture){.dir = "/tmp/tandem-member-XXXXXX"};
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->endpoint, sizeof(f->endpoint), "ipc://%s/router", f->dir);
    f->loop = loop_new();
    f->ctx = sock_ctx_new();
    f->patience = loop_add_timer(f->loop, 20000, out_of_patience, f);
    assert_int_equal(member_open(&f->member, f->loop, f->ctx, f->endpoint, &reg, &events, NULL), 0);
}

static void teardown(struct fixture *f)
{
    char path[128];

    member_close(&f->member);
    if (f->router)
        router_down(f);
    loop_del_event(&f->patience);
    loop_free(&f->loop);
    sock_ctx_free(&f->ctx);
    snprintf(path, sizeof(path), "%s/router", f->dir);
    unlink(path);
    assert_int_equal(rmdir(f->dir), 0);
}

static void a_node_joins_beats_hears_and_leaves(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    router_up(&f); /* after the node: order does not matter */
    await(&f, &f.n_joined, 1);
    assert_true(member_up(f.member));
    await(&f, &f.n_beats, 3);
    router_send(&f, (struct msg){.type = MSG_CANCEL, .u.cancel.id = {1, 1}});
    await(&f, &f.n_messages, 1);
    member_bye(f.member, "stopped");
    await(&f, &f.n_byes, 1);
    assert_int_equal(f.n_lost, 0);
    teardown(&f);
}

static void a_node_joins_again_when_the_router_was_restarted(void **state)
{
    struct fixture f;
    struct peer first;

    (void)state;
    setup(&f);
    router_up(&f);
    await(&f, &f.n_joined, 1);
    first = f.node;
    router_down(&f);
    await(&f, &f.n_lost, 1);
    assert_false(member_up(f.member));
    router_up(&f);
    await(&f, &f.n_joined, 2);
    assert_false(peer_equal(&first, &f.node)); /* an identity that nobody can hold */
    teardown(&f);
}

/* Whoever answers afterwards: what was under way is lost, and nobody can tell what that was. */
static void a_broken_connection_means_join_again(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    router_up(&f);
    await(&f, &f.n_joined, 1);
    router_down(&f);
    router_up(&f);
    await(&f, &f.n_lost, 1);
    await(&f, &f.n_joined, 2);
    teardown(&f);
}

static void silence_of_a_connected_router_is_noticed(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    router_up(&f);
    await(&f, &f.n_joined, 1);
    f.mute = true; /* stopped, or another one that knows us not */
    await(&f, &f.n_lost, 1);
    await(&f, &f.n_registers, 2);
    f.mute = false;
    await(&f, &f.n_joined, 2);
    teardown(&f);
}

static void a_refusal_ends_it_with_the_sentence(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    f.refuse = "another model";
    router_up(&f);
    await(&f, &f.n_refused, 1);
    assert_int_equal(f.n_joined, 0);
    teardown(&f);
}

static void a_refusal_while_up_means_join_again(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    router_up(&f);
    await(&f, &f.n_joined, 1);
    router_send(&f, (struct msg){.type = MSG_REFUSED, .u.text.text = "who are you"});
    await(&f, &f.n_joined, 2);
    assert_int_equal(f.n_lost, 1); /* what the router had asked for is void */
    assert_int_equal(f.n_refused, 0);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_joins_beats_hears_and_leaves),
        cmocka_unit_test(a_node_joins_again_when_the_router_was_restarted),
        cmocka_unit_test(a_broken_connection_means_join_again),
        cmocka_unit_test(silence_of_a_connected_router_is_noticed),
        cmocka_unit_test(a_refusal_ends_it_with_the_sentence),
        cmocka_unit_test(a_refusal_while_up_means_join_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
