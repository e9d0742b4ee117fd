/* The whole router process, its clients and nodes played by the test over real sockets: what each
 * side sees on the wire, at every stage of a request. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "kv/kv_layout.h"
#include "net/sock.h"
#include "router/router.h"

#define MODEL "deploy/demo/austen-5m-q8_0.gguf"
#define LIMIT (20 * CLOCK_S) /* only to end a test that would hang */

struct rig {
    char dir[64], nodes[96], clients[96];
    uint16_t port;
    pid_t pid; /* of the router; 0: has ended */
    struct model model;
    struct sock_ctx *ctx;
    struct sock *p, *d, *d2; /* nodes */
    struct sock *c;          /* a client */
};

static uint16_t free_port(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    close(fd);
    return ntohs(sa.sin_port);
}

/* The router in a process of its own; it beats so rarely that no beat disturbs the dialogue. */
static void router_start(struct rig *r)
{
    char http[32];
    struct router_options o = {
        .common = {.cluster = (char *)"test", .name = (char *)"router", .model = (char *)MODEL},
        .http = http, .nodes = r->nodes, .clients = r->clients,
        .mode = ROUTER_DISAGGREGATED, .queue_max = 1, .queue_deadline_ms = 30000, .heartbeat_ms = 20000, .dead_ms = 60000,
        .chat_template = (char *)"auto", .api_keys = (char *)""};
    struct err e = {0};
    int rc;

    snprintf(http, sizeof(http), "127.0.0.1:%u", r->port);
    fflush(stdout);
    r->pid = fork();
    assert_true(r->pid >= 0);
    if (r->pid)
        return;
    log_init("router", LOG_ERROR);
    rc = router_run(&o, &e);
    if (rc)
        fprintf(stderr, "%s\n", e.text);
    model_close(&r->model); /* the parent's copy, for the leak checker */
    mem_free(r);
    exit(rc ? 1 : 0);
}

static int rig_setup(void **state)
{
    struct rig *r = mem_zalloc(sizeof(*r));
    struct err e;

    strcpy(r->dir, "/tmp/tandem-test-router.XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    snprintf(r->nodes, sizeof(r->nodes), "ipc://%s/nodes", r->dir);
    snprintf(r->clients, sizeof(r->clients), "ipc://%s/clients", r->dir);
    r->port = free_port();
    if (model_open(&r->model, MODEL, "auto", &e) != 0)
        fail_msg("%s", e.text);
    router_start(r);
    r->ctx = sock_ctx_new();
    *state = r;
    return 0;
}

static int router_stop(struct rig *r, int signo)
{
    int status = -1;

    if (!r->pid)
        return 0;
    kill(r->pid, signo);
    waitpid(r->pid, &status, 0);
    r->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int rig_teardown(void **state)
{
    struct rig *r = *state;
    char path[128];
    int code;

    sock_close(&r->p);
    sock_close(&r->d);
    sock_close(&r->d2);
    sock_close(&r->c);
    code = router_stop(r, SIGTERM);
    sock_ctx_free(&r->ctx);
    snprintf(path, sizeof(path), "%s/nodes", r->dir);
    unlink(path);
    snprintf(path, sizeof(path), "%s/clients", r->dir);
    unlink(path);
    rmdir(r->dir);
    model_close(&r->model);
    mem_free(r);
    return code;
}

static void pause_ms(long ms)
{
    struct timespec ts = {.tv_nsec = ms * 1000000};

    nanosleep(&ts, NULL);
}

/* A DEALER's first message waits for its connection. Takes m. */
static void tell(struct sock *s, struct msg m)
{
    int64_t limit = clock_now() + LIMIT;
    struct err e = {0};

    while (sock_send(s, NULL, &m, &e) != 0) {
        if (clock_now() > limit)
            fail_msg("%s", e.text);
        pause_ms(1);
    }
}

/* The next message that is no heartbeat; the caller's. */
static struct msg hear(struct sock *s, enum msg_type type)
{
    int64_t limit = clock_now() + LIMIT;
    struct msg m;
    struct err e;

    while (clock_now() < limit) {
        if (sock_recv(s, NULL, &m, &e) <= 0) {
            pause_ms(1);
            continue;
        }
        if (m.type == type)
            return m;
        if (m.type != MSG_HEARTBEAT)
            fail_msg("%s instead of %s", msg_type_name(m.type), msg_type_name(type));
    }
    fail_msg("no %s came", msg_type_name(type));
    return m;
}

static void hear_only(struct sock *s, enum msg_type type)
{
    struct msg m = hear(s, type);

    msg_fini(&m);
}

static struct msg registration(const struct rig *r, enum node_role role, const char *name)
{
    const struct hparams *h = &r->model.hparams;
    struct msg m = {.type = MSG_REGISTER};

    m.u.reg = (struct msg_register){
        .protocol = MSG_PROTOCOL, .role = role, .cluster = "test", .tier = "ref", .boot = 7,
        .model_hash = r->model.hash,
        .geometry = {h->n_layer, h->n_head_kv, h->head_dim, KV_PAGE_TOKENS, 0},
        .ctx_max = h->n_ctx, .slots = 1, .pages_total = role == ROLE_DECODE ? 64 : 0};
    snprintf(m.u.reg.name, sizeof(m.u.reg.name), "%s", name);
    if (role == ROLE_DECODE)
        snprintf(m.u.reg.kv_endpoint, sizeof(m.u.reg.kv_endpoint), "ipc:///nowhere/%s", name);
    return m;
}

static struct sock *node_start(struct rig *r, enum node_role role, const char *name)
{
    const struct sock_options o = {.kind = SOCK_DEALER, .lane = SOCK_CONTROL, .identity = name};
    struct sock *s;
    struct err e;

    assert_int_equal(sock_open(&s, r->ctx, &o, &e), 0);
    assert_int_equal(sock_connect(s, r->nodes, &e), 0);
    tell(s, registration(r, role, name));
    hear_only(s, MSG_REGISTERED);
    return s;
}

static void pair_start(struct rig *r)
{
    r->p = node_start(r, ROLE_PREFILL, "prefill-1");
    r->d = node_start(r, ROLE_DECODE, "decode-1");
}

/* Sends a request; the connection is the caller's. The router may still be starting. fields: further
 * header lines. */
static int http_send_with(const struct rig *r, const char *method, const char *path,
                          const char *fields, const char *body)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(r->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval patience = {.tv_sec = LIMIT / CLOCK_S};
    int64_t limit = clock_now() + LIMIT;
    struct str s = {0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    while (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0) {
        assert_true(clock_now() < limit);
        pause_ms(5);
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    str_addf(&s,
             "%s %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n%s",
             method, path, fields, strlen(body), body);
    assert_int_equal(send(fd, s.data, s.len, MSG_NOSIGNAL), s.len);
    str_fini(&s);
    return fd;
}

static int http_send(const struct rig *r, const char *method, const char *path, const char *body)
{
    return http_send_with(r, method, path, "", body);
}

/* Reads on until `until` is in what came, or the end (NULL). */
static void http_read(int fd, struct str *got, const char *until)
{
    char buf[4096];
    ssize_t n;

    while (!until || !strstr(str_text(got), until)) {
        n = recv(fd, buf, sizeof(buf), 0);
        if (n <= 0 && until)
            fail_msg("no \"%s\" in: %s", until, str_text(got));
        if (n <= 0)
            return;
        str_add(got, buf, (size_t)n);
    }
}

static void check_answer(const struct rig *r, const char *method, const char *path,
                         const char *body, const char *const parts[])
{
    struct str got = {0};
    int fd = http_send(r, method, path, body);

    http_read(fd, &got, NULL);
    for (size_t i = 0; parts[i]; i++) {
        if (!strstr(str_text(&got), parts[i]))
            fail_msg("%s %s: no \"%s\" in: %s", method, path, parts[i], str_text(&got));
    }
    str_fini(&got);
    close(fd);
}

#define PARTS(...) (const char *const[]){__VA_ARGS__, NULL}

/* Until the router says that so many requests wait. */
static void wait_queued(const struct rig *r, int n)
{
    int64_t limit = clock_now() + LIMIT;
    struct str got = {0};
    char want[32];

    snprintf(want, sizeof(want), "\"queued\":%d,\"running\"", n);
    do {
        int fd = http_send(r, "GET", "/v1/cluster", "");

        str_clear(&got);
        http_read(fd, &got, NULL);
        close(fd);
        assert_true(clock_now() < limit);
    } while (!strstr(str_text(&got), want));
    str_fini(&got);
}

#define STREAM                                                                                     \
    "{\"prompt\":[1,300,301],\"max_tokens\":4,\"stream\":true,\"seed\":9," \
    "\"return_token_ids\":true}"

static struct stream_id reserve(struct sock *d)
{
    struct msg m = hear(d, MSG_RESERVE);
    struct stream_id id = m.u.reserve.id;

    tell(d, (struct msg){.type = MSG_RESERVED, .u.reserved.id = id});
    msg_fini(&m);
    return id;
}

static void first(struct sock *p, struct stream_id id, uint32_t index, uint32_t token)
{
    struct msg m = {.type = MSG_PREFILL_TOKEN};

    m.u.first = (struct msg_prefill_token){.id = id, .index = index, .token = token};
    tell(p, m);
}

static void tokens(struct sock *d, struct stream_id id, uint32_t index, uint32_t n,
                   enum finish finish)
{
    struct msg m = {.type = MSG_TOKENS};

    m.u.tokens = (struct msg_tokens){.id = id, .index = index, .n_tokens = n, .finish = finish};
    for (uint32_t i = 0; i < n; i++)
        m.u.tokens.tokens[i] = 400 + index + i;
    tell(d, m);
}

static void test_stream_from_end_to_end(void **state)
{
    struct rig *r = *state;
    struct str got = {0};
    struct stream_id id;
    struct msg m;
    int fd;

    pair_start(r);
    fd = http_send(r, "POST", "/v1/completions", STREAM);
    m = hear(r->d, MSG_RESERVE);
    id = m.u.reserve.id;
    assert_int_equal(m.u.reserve.n_tokens, 3);
    assert_int_equal(m.u.reserve.max_new, 4);
    assert_int_equal(m.u.reserve.sampling.seed, 9);
    assert_int_equal(m.u.reserve.n_stop_tokens, r->model.n_stop_tokens);
    tell(r->d, (struct msg){.type = MSG_RESERVED, .u.reserved.id = id});
    msg_fini(&m);
    m = hear(r->p, MSG_PREFILL_JOB);
    assert_int_equal(m.u.job.tokens[2], 301);
    assert_string_equal(m.u.job.kv_endpoint, "ipc:///nowhere/decode-1");
    msg_fini(&m);
    first(r->p, id, 0, 400);
    http_read(fd, &got, "\"token_ids\":[400]"); /* before the decode node has done anything */
    assert_non_null(strstr(got.data, "Content-Type: text/event-stream\r\n"));
    tokens(r->d, id, 1, 2, FINISH_NONE);
    http_read(fd, &got, "\"token_ids\":[401,402]");
    tokens(r->d, id, 3, 1, FINISH_LENGTH);
    http_read(fd, &got, NULL);
    assert_non_null(strstr(got.data, "\"finish_reason\":\"length\""));
    assert_non_null(strstr(got.data, "data: [DONE]\n\n"));
    str_fini(&got);
    close(fd);
}

/* The client's trace goes to both nodes and back under one span of the router's; what is none begins
 * another. */
static void test_trace_is_carried(void **state)
{
    static const char *const fields[] = {
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01\r\n"};
    struct rig *r = *state;

    pair_start(r);
    for (size_t i = 0; i < 2; i++) {
        int fd = http_send_with(r, "POST", "/v1/completions", fields[i], STREAM);
        struct msg reserve = hear(r->d, MSG_RESERVE), job;
        struct stream_id id = reserve.u.reserve.id;
        struct traceparent t = reserve.u.reserve.trace;
        struct str got = {0};
        char header[TRACEPARENT_MAX + 20], text[TRACEPARENT_MAX];

        assert_true(traceparent_is(&t) && t.span && t.span != 0xb7ad6b7169203331);
        assert_true((t.id[0] == 0x0af7651916cd43dd) == (i == 0) && t.flags == (i == 0));
        tell(r->d, (struct msg){.type = MSG_RESERVED, .u.reserved.id = id});
        job = hear(r->p, MSG_PREFILL_JOB);
        assert_memory_equal(&job.u.job.trace.id, &t.id, sizeof(t.id));
        assert_true(job.u.job.trace.span == t.span && job.u.job.trace.flags == t.flags);
        first(r->p, id, 0, 400);
        tokens(r->d, id, 1, 3, FINISH_LENGTH);
        http_read(fd, &got, NULL);
        traceparent_text(text, &t);
        snprintf(header, sizeof(header), "\r\ntraceparent: %s\r\n", text);
        if (!strstr(str_text(&got), header))
            fail_msg("no \"%s\" in: %s", header, str_text(&got));
        msg_fini(&reserve);
        msg_fini(&job);
        str_fini(&got);
        close(fd);
    }
}

static void test_client_that_leaves_frees_both_nodes_at_each_stage(void **state)
{
    struct rig *r = *state;
    struct stream_id id;
    struct str got = {0};
    int fd;

    pair_start(r);
    for (int stage = 0; stage < 4; stage++) {
        fd = http_send(r, "POST", "/v1/completions", STREAM);
        if (stage == 0) {
            hear_only(r->d, MSG_RESERVE); /* unanswered */
        } else {
            id = reserve(r->d);
            hear_only(r->p, MSG_PREFILL_JOB);
        }
        if (stage >= 2) {
            first(r->p, id, 0, 400);
            http_read(fd, &got, "[400]");
        }
        if (stage == 3) {
            tokens(r->d, id, 1, 1, FINISH_NONE);
            http_read(fd, &got, "[401]");
        }
        close(fd);
        hear_only(r->d, MSG_CANCEL);
        if (stage == 1 || stage == 2)
            hear_only(r->p, MSG_CANCEL);
        str_fini(&got);
    }
}

static void test_client_that_leaves_the_queue_disturbs_nobody(void **state)
{
    struct rig *r = *state;
    struct str got = {0};
    struct stream_id id;
    int running, waiting, next;

    pair_start(r); /* one slot, and a queue of one */
    running = http_send(r, "POST", "/v1/completions", STREAM);
    id = reserve(r->d);
    hear_only(r->p, MSG_PREFILL_JOB);
    waiting = http_send(r, "POST", "/v1/completions", STREAM);
    wait_queued(r, 1);
    check_answer(r, "POST", "/v1/completions", STREAM,
                 PARTS("503 ", "queue_max is 1", "Retry-After: ", "retry-after-ms: "));
    close(waiting);
    wait_queued(r, 0);
    first(r->p, id, 0, 400);
    tokens(r->d, id, 1, 3, FINISH_LENGTH);
    http_read(running, &got, "[DONE]");
    str_fini(&got);
    close(running);
    next = http_send(r, "POST", "/v1/completions", STREAM);
    assert_int_equal(reserve(r->d).request, id.request + 2); /* not the one that left */
    close(next);
}

static void test_stop_string_ends_the_stream_and_frees_the_nodes(void **state)
{
    struct rig *r = *state;
    struct str got = {0}, piece = {0};
    struct stream_id id;
    char body[256];
    int fd;

    pair_start(r);
    vocab_piece(r->model.vocab, 401, &piece);
    snprintf(body, sizeof(body),
             "{\"prompt\":[1,300],\"max_tokens\":9,\"return_token_ids\":true,\"stop\":\"%s\"}",
             str_text(&piece));
    fd = http_send(r, "POST", "/v1/completions", body);
    id = reserve(r->d);
    hear_only(r->p, MSG_PREFILL_JOB);
    first(r->p, id, 0, 400);
    tokens(r->d, id, 1, 3, FINISH_NONE);
    hear_only(r->d, MSG_CANCEL);
    http_read(fd, &got, NULL);
    assert_non_null(strstr(got.data, "\"finish_reason\":\"stop\""));
    assert_non_null(strstr(got.data, "\"completion_tokens\":2"));
    str_fini(&got);
    str_fini(&piece);
    close(fd);
}

static void test_decode_node_that_dies_is_replaced_in_the_stream(void **state)
{
    struct rig *r = *state;
    struct str got = {0};
    struct stream_id id;
    struct msg m;
    int fd;

    pair_start(r);
    fd = http_send(r, "POST", "/v1/completions", STREAM);
    id = reserve(r->d);
    hear_only(r->p, MSG_PREFILL_JOB);
    first(r->p, id, 0, 400);
    tokens(r->d, id, 1, 1, FINISH_NONE);
    http_read(fd, &got, "[401]");
    r->d2 = node_start(r, ROLE_DECODE, "decode-2");
    tell(r->d, (struct msg){.type = MSG_BYE});
    id = reserve(r->d2);
    assert_int_equal(id.epoch, 2);
    m = hear(r->p, MSG_PREFILL_JOB);
    assert_int_equal(m.u.job.n_tokens, 5);
    assert_int_equal(m.u.job.first_index, 2);
    assert_int_equal(m.u.job.tokens[4], 401);
    msg_fini(&m);
    first(r->p, id, 2, 402);
    tokens(r->d2, id, 3, 1, FINISH_LENGTH);
    http_read(fd, &got, "[DONE]");
    assert_non_null(strstr(got.data, "[402]"));
    assert_non_null(strstr(got.data, "[403]"));
    str_fini(&got);
    close(fd);
}

static void test_failure_has_a_status_or_an_event(void **state)
{
    struct rig *r = *state;
    struct str got = {0};
    struct stream_id id;
    struct msg m = {.type = MSG_PREFILL_FAILED};
    int fd;

    pair_start(r);
    fd = http_send(r, "POST", "/v1/completions", STREAM);
    m.u.failed = (struct msg_failed){.id = reserve(r->d), .text = "the kernel ate it"};
    hear_only(r->p, MSG_PREFILL_JOB);
    tell(r->p, m);
    http_read(fd, &got, NULL); /* nothing was streamed yet: a plain answer */
    assert_non_null(strstr(got.data, "HTTP/1.1 500 "));
    assert_non_null(strstr(got.data, "x-should-retry: false\r\n"));
    assert_non_null(strstr(got.data, "the kernel ate it"));
    hear_only(r->d, MSG_CANCEL);
    str_fini(&got);
    close(fd);

    fd = http_send(r, "POST", "/v1/chat/completions",
                   "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"stream\":true}");
    id = reserve(r->d);
    hear_only(r->p, MSG_PREFILL_JOB);
    first(r->p, id, 0, 400);
    m = (struct msg){.type = MSG_DECODE_FAILED};
    m.u.failed = (struct msg_failed){.id = id, .text = "out of luck"};
    tell(r->d, m);
    http_read(fd, &got, NULL);
    assert_non_null(strstr(got.data, "\"role\":\"assistant\""));
    assert_non_null(strstr(got.data, "data: {\"error\":{\"message\":\"node decode-1: out of"));
    assert_null(strstr(got.data, "[DONE]"));
    str_fini(&got);
    close(fd);
}

static void test_node_of_another_model_is_refused(void **state)
{
    struct rig *r = *state;
    const struct sock_options o = {.kind = SOCK_DEALER, .lane = SOCK_CONTROL, .identity = "x#1"};
    struct msg m = registration(r, ROLE_PREFILL, "prefill-1");
    struct err e;

    assert_int_equal(sock_open(&r->p, r->ctx, &o, &e), 0);
    assert_int_equal(sock_connect(r->p, r->nodes, &e), 0);
    m.u.reg.model_hash++;
    tell(r->p, m);
    m = hear(r->p, MSG_REFUSED);
    assert_non_null(strstr(m.u.text.text, "the cluster's model"));
    tell(r->p, registration(r, ROLE_PREFILL, "prefill-1")); /* it may come back as what it should */
    hear_only(r->p, MSG_REGISTERED);
}

/* A router that was started again: its nodes go on beating, and register as soon as it answers. */
static void test_node_that_is_not_known_registers_again(void **state)
{
    const struct sock_options o = {.kind = SOCK_DEALER, .lane = SOCK_CONTROL, .identity = "n#1.0"};
    struct rig *r = *state;
    struct err e;
    struct msg m;

    assert_int_equal(sock_open(&r->d, r->ctx, &o, &e), 0);
    assert_int_equal(sock_connect(r->d, r->nodes, &e), 0);
    tell(r->d, (struct msg){.type = MSG_HEARTBEAT});
    m = hear(r->d, MSG_REFUSED);
    assert_string_equal(m.u.text.text, "not registered: register again");
    msg_fini(&m);
    tell(r->d, registration(r, ROLE_DECODE, "decode-1"));
    hear_only(r->d, MSG_REGISTERED);
}

static void test_native_client(void **state)
{
    struct rig *r = *state;
    const struct sock_options o = {.kind = SOCK_DEALER, .lane = SOCK_CONTROL, .identity = "c"};
    uint32_t prompt[] = {1, 300};
    struct msg m = {.type = MSG_GENERATE};
    struct stream_id id;
    struct err e;

    pair_start(r);
    assert_int_equal(sock_open(&r->c, r->ctx, &o, &e), 0);
    assert_int_equal(sock_connect(r->c, r->clients, &e), 0);
    for (uint64_t tag = 5; tag <= 6; tag++) {
        m = (struct msg){.type = MSG_GENERATE};
        m.u.generate = (struct msg_generate){.tag = tag, .n_tokens = 2, .max_tokens = 2,
                                             .sampling = {.top_p = 1}};
        m.u.generate.tokens = mem_dup(prompt, sizeof(prompt));
        tell(r->c, m);
        id = reserve(r->d);
        hear_only(r->p, MSG_PREFILL_JOB);
        m = (struct msg){.type = MSG_PREFILL_TOKEN};
        m.u.first = (struct msg_prefill_token){.id = id, .token = 400, .queue_ns = 3 * CLOCK_MS,
                                               .compute_ns = 7 * CLOCK_MS, .hit_tokens = 1};
        tell(r->p, m);
        m = hear(r->c, MSG_GENERATE_TOKENS);
        assert_int_equal(m.u.generate_tokens.tag, tag);
        assert_int_equal(m.u.generate_tokens.tokens[0], 400);
        msg_fini(&m);
        if (tag == 5) {
            tokens(r->d, id, 1, 1, FINISH_LENGTH);
            m = hear(r->c, MSG_GENERATE_TOKENS);
            assert_int_equal(m.u.generate_tokens.index, 1);
            msg_fini(&m);
        } else {
            tell(r->c, (struct msg){.type = MSG_GENERATE_CANCEL, .u.generate_cancel = tag});
            hear_only(r->d, MSG_CANCEL);
        }
        m = hear(r->c, MSG_GENERATE_DONE);
        assert_int_equal(m.u.generate_done.tag, tag);
        assert_int_equal(m.u.generate_done.finish, tag == 5 ? FINISH_LENGTH : FINISH_CANCELLED);
        assert_int_equal(m.u.generate_done.prompt_tokens, 2);
        assert_int_equal(m.u.generate_done.output_tokens, tag == 5 ? 2 : 1);
        assert_string_equal(m.u.generate_done.prefill, "prefill-1");
        assert_string_equal(m.u.generate_done.decode, "decode-1");
        assert_int_equal(m.u.generate_done.queue_ns, 3 * CLOCK_MS);
        assert_int_equal(m.u.generate_done.prefill_ns, 7 * CLOCK_MS);
        assert_int_equal(m.u.generate_done.cached_tokens, 1);
        assert_true(m.u.generate_done.ttft_ns > 0);
        assert_int_equal(m.u.generate_done.restarts, 0);
    }
}

static void test_endpoints(void **state)
{
    struct rig *r = *state;

    check_answer(r, "GET", "/health", "", PARTS("200 OK", "\"ok\"", "x-request-id: "));
    check_answer(r, "GET", "/ready", "", PARTS("503 ", "\"unavailable_error\"", "Retry-After: "));
    check_answer(r, "POST", "/v1/completions", "{\"prompt\":\"a\"}",
                 PARTS("503 ", "0 prefill and 0 decode nodes", "Retry-After: "));
    pair_start(r);
    check_answer(r, "GET", "/ready", "", PARTS("200 OK"));
    check_answer(r, "GET", "/v1/models", "", PARTS("200 OK", "\"id\":\"austen-5m-q8_0\""));
    check_answer(r, "GET", "/models/austen-5m-q8_0", "", PARTS("200 OK", "\"object\":\"model\""));
    check_answer(r, "GET", "/v1/models/gpt-5", "", PARTS("404 ", "\"model_not_found\""));
    check_answer(r, "GET", "/v1/cluster", "",
                 PARTS("200 OK", "\"name\":\"prefill-1\"", "\"state\":\"ready\"",
                       "\"pages_bad\":0,\"leases_expired\":0,\"resumed\":0"));
    check_answer(r, "GET", "/metrics", "",
                 PARTS("text/plain; version=0.0.4", "\ntandem_ready 1\n"));
    check_answer(r, "POST", "/tokenize", "{\"content\":\"It is\"}", PARTS("\"count\":2"));
    check_answer(r, "POST", "/detokenize", "{\"tokens\":[9999999]}",
                 PARTS("400 ", "9999999 is not below 2048"));
    check_answer(r, "POST", "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":2000}",
                 PARTS("400 ", "the prompt has 2 tokens and max_tokens is 2000", "holds 1024",
                       "\"context_length_exceeded\""));
    check_answer(r, "POST", "/v1/completions", "{\"prompt\":\"a\",\"model\":\"gpt-5\"}",
                 PARTS("404 ", "'gpt-5' is not served here", "austen-5m-q8_0"));
    check_answer(r, "POST", "/v1/completions", "{\"prompt\":[5000000]}",
                 PARTS("400 ", "5000000 is not below 2048"));
    check_answer(r, "POST", "/v1/completions", "{", PARTS("400 ", "not valid JSON"));
    check_answer(r, "GET", "/v1/completions", "",
                 PARTS("405 ", "Allow: POST, OPTIONS", "/v1/completions takes POST, not GET"));
    check_answer(r, "POST", "/v1/embeddings", "{}", PARTS("501 ", "\"not_supported_error\""));
    check_answer(r, "GET", "/nope", "", PARTS("404 ", "\"not_found_error\"", "/nope"));
    check_answer(r, "OPTIONS", "/v1/chat/completions", "", PARTS("204 ", "Allow: POST, OPTIONS"));
}

/* The page, whose scripts only run under its own nonce, and what it and Prometheus ask for. */
static void test_page_and_what_it_asks_for(void **state)
{
    struct rig *r = *state;
    struct str got = {0};
    const char *nonce;
    char script[64];
    int fd;

    pair_start(r);
    check_answer(r, "GET", "/", "", PARTS("200 OK", "text/html; charset=utf-8", "nosniff",
                                          "default-src 'none'; script-src 'nonce-", "<!doctype html>",
                                          "</html>"));
    fd = http_send(r, "GET", "/", "");
    http_read(fd, &got, NULL);
    close(fd);
    nonce = strstr(got.data, "script-src 'nonce-") + strlen("script-src 'nonce-");
    assert_int_equal(strspn(nonce, "0123456789abcdef"), 32);
    snprintf(script, sizeof(script), "<script nonce=\"%.32s\">", nonce);
    assert_non_null(strstr(got.data, script));
    assert_null(strstr(got.data, "@NONCE@"));
    str_fini(&got);
    check_answer(r, "GET", "/tandem/history", "", PARTS("200 OK", "\"ttft_p50\":["));
    check_answer(r, "GET", "/v1/cluster", "", PARTS("\"mbu\":0.0", "\"ttft_ms\":{\"n\":0,\"p50\":null",
                                                    "\"silent_ms\":", "\"window_s\":60"));
    check_answer(r, "GET", "/tandem/targets", "", PARTS("[{\"targets\":[\"127.0.0.1:",
                                                        "\"tandem_role\":\"router\"}}]"));
    check_answer(r, "POST", "/", "", PARTS("405"));
}

/* 1024 - 1020: the default of 16 is ours, so it is no reason to refuse. */
static void test_default_of_max_tokens_fits_the_context(void **state)
{
    struct rig *r = *state;
    struct str body = {0};
    struct msg m;
    int fd;

    pair_start(r);
    str_adds(&body, "{\"prompt\":[300");
    for (int i = 1; i < 1020; i++)
        str_adds(&body, ",300");
    str_adds(&body, "]}");
    fd = http_send(r, "POST", "/v1/completions", body.data);
    m = hear(r->d, MSG_RESERVE);
    assert_int_equal(m.u.reserve.n_tokens, 1020);
    assert_int_equal(m.u.reserve.max_new, 4);
    msg_fini(&m);
    close(fd);
    hear_only(r->d, MSG_CANCEL);
    fd = http_send(r, "POST", "/v1/completions", "{\"prompt\":[300]}");
    m = hear(r->d, MSG_RESERVE);
    assert_int_equal(m.u.reserve.max_new, 16);
    msg_fini(&m);
    close(fd);
    hear_only(r->d, MSG_CANCEL);
    str_fini(&body);
}

static void test_sigterm_ends_streams_cleanly(void **state)
{
    struct rig *r = *state;
    struct str got = {0};
    struct stream_id id;
    int fd;

    pair_start(r);
    fd = http_send(r, "POST", "/v1/completions", STREAM);
    id = reserve(r->d);
    hear_only(r->p, MSG_PREFILL_JOB);
    first(r->p, id, 0, 400);
    http_read(fd, &got, "[400]");
    tell(r->d, (struct msg){.type = MSG_BYE}); /* so that it need not wait for the stream */
    kill(r->pid, SIGTERM);
    http_read(fd, &got, NULL);
    assert_non_null(strstr(got.data, "data: {\"error\":{\"message\":\"the router is shutting"));
    assert_int_equal(router_stop(r, 0), 0);
    str_fini(&got);
    close(fd);
}

static void test_port_in_use_is_one_sentence(void **state)
{
    struct rig *r = *state;
    char http[32], want[96];
    struct router_options o = {
        .common = {.cluster = (char *)"test", .name = (char *)"router", .model = (char *)MODEL},
        .http = http, .nodes = (char *)"ipc:///nowhere/n", .clients = (char *)"ipc:///nowhere/c",
        .mode = ROUTER_DISAGGREGATED, .queue_max = 1, .queue_deadline_ms = 1, .heartbeat_ms = 10, .dead_ms = 50,
        .chat_template = (char *)"auto", .api_keys = (char *)""};
    struct err e;

    check_answer(r, "GET", "/health", "", PARTS("200")); /* it is there */
    snprintf(http, sizeof(http), "127.0.0.1:%u", r->port);
    snprintf(want, sizeof(want), "cannot listen on %s: Address already in use", http);
    assert_int_equal(router_run(&o, &e), ERR_NET);
    assert_string_equal(e.text, want);
    o.common.model = (char *)"/nowhere/model.gguf";
    assert_int_equal(router_run(&o, &e), ERR_IO);
    assert_non_null(strstr(e.text, "/nowhere/model.gguf"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_stream_from_end_to_end),
        TEST(test_trace_is_carried),
        TEST(test_client_that_leaves_frees_both_nodes_at_each_stage),
        TEST(test_client_that_leaves_the_queue_disturbs_nobody),
        TEST(test_stop_string_ends_the_stream_and_frees_the_nodes),
        TEST(test_decode_node_that_dies_is_replaced_in_the_stream),
        TEST(test_failure_has_a_status_or_an_event),
        TEST(test_node_of_another_model_is_refused),
        TEST(test_node_that_is_not_known_registers_again),
        TEST(test_native_client),
        TEST(test_endpoints),
        TEST(test_page_and_what_it_asks_for),
        TEST(test_default_of_max_tokens_fits_the_context),
        TEST(test_sigterm_ends_streams_cleanly),
        TEST(test_port_in_use_is_one_sentence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
