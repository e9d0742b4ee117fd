#include "rig.h"

/* Walks a request of client 1 (40 prompt tokens, 8 new) on P1 and D1 up to a state. */
enum stage { IN_QUEUE, IN_RESERVING, IN_PREFILL, IN_DECODE, IN_DECODE_KV_DONE, STAGE_COUNT };

static struct stream_id walk(struct rig *r, enum stage stage)
{
    struct stream_id id = {7000, 1};

    if (stage == IN_QUEUE) {
        /* both slots of D1 taken by others */
        rig_submit(r, 91, 4, 4);
        rig_submit(r, 92, 4, 4);
        rig_submit(r, 1, 40, 8);
        return (struct stream_id){7002, 1};
    }
    rig_submit(r, 1, 40, 8);
    if (stage >= IN_PREFILL)
        rig_reserved(r, D1, id);
    if (stage >= IN_DECODE)
        rig_first(r, P1, id, 0, 500, FINISH_NONE);
    if (stage >= IN_DECODE_KV_DONE)
        rig_tokens(r, D1, id, 1, 2, FINISH_NONE);
    return id;
}

static void rig_pair(struct rig *r)
{
    rig_init(r);
    rig_register(r, P1);
    rig_register(r, D1);
}

static void check_delivered(const struct rig *r, uint64_t client, uint32_t index, uint32_t n)
{
    const struct router_action *a = rig_nth(r, ROUTER_DELIVER, 0);

    assert_non_null(a);
    assert_int_equal(rig_count(r, ROUTER_DELIVER), 1);
    assert_int_equal(a->client, client);
    assert_int_equal(a->index, index);
    assert_int_equal(a->n_tokens, n);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(a->tokens[i], 500 + index + i);
}

static const struct router_action *check_failed(const struct rig *r, uint64_t client, int status,
                                                bool retry_after, const char *part)
{
    const struct router_action *a = rig_nth(r, ROUTER_FAIL, 0);

    assert_non_null(a);
    assert_int_equal(a->client, client);
    assert_int_equal(a->status, status);
    assert_int_equal(a->retry_after_ms > 0, retry_after);
    if (!strstr(a->text, part))
        fail_msg("\"%s\" lacks \"%s\"", a->text, part);
    return a;
}

/* Nothing is charged to any node: what was started is freed. */
static void check_idle(const struct rig *r)
{
    assert_int_equal(router_core_running(r->core), 0);
    assert_int_equal(router_core_queued(r->core), 0);
    for (size_t i = 0; i < router_core_node_count(r->core); i++) {
        const struct node *n = router_core_node(r->core, i);

        assert_int_equal(n->running, 0);
        assert_int_equal(n->pages_taken, 0);
        assert_int_equal(n->queued_tokens, 0);
    }
}

static void test_request_walks_every_state(void **state)
{
    struct rig r;
    struct stream_id id = {7000, 1};
    const struct msg *m;
    const struct router_action *a;

    (void)state;
    rig_pair(&r);
    rig_submit(&r, 1, 40, 8);
    assert_non_null(m = rig_sent(&r, D1, MSG_RESERVE));
    assert_int_equal(m->u.reserve.id.request, 7000);
    assert_int_equal(m->u.reserve.id.epoch, 1);
    assert_int_equal(m->u.reserve.n_tokens, 40);
    assert_int_equal(m->u.reserve.max_new, 8);
    assert_int_equal(m->u.reserve.first_index, 0);
    assert_int_equal(m->u.reserve.stop_tokens[0], 2);
    assert_null(rig_sent(&r, P1, MSG_PREFILL_JOB)); /* reserve before prefill */

    r.now += 1000;
    rig_msg(&r, D1, (struct msg){.type = MSG_RESERVED, .u.reserved = {id, 32}});
    assert_non_null(m = rig_sent(&r, P1, MSG_PREFILL_JOB));
    assert_int_equal(m->u.job.n_tokens, 40);
    assert_int_equal(m->u.job.tokens[39], 40);
    assert_int_equal(m->u.job.skip_tokens, 32);
    assert_int_equal(m->u.job.n_stop_tokens, 1);
    assert_string_equal(m->u.job.decode_name, "decode-1");
    assert_string_equal(m->u.job.kv_endpoint, "ipc:///tmp/decode-1");

    rig_first(&r, P1, id, 0, 500, FINISH_NONE);
    check_delivered(&r, 1, 0, 1); /* at once: the KV is still on its way */
    rig_tokens(&r, D1, id, 1, 3, FINISH_NONE);
    check_delivered(&r, 1, 1, 3);
    rig_tokens(&r, D1, id, 4, 4, FINISH_LENGTH);
    check_delivered(&r, 1, 4, 4);
    assert_non_null(a = rig_nth(&r, ROUTER_FINISH, 0));
    assert_int_equal(a->finish, FINISH_LENGTH);
    assert_int_equal(a->stats.request, 7000);
    assert_int_equal(a->stats.prompt_tokens, 40);
    assert_int_equal(a->stats.output_tokens, 8);
    assert_int_equal(a->stats.kv_bytes, 4096);
    assert_int_equal(a->stats.queue_ns, 11);
    assert_int_equal(a->stats.prefill_ns, 22);
    assert_string_equal(a->stats.prefill, "prefill-1");
    assert_string_equal(a->stats.decode, "decode-1");
    assert_null(rig_sent(&r, D1, MSG_CANCEL)); /* it ended the stream itself */
    check_idle(&r);
    rig_fini(&r);
}

static void test_first_token_may_be_the_last(void **state)
{
    struct rig r;
    struct stream_id id;

    (void)state;
    rig_pair(&r);
    id = walk(&r, IN_PREFILL);
    rig_first(&r, P1, id, 0, 500, FINISH_LENGTH);
    check_delivered(&r, 1, 0, 1);
    assert_int_equal(rig_nth(&r, ROUTER_FINISH, 0)->finish, FINISH_LENGTH);
    assert_non_null(rig_sent(&r, D1, MSG_CANCEL)); /* its reservation is of no use */
    assert_null(rig_sent(&r, P1, MSG_CANCEL));
    check_idle(&r);
    rig_fini(&r);
}

static void test_first_token_that_stops_is_not_part_of_the_stream(void **state)
{
    struct rig r;
    struct stream_id id;

    (void)state;
    rig_pair(&r);
    id = walk(&r, IN_PREFILL);
    rig_first(&r, P1, id, 0, 500, FINISH_STOP);
    assert_int_equal(rig_count(&r, ROUTER_DELIVER), 0);
    assert_int_equal(rig_nth(&r, ROUTER_FINISH, 0)->finish, FINISH_STOP);
    assert_int_equal(rig_nth(&r, ROUTER_FINISH, 0)->stats.output_tokens, 0);
    assert_non_null(rig_sent(&r, D1, MSG_CANCEL));
    assert_null(rig_sent(&r, P1, MSG_CANCEL));
    check_idle(&r);
    rig_fini(&r);
}

static void test_tokens_that_overtake_the_first_wait(void **state)
{
    struct rig r;
    struct stream_id id;

    (void)state;
    rig_pair(&r);
    id = walk(&r, IN_PREFILL);
    rig_tokens(&r, D1, id, 1, 2, FINISH_NONE);
    assert_int_equal(rig_count(&r, ROUTER_DELIVER), 0);
    rig_tokens(&r, D1, id, 2, 3, FINISH_NONE); /* 2 again, 3 and 4 new */
    assert_int_equal(rig_count(&r, ROUTER_DELIVER), 0);
    rig_first(&r, P1, id, 0, 500, FINISH_NONE);
    check_delivered(&r, 1, 0, 5);
    rig_tokens(&r, D1, id, 5, 3, FINISH_LENGTH);
    check_delivered(&r, 1, 5, 3);
    check_idle(&r);
    rig_fini(&r);
}

static void test_whole_stream_may_overtake_the_first(void **state)
{
    struct rig r;
    struct stream_id id;

    (void)state;
    rig_pair(&r);
    id = walk(&r, IN_PREFILL);
    rig_tokens(&r, D1, id, 1, 2, FINISH_NONE);
    rig_tokens(&r, D1, id, 3, 0, FINISH_STOP);
    rig_first(&r, P1, id, 0, 500, FINISH_NONE);
    check_delivered(&r, 1, 0, 3);
    assert_int_equal(rig_nth(&r, ROUTER_FINISH, 0)->finish, FINISH_STOP);
    assert_int_equal(rig_nth(&r, ROUTER_FINISH, 0)->stats.kv_bytes, 4096);
    assert_null(rig_sent(&r, D1, MSG_CANCEL));
    check_idle(&r);
    rig_fini(&r);
}

static void test_each_index_is_delivered_once(void **state)
{
    struct rig r;
    struct stream_id id;

    (void)state;
    rig_pair(&r);
    id = walk(&r, IN_DECODE_KV_DONE); /* 0, 1, 2 delivered */
    rig_tokens(&r, D1, id, 1, 2, FINISH_NONE);
    assert_int_equal(rig_count(&r, ROUTER_DELIVER), 0);
    rig_tokens(&r, D1, id, 1, 4, FINISH_NONE);
    check_delivered(&r, 1, 3, 2);
    rig_first(&r, P1, id, 0, 500, FINISH_NONE);
    assert_int_equal(rig_count(&r, ROUTER_DELIVER), 0);
    rig_fini(&r);
}

static void test_gap_or_surplus_restarts_by_epoch(void **state)
{
    const struct {
        uint32_t index, n;
    } bad[] = {{4, 1}, {3, 6}, {0xffffffff, 2}, {8, 1}};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct rig r;
        struct stream_id id;
        const struct msg *m;

        rig_pair(&r);
        id = walk(&r, IN_DECODE_KV_DONE); /* 3 delivered of 8 */
        rig_tokens(&r, D1, id, bad[i].index, bad[i].n, FINISH_NONE);
        assert_int_equal(rig_count(&r, ROUTER_DELIVER), 0);
        assert_non_null(rig_sent(&r, D1, MSG_CANCEL));
        assert_non_null(m = rig_sent(&r, D1, MSG_RESERVE)); /* there is no other */
        assert_int_equal(m->u.reserve.id.epoch, 2);
        assert_int_equal(m->u.reserve.first_index, 3);
        assert_int_equal(router_core_counters(r.core)->protocol_faults, 1);
        rig_fini(&r);
    }
}

static void test_foreign_token_ids_restart(void **state)
{
    struct rig r;
    struct stream_id id;
    struct msg m = {.type = MSG_TOKENS};

    (void)state;
    rig_pair(&r);
    id = walk(&r, IN_DECODE);
    m.u.tokens = (struct msg_tokens){.id = id, .index = 1, .n_tokens = 1, .tokens = {RIG_VOCAB}};
    rig_msg(&r, D1, m);
    assert_int_equal(rig_count(&r, ROUTER_DELIVER), 0);
    assert_int_equal(rig_sent(&r, D1, MSG_RESERVE)->u.reserve.id.epoch, 2);
    rig_fini(&r);
}

/* The restarted stream goes on where it was, on another pair. */
static void check_replayed(struct rig *r, uint32_t delivered)
{
    struct stream_id id = {7000, 2};
    const struct msg *m = rig_sent(r, D2, MSG_RESERVE);

    assert_non_null(m);
    assert_int_equal(m->u.reserve.id.epoch, 2);
    assert_int_equal(m->u.reserve.n_tokens, 40 + delivered);
    assert_int_equal(m->u.reserve.first_index, delivered);
    assert_int_equal(m->u.reserve.max_new, 8 - delivered);
    rig_reserved(r, D2, id);
    m = rig_sent(r, P2, MSG_PREFILL_JOB);
    if (!m)
        m = rig_sent(r, P1, MSG_PREFILL_JOB);
    assert_non_null(m);
    assert_int_equal(m->u.job.n_tokens, 40 + delivered);
    assert_int_equal(m->u.job.first_index, delivered);
    assert_int_equal(m->u.job.max_new, 8 - delivered);
    for (uint32_t i = 0; i < delivered; i++)
        assert_int_equal(m->u.job.tokens[40 + i], 500 + i);
    assert_string_equal(m->u.job.decode_name, "decode-2");
    rig_msg(r, P2, (struct msg){.type = MSG_BYE}); /* may be the job's */
    rig_msg(r, P1, (struct msg){.type = MSG_BYE});
    assert_int_equal(router_core_queued(r->core), 1); /* waits for a prefill node to come */
    assert_int_equal(rig_count(r, ROUTER_FAIL), 0);
}

static void test_decode_node_dies_at_each_state(void **state)
{
    const uint32_t delivered[STAGE_COUNT] = {0, 0, 0, 1, 3};

    (void)state;
    for (enum stage s = IN_RESERVING; s < STAGE_COUNT; s++) {
        struct rig r;

        rig_pair(&r);
        walk(&r, s);
        rig_register(&r, D2);
        rig_register(&r, P2);
        rig_step(&r, &(struct router_event){.type = ROUTER_LOST, .node = D1});
        assert_null(rig_sent(&r, D1, MSG_CANCEL)); /* it is no more */
        /* the prefill node has a job once the reservation stood, until its KV has arrived */
        assert_int_equal(!!rig_sent(&r, P1, MSG_CANCEL), s == IN_PREFILL || s == IN_DECODE);
        assert_int_equal(router_core_counters(r.core)->restarts, 1);
        check_replayed(&r, delivered[s]);
        rig_fini(&r);
    }
}

static void test_prefill_node_dies_at_each_state(void **state)
{
    const uint32_t delivered[STAGE_COUNT] = {0, 0, 0, 1, 3};

    (void)state;
    for (enum stage s = IN_RESERVING; s < STAGE_COUNT; s++) {
        struct rig r;

        rig_pair(&r);
        walk(&r, s);
        rig_register(&r, D2);
        rig_register(&r, P2);
        rig_step(&r, &(struct router_event){.type = ROUTER_LOST, .node = P1});
        if (s == IN_DECODE_KV_DONE) { /* its part was over */
            assert_int_equal(router_core_counters(r.core)->restarts, 0);
            assert_int_equal(rig_count(&r, ROUTER_SEND), 0);
        } else {
            assert_non_null(rig_sent(&r, D1, MSG_CANCEL));
            assert_int_equal(router_core_counters(r.core)->restarts, 1);
            check_replayed(&r, delivered[s]);
        }
        rig_fini(&r);
    }
}

static void test_silent_node_is_given_up(void **state)
{
    const uint64_t beating[] = {P1, D2, 0};
    struct rig r;

    (void)state;
    rig_pair(&r);
    walk(&r, IN_DECODE_KV_DONE);
    rig_register(&r, D2);
    rig_wait(&r, 400, beating);
    assert_int_equal(router_core_node_count(r.core), 3);
    rig_wait(&r, 200, beating);
    assert_int_equal(router_core_node_count(r.core), 2);
    assert_int_equal(rig_nth(&r, ROUTER_DISCONNECT, 0)->node, D1);
    check_replayed(&r, 3);
    rig_fini(&r);
}

static void test_bye_restarts_at_once(void **state)
{
    struct rig r;
    struct msg bye = {.type = MSG_BYE, .u.text.text = "terminated"};

    (void)state;
    rig_pair(&r);
    walk(&r, IN_DECODE_KV_DONE);
    rig_register(&r, D2);
    rig_msg(&r, D1, bye);
    assert_true(rig_has_note(&r, "terminated"));
    check_replayed(&r, 3);
    rig_fini(&r);
}

static void test_failure_with_retry_restarts_elsewhere(void **state)
{
    (void)state;
    for (enum stage s = IN_PREFILL; s <= IN_DECODE; s++) {
        struct rig r;
        struct stream_id id;

        rig_pair(&r);
        id = walk(&r, s);
        rig_register(&r, P2);
        rig_register(&r, D2);
        rig_failed(&r, D1, MSG_DECODE_FAILED, id, true);
        assert_null(rig_sent(&r, D1, MSG_CANCEL));
        assert_non_null(rig_sent(&r, P1, MSG_CANCEL));
        assert_non_null(rig_sent(&r, D2, MSG_RESERVE));
        rig_fini(&r);

        rig_pair(&r);
        id = walk(&r, s);
        rig_register(&r, P2);
        rig_failed(&r, P1, MSG_PREFILL_FAILED, id, true);
        assert_null(rig_sent(&r, P1, MSG_CANCEL));
        assert_non_null(rig_sent(&r, D1, MSG_CANCEL));
        id.epoch++;
        rig_reserved(&r, D1, id);
        assert_non_null(rig_sent(&r, P2, MSG_PREFILL_JOB));
        rig_fini(&r);
    }
}

static void test_failure_without_retry_fails_the_request(void **state)
{
    struct rig r;
    struct stream_id id;

    (void)state;
    rig_pair(&r);
    id = walk(&r, IN_PREFILL);
    rig_failed(&r, P1, MSG_PREFILL_FAILED, id, false);
    check_failed(&r, 1, 500, false, "prefill-1: out of luck");
    assert_non_null(rig_sent(&r, D1, MSG_CANCEL));
    check_idle(&r);
    rig_fini(&r);
}

static void test_fourth_failure_ends_the_request(void **state)
{
    struct rig r;
    struct stream_id id;

    (void)state;
    rig_pair(&r);
    id = walk(&r, IN_RESERVING);
    for (; id.epoch <= ROUTER_RESTARTS_MAX; id.epoch++) {
        rig_reserved(&r, D1, id);
        rig_failed(&r, P1, MSG_PREFILL_FAILED, id, true);
        assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
        assert_null(rig_sent(&r, D1, MSG_RESERVE)); /* the node is held back for a moment */
        rig_wait(&r, 100, (uint64_t[]){P1, D1, 0});
        assert_int_equal(router_core_running(r.core), 1);
    }
    rig_reserved(&r, D1, id);
    rig_failed(&r, P1, MSG_PREFILL_FAILED, id, true);
    check_failed(&r, 1, 503, true, "4 attempts");
    check_idle(&r);
    rig_fini(&r);
}

static void test_an_attempt_that_brought_tokens_is_not_held_against_the_request(void **state)
{
    struct rig r;
    struct stream_id id;
    uint32_t got = 0;

    (void)state;
    rig_pair(&r);
    rig_submit(&r, 1, 3, 300);
    id = rig_sent(&r, D1, MSG_RESERVE)->u.reserve.id;
    for (; id.epoch <= 2 * ROUTER_RESTARTS_MAX; id.epoch++) {
        rig_reserved(&r, D1, id);
        rig_first(&r, P1, id, got, 500 + got, FINISH_NONE);
        rig_tokens(&r, D1, id, got + 1, ROUTER_PROGRESS - 1, FINISH_NONE);
        got += ROUTER_PROGRESS;
        rig_failed(&r, D1, MSG_DECODE_FAILED, id, true);
        assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
        rig_wait(&r, 100, (uint64_t[]){P1, D1, 0});
    }
    for (uint32_t i = 0; i < ROUTER_RESTARTS_MAX; i++, id.epoch++) {
        rig_reserved(&r, D1, id);
        rig_failed(&r, P1, MSG_PREFILL_FAILED, id, true);
        assert_int_equal(rig_count(&r, ROUTER_FAIL), i == ROUTER_RESTARTS_MAX - 1);
        rig_wait(&r, 100, (uint64_t[]){P1, D1, 0});
    }
    check_idle(&r);
    rig_fini(&r);
}

static void test_want_of_pages_is_not_held_against_a_request(void **state)
{
    struct rig r;
    struct stream_id id;

    (void)state;
    rig_pair(&r);
    rig_submit(&r, 1, 3, 300);
    id = rig_sent(&r, D1, MSG_RESERVE)->u.reserve.id;
    for (; id.epoch <= 3 * ROUTER_RESTARTS_MAX; id.epoch++) {
        struct msg m = {.type = MSG_DECODE_FAILED, .u.failed = {id, true, "no KV pages are left", true}};

        rig_reserved(&r, D1, id);
        rig_msg(&r, D1, m);
        assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
        rig_wait(&r, 100, (uint64_t[]){P1, D1, 0});
    }
    rig_cancel(&r, 1);
    check_idle(&r);
    rig_fini(&r);
}

static void test_refused_reservation_goes_elsewhere_or_back(void **state)
{
    struct rig r;
    struct stream_id id;

    (void)state;
    rig_pair(&r);
    id = walk(&r, IN_RESERVING);
    rig_failed(&r, D1, MSG_RESERVE_REFUSED, id, true);
    assert_int_equal(router_core_queued(r.core), 1); /* only node: back to the queue */
    assert_int_equal(rig_count(&r, ROUTER_SEND), 0);
    rig_register(&r, D2);
    assert_int_equal(rig_sent(&r, D2, MSG_RESERVE)->u.reserve.id.epoch, 2);
    assert_int_equal(router_core_counters(r.core)->restarts, 0); /* full is no failure */
    assert_int_equal(router_core_counters(r.core)->reserve_refused, 1);
    rig_fini(&r);
}

static void test_unanswered_reservation_is_tried_again(void **state)
{
    struct rig r;

    (void)state;
    rig_pair(&r);
    walk(&r, IN_RESERVING);
    for (uint32_t i = 0; i < 40 && !router_core_counters(r.core)->restarts; i++)
        rig_wait(&r, 20, (uint64_t[]){P1, D1, 0});
    assert_non_null(rig_sent(&r, D1, MSG_CANCEL));
    assert_int_equal(rig_sent(&r, D1, MSG_RESERVE)->u.reserve.id.epoch, 2);
    rig_fini(&r);
}

static void test_stale_epochs_are_dropped_and_counted(void **state)
{
    struct rig r;
    struct stream_id old, id;

    (void)state;
    rig_pair(&r);
    old = walk(&r, IN_DECODE_KV_DONE);
    rig_failed(&r, D1, MSG_DECODE_FAILED, old, true);
    rig_wait(&r, 100, (uint64_t[]){P1, D1, 0});
    id = (struct stream_id){old.request, 2};
    rig_reserved(&r, D1, id);
    rig_tokens(&r, D1, old, 3, 2, FINISH_NONE);
    rig_first(&r, P1, old, 3, 503, FINISH_NONE);
    rig_failed(&r, P1, MSG_PREFILL_FAILED, old, true);
    rig_tokens(&r, D1, (struct stream_id){1, 1}, 0, 1, FINISH_NONE); /* of no request of ours */
    assert_int_equal(rig_count(&r, ROUTER_DELIVER), 0);
    assert_int_equal(router_core_counters(r.core)->stale_messages, 4);
    rig_first(&r, P1, id, 3, 503, FINISH_NONE);
    check_delivered(&r, 1, 3, 1);
    rig_fini(&r);
}

static void test_another_node_cannot_speak_for_a_stream(void **state)
{
    struct rig r;
    struct stream_id id;

    (void)state;
    rig_pair(&r);
    id = walk(&r, IN_DECODE);
    rig_register(&r, D2);
    rig_register(&r, P2);
    rig_tokens(&r, D2, id, 1, 1, FINISH_NONE); /* right epoch, wrong node */
    rig_tokens(&r, P2, id, 1, 1, FINISH_NONE); /* wrong role */
    rig_tokens(&r, 55, id, 1, 1, FINISH_NONE); /* nobody we know */
    assert_int_equal(rig_nth(&r, ROUTER_DISCONNECT, 0)->node, 55);
    assert_int_equal(rig_count(&r, ROUTER_DELIVER), 0);
    assert_int_equal(router_core_counters(r.core)->restarts, 0);
    rig_fini(&r);
}

static void test_cancel_at_each_state_frees_both_nodes(void **state)
{
    (void)state;
    for (enum stage s = IN_QUEUE; s < STAGE_COUNT; s++) {
        struct rig r;
        struct stream_id id;
        const struct msg *m;

        rig_pair(&r);
        id = walk(&r, s);
        rig_cancel(&r, 1);
        m = rig_sent(&r, D1, MSG_CANCEL);
        assert_int_equal(!!m, s != IN_QUEUE);
        if (m) {
            assert_int_equal(m->u.cancel.id.request, id.request);
            assert_int_equal(m->u.cancel.id.epoch, 1);
        }
        assert_int_equal(!!rig_sent(&r, P1, MSG_CANCEL), s == IN_PREFILL || s == IN_DECODE);
        assert_int_equal(rig_nth(&r, ROUTER_FINISH, 0)->finish, FINISH_CANCELLED);
        if (s == IN_QUEUE) { /* the others run on */
            assert_int_equal(router_core_running(r.core), 2);
            rig_cancel(&r, 91);
            rig_cancel(&r, 92);
        }
        check_idle(&r);
        rig_cancel(&r, 1); /* again: nothing */
        assert_int_equal(r.out.n, 0);
        rig_tokens(&r, D1, id, 1, 1, FINISH_NONE); /* late */
        assert_int_equal(rig_count(&r, ROUTER_DELIVER), 0);
        rig_fini(&r);
    }
}

/* With the client's leaving, not with a later tick. */
static void test_a_client_that_goes_away_cancels_at_both_nodes_in_the_same_step(void **state)
{
    struct rig r;
    struct stream_id id;

    (void)state;
    rig_pair(&r);
    id = walk(&r, IN_DECODE);
    rig_cancel(&r, 1);
    assert_int_equal(rig_count(&r, ROUTER_SEND), 2);
    assert_non_null(rig_sent(&r, P1, MSG_CANCEL));
    assert_non_null(rig_sent(&r, D1, MSG_CANCEL));
    assert_int_equal(rig_sent(&r, P1, MSG_CANCEL)->u.cancel.id.request, id.request);
    assert_int_equal(rig_sent(&r, D1, MSG_CANCEL)->u.cancel.id.request, id.request);
    check_idle(&r);
    rig_fini(&r);
}

static void test_queue_is_bounded_and_in_order(void **state)
{
    struct rig r;
    const struct router_action *a;

    (void)state;
    rig_pair(&r);
    for (uint64_t c = 1; c <= 6; c++) { /* 2 slots, 4 in the queue */
        rig_submit(&r, c, 40, 8);
        assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
    }
    rig_submit(&r, 7, 40, 8);
    a = check_failed(&r, 7, 503, true, "queue_max is 4");
    assert_in_range(a->retry_after_ms, 1000, 60000);
    assert_int_equal(router_core_counters(r.core)->refused_full, 1);
    rig_cancel(&r, 4);
    rig_submit(&r, 8, 40, 8); /* in the place of 4 */
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
    rig_cancel(&r, 1);
    assert_int_equal(rig_sent(&r, D1, MSG_RESERVE)->u.reserve.id.request, 7002); /* of client 3 */
    rig_cancel(&r, 3);
    assert_int_equal(rig_sent(&r, D1, MSG_RESERVE)->u.reserve.id.request, 7004);
    rig_fini(&r);
}

static void test_restarted_request_is_before_newer_ones(void **state)
{
    struct rig r;

    (void)state;
    rig_pair(&r);
    walk(&r, IN_DECODE);       /* 7000 */
    rig_submit(&r, 2, 40, 8);  /* runs as well */
    rig_submit(&r, 3, 40, 8);  /* waits */
    rig_failed(&r, P1, MSG_PREFILL_FAILED, (struct stream_id){7000, 1}, true);
    assert_int_equal(router_core_queued(r.core), 2);
    rig_wait(&r, 100, (uint64_t[]){P1, D1, 0});
    assert_int_equal(router_core_queued(r.core), 1);
    rig_reserved(&r, D1, (struct stream_id){7000, 2});
    assert_non_null(rig_sent(&r, P1, MSG_PREFILL_JOB));
    rig_fini(&r);
}

static void test_large_request_waits_at_the_head(void **state)
{
    struct rig r;
    struct msg small = rig_registration(D1);

    (void)state;
    rig_init(&r);
    small.u.reg.pages_total = 16; /* 512 tokens */
    rig_register(&r, P1);
    rig_msg(&r, D1, small);
    rig_submit(&r, 1, 40, 24);   /* 2 pages */
    rig_submit(&r, 2, 480, 32);  /* all 16 */
    rig_submit(&r, 3, 10, 4);    /* would fit now */
    assert_int_equal(router_core_queued(r.core), 2);
    rig_cancel(&r, 1);
    assert_int_equal(rig_sent(&r, D1, MSG_RESERVE)->u.reserve.id.request, 7001);
    assert_int_equal(router_core_queued(r.core), 1);
    rig_fini(&r);
}

static void test_queue_deadline(void **state)
{
    const uint64_t beating[] = {P1, D1, 0};
    struct rig r;

    (void)state;
    rig_pair(&r);
    for (uint64_t c = 1; c <= 3; c++) {
        rig_submit(&r, c, 40, 8);
        rig_reserved(&r, D1, (struct stream_id){7000 + c - 1, 1});
        if (c < 3)
            rig_first(&r, P1, (struct stream_id){7000 + c - 1, 1}, 0, 500, FINISH_NONE);
    }
    rig_wait(&r, 9980, beating);
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
    rig_wait(&r, 40, beating);
    check_failed(&r, 3, 503, true, "10000 ms");
    assert_int_equal(router_core_counters(r.core)->expired, 1);
    assert_int_equal(router_core_running(r.core), 2);
    rig_fini(&r);
}

static void test_without_nodes_refused_at_once(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r);
    assert_false(router_core_ready(r.core));
    rig_submit(&r, 1, 40, 8);
    check_failed(&r, 1, 503, true, "0 prefill and 0 decode");
    rig_register(&r, P1);
    rig_submit(&r, 1, 40, 8);
    check_failed(&r, 1, 503, true, "1 prefill and 0 decode");
    rig_register(&r, D1);
    assert_true(router_core_ready(r.core));
    rig_submit(&r, 1, 40, 8);
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0);
    rig_fini(&r);
}

static void test_context_overflow_names_the_numbers(void **state)
{
    struct rig r;

    (void)state;
    rig_pair(&r);
    rig_submit(&r, 1, 500, 12);
    assert_int_equal(rig_count(&r, ROUTER_FAIL), 0); /* exactly 512 */
    rig_submit(&r, 2, 500, 13);
    check_failed(&r, 2, 400, false, "500 tokens and max_tokens is 13, together 513");
    check_failed(&r, 2, 400, false, "512");
    rig_submit(&r, 2, 500, UINT32_MAX); /* the sum does not wrap */
    check_failed(&r, 2, 400, false, "4294967795");
    rig_submit(&r, 2, 512, 1); /* 1 is what is left of a max_tokens that nobody said */
    check_failed(&r, 2, 400, false, "the prompt has 512 tokens, and the context holds 512, of which the answer "
                 "needs at least 1: shorten the prompt");
    rig_fini(&r);
}

static void test_context_is_what_some_pair_can_hold(void **state)
{
    struct rig r;
    struct msg m = rig_registration(D1);

    (void)state;
    rig_init(&r);
    assert_int_equal(router_core_ctx(r.core), 512);
    rig_register(&r, P1);
    m.u.reg.pages_total = 4;
    rig_msg(&r, D1, m);
    assert_int_equal(router_core_ctx(r.core), 128);
    m = rig_registration(D2);
    m.u.reg.ctx_max = 256;
    rig_msg(&r, D2, m);
    assert_int_equal(router_core_ctx(r.core), 256);
    rig_submit(&r, 1, 200, 8);
    assert_non_null(rig_sent(&r, D2, MSG_RESERVE)); /* D1 is too small */
    rig_fini(&r);
}

static void test_load_spreads_over_decode_nodes(void **state)
{
    struct rig r;

    (void)state;
    rig_pair(&r);
    rig_register(&r, D2);
    rig_submit(&r, 1, 40, 8);
    assert_non_null(rig_sent(&r, D1, MSG_RESERVE));
    rig_submit(&r, 2, 40, 8);
    assert_non_null(rig_sent(&r, D2, MSG_RESERVE));
    rig_fini(&r);
}

/* Of which node the role is not to be changed. */
static void test_the_only_node_of_a_role_is_needed(void **state)
{
    struct router_config config = rig_config();
    struct rig r;

    (void)state;
    rig_pair(&r);
    assert_true(router_core_needs(r.core, router_core_node_named(r.core, "prefill-1")));
    assert_true(router_core_needs(r.core, router_core_node_named(r.core, "decode-1")));
    rig_register(&r, P2);
    rig_register(&r, D2);
    assert_false(router_core_needs(r.core, router_core_node_named(r.core, "prefill-1")));
    assert_false(router_core_needs(r.core, router_core_node_named(r.core, "decode-1")));
    rig_fini(&r);

    config.mode = ROUTER_AUTO;
    rig_init_with(&r, &config);
    rig_register(&r, P1);
    rig_register(&r, D1);
    assert_false(router_core_needs(r.core, router_core_node_named(r.core, "prefill-1"))); /* D1 would do */
    assert_true(router_core_needs(r.core, router_core_node_named(r.core, "decode-1")));
    rig_fini(&r);
}

/* Both are of one machine, and the second measured itself beside others: a fifth. */
static void spread_of_a_bad_measurement(const char *host, bool shared)
{
    struct rig r;

    rig_init(&r);
    rig_register(&r, P1);
    for (uint64_t node = D1; node <= D2; node++) {
        struct msg m = rig_registration(node);

        snprintf(m.u.reg.host, sizeof(m.u.reg.host), "%s", host);
        m.u.reg.cores = 2;
        if (node == D2)
            m.u.reg.read_bytes_s /= 5;
        rig_msg(&r, node, m);
    }
    rig_submit(&r, 1, 64, 64);
    assert_non_null(rig_sent(&r, D1, MSG_RESERVE));
    rig_submit(&r, 2, 64, 64);
    assert_int_equal(rig_sent(&r, D2, MSG_RESERVE) != NULL, shared);
    rig_fini(&r);
}

static void test_a_bad_measurement_of_a_node_does_not_starve_it(void **state)
{
    (void)state;
    spread_of_a_bad_measurement("h1", true);
    spread_of_a_bad_measurement("", false); /* two machines: that one may well be slow */
}

static void test_retry_after_grows_with_the_queue(void **state)
{
    struct rig r;
    uint32_t ms;

    (void)state;
    rig_pair(&r);
    for (uint64_t c = 1; c <= 20; c++) { /* streams of a minute each teach it the pace */
        rig_submit(&r, c, 4, 4);
        r.now += 60 * CLOCK_S;
        rig_cancel(&r, c);
    }
    for (uint64_t c = 31; c <= 36; c++)
        rig_submit(&r, c, 4, 4);
    rig_submit(&r, 37, 4, 4);
    ms = check_failed(&r, 37, 503, true, "queue_max")->retry_after_ms;
    assert_int_equal(ms, 60000); /* 5 waiting, 2 running, a minute each: the most we ask for */
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_walks_every_state),
        cmocka_unit_test(test_first_token_may_be_the_last),
        cmocka_unit_test(test_first_token_that_stops_is_not_part_of_the_stream),
        cmocka_unit_test(test_tokens_that_overtake_the_first_wait),
        cmocka_unit_test(test_whole_stream_may_overtake_the_first),
        cmocka_unit_test(test_each_index_is_delivered_once),
        cmocka_unit_test(test_gap_or_surplus_restarts_by_epoch),
        cmocka_unit_test(test_foreign_token_ids_restart),
        cmocka_unit_test(test_decode_node_dies_at_each_state),
        cmocka_unit_test(test_prefill_node_dies_at_each_state),
        cmocka_unit_test(test_silent_node_is_given_up),
        cmocka_unit_test(test_bye_restarts_at_once),
        cmocka_unit_test(test_failure_with_retry_restarts_elsewhere),
        cmocka_unit_test(test_failure_without_retry_fails_the_request),
        cmocka_unit_test(test_fourth_failure_ends_the_request),
        cmocka_unit_test(test_an_attempt_that_brought_tokens_is_not_held_against_the_request),
        cmocka_unit_test(test_want_of_pages_is_not_held_against_a_request),
        cmocka_unit_test(test_refused_reservation_goes_elsewhere_or_back),
        cmocka_unit_test(test_unanswered_reservation_is_tried_again),
        cmocka_unit_test(test_stale_epochs_are_dropped_and_counted),
        cmocka_unit_test(test_another_node_cannot_speak_for_a_stream),
        cmocka_unit_test(test_cancel_at_each_state_frees_both_nodes),
        cmocka_unit_test(test_a_client_that_goes_away_cancels_at_both_nodes_in_the_same_step),
        cmocka_unit_test(test_queue_is_bounded_and_in_order),
        cmocka_unit_test(test_restarted_request_is_before_newer_ones),
        cmocka_unit_test(test_large_request_waits_at_the_head),
        cmocka_unit_test(test_queue_deadline),
        cmocka_unit_test(test_without_nodes_refused_at_once),
        cmocka_unit_test(test_context_overflow_names_the_numbers),
        cmocka_unit_test(test_context_is_what_some_pair_can_hold),
        cmocka_unit_test(test_load_spreads_over_decode_nodes),
        cmocka_unit_test(test_the_only_node_of_a_role_is_needed),
        cmocka_unit_test(test_a_bad_measurement_of_a_node_does_not_starve_it),
        cmocka_unit_test(test_retry_after_grows_with_the_queue),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
