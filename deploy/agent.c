#include "deploy/agent.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "daemon/options.h"
#include "deploy/agent_priv.h"
#include "deploy/api.h"
#include "deploy/child.h"
#include "deploy/control.h"
#include "deploy/doctor.h"
#include "host/topo.h"
#include "net/http.h"

void agent_reply(struct agent *a, json_t *fields)
{
    json_object_set_new(fields, "re", json_string(a->op));
    wire_put(&a->out, fields);
}

void agent_fail(struct agent *a, const struct err *e)
{
    agent_reply(a, json_pack("{s:s, s:i}", "error", e->text, "code", e->code));
}

void agent_event(struct agent *a, json_t *event) { wire_put(&a->out, event); }

bool agent_cluster(struct agent *a, struct rundir *d, const json_t *request)
{
    const char *name = api_text(request, "cluster"), *wrong = options_name_wrong(name);
    struct err e = {0};

    if (wrong)
        err_set(&e, ERR_ARG, "cluster: \"%.80s\" %s", name, wrong);
    else
        rundir_locate(d, name, &e);
    if (e.code)
        agent_fail(a, &e);
    return !e.code;
}

/* Bytes that new processes may take without swapping; 0: the system does not say. */
static json_int_t hello_memory(void)
{
    unsigned long long kib = 0;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "re");

    while (f && fgets(line, sizeof(line), f))
        if (!strncmp(line, "MemAvailable:", 13))
            kib = strtoull(line + 13, NULL, 10);
    if (f)
        fclose(f);
    return (json_int_t)(kib * 1024);
}

static void agent_op_hello(struct agent *a, const json_t *request)
{
    json_int_t protocol = api_number(request, "protocol");
    struct str xml = {0};
    struct rundir d;
    struct err e = {0};
    json_t *reply;
    pid_t pid;

    if (protocol != WIRE_PROTOCOL) {
        err_set(&e, ERR_PEER, "tandem " TANDEM_VERSION " there speaks protocol %d, here it is %lld",
                WIRE_PROTOCOL, (long long)protocol);
        agent_fail(a, &e);
        return;
    }
    if (!agent_cluster(a, &d, request))
        return;
    if (json_is_true(json_object_get(request, "topology")) && topo_export(&xml, &e)) {
        agent_fail(a, &e);
        return;
    }
    reply = json_pack("{s:s, s:s}", "version", TANDEM_VERSION, "run_dir", d.path);
    if (xml.len)
        json_object_set_new(reply, "topology", json_string(str_text(&xml)));
    json_object_set_new(reply, "running", json_boolean(rundir_running(&d, &pid)));
    json_object_set_new(reply, "available", json_integer(hello_memory()));
    agent_reply(a, reply);
    str_fini(&xml);
}

/* Why a process is dead, just now. */
static void list_last_words(const json_t *list, const struct rundir *d)
{
    size_t i;
    json_t *p;

    json_array_foreach (json_object_get(list, "processes"), i, p) {
        struct str last = {0};

        if (api_number(p, "pid") || json_is_true(json_object_get(p, "stopping")))
            continue;
        child_last_words(api_text(p, "name"), d->path, &last);
        json_object_set_new(p, "last", json_string(str_text(&last)));
        str_fini(&last);
    }
}

/* list, add, remove, replace: the supervisor's own. */
static void agent_op_control(struct agent *a, const json_t *request)
{
    json_t *copy, *reply;
    struct rundir d;
    struct err e = {0};

    if (!agent_cluster(a, &d, request))
        return;
    copy = json_copy((json_t *)(uintptr_t)request); /* shallow: it only counts references */
    json_object_del(copy, "cluster");
    if (control_ask(&reply, &d, copy, &e))
        agent_fail(a, &e);
    else {
        if (!strcmp(a->op, "list"))
            list_last_words(reply, &d);
        agent_reply(a, reply);
    }
}

static void agent_op_http(struct agent *a, const json_t *request)
{
    const json_t *body = json_object_get(request, "body");
    const char *key = json_string_value(json_object_get(request, "key"));
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    struct str url = {0}, got = {0};
    struct err e = {0};
    int status = 0;

    str_addf(&url, "http://%s", api_text(request, "http"));
    if (key)
        setenv("TANDEM_API_KEY", key, 1); // NOLINT(concurrency-mt-unsafe)
    if (http_fetch(&status, &got, api_text(request, "method"), str_text(&url),
                   api_text(request, "path"), text, API_TIMEOUT_MS, &e))
        agent_fail(a, &e);
    else
        agent_reply(a, json_pack("{s:i, s:o?}", "status", status, "body",
                                 json_loadb(str_text(&got), got.len, JSON_DECODE_ANY, NULL)));
    if (key) /* not for what we start */
        unsetenv("TANDEM_API_KEY"); // NOLINT(concurrency-mt-unsafe)
    str_fini(&got);
    str_fini(&url);
    free(text); /* jansson's own */
}

/* The first address of host:port that answers; -1: none. */
static int connect_to(const char *address, struct err *e)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    const char *colon = strrchr(address, ':');
    struct addrinfo *list = NULL;
    bool brackets = address[0] == '[' && colon && colon > address && colon[-1] == ']';
    char *host;
    int fd = -1;

    if (!colon) {
        err_set(e, ERR_ARG, "\"%.80s\" is not host:port", address);
        return -1;
    }
    host = mem_strndup(address + brackets, (size_t)(colon - address) - 2 * brackets);
    errno = 0;
    if (getaddrinfo(host, colon + 1, &hints, &list))
        list = NULL;
    for (const struct addrinfo *at = list; at && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen)) {
            close(fd);
            fd = -1;
        }
    }
    if (list)
        freeaddrinfo(list);
    mem_free(host);
    if (fd < 0)
        err_set(e, ERR_NET, "nobody answers at %.80s: %s", address, strerror(errno));
    return fd;
}

static void agent_op_connect(struct agent *a, const json_t *request)
{
    struct err e = {0};

    a->relay_fd = connect_to(api_text(request, "http"), &e);
    if (a->relay_fd < 0)
        agent_fail(a, &e);
    else
        agent_reply(a, json_object());
}

static void agent_op_doctor(struct agent *a, const json_t *request)
{
    agent_reply(a, doctor_run("", json_object_get(request, "want")));
}

static void agent_op_clock(struct agent *a, const json_t *request)
{
    (void)request;
    agent_reply(a, json_pack("{s:f}", "time_s", doctor_wall_s()));
}

static void agent_op_ping(struct agent *a, const json_t *request)
{
    (void)request;
    agent_reply(a, json_object());
}

static const struct agent_op {
    const char *name;
    void (*run)(struct agent *a, const json_t *request);
} agent_ops[] = {
    {"hello", agent_op_hello},     {"model", agent_op_model},   {"receive", agent_op_receive},
    {"start", agent_op_start},     {"detach", agent_op_detach}, {"write", agent_op_write},
    {"list", agent_op_control},    {"add", agent_op_control},   {"remove", agent_op_control},
    {"replace", agent_op_control}, {"stop", agent_op_stop},     {"tail", agent_op_tail},
    {"http", agent_op_http},       {"connect", agent_op_connect}, {"doctor", agent_op_doctor},
    {"clock", agent_op_clock},     {"ping", agent_op_ping},
};

static void agent_request(struct agent *a, const json_t *request)
{
    const char *op = api_text(request, "op");
    struct err e = {0};

    snprintf(a->op, sizeof(a->op), "%.15s", op);
    for (size_t i = 0; i < ARRAY_LEN(agent_ops); i++)
        if (!strcmp(agent_ops[i].name, op)) {
            agent_ops[i].run(a, request);
            return;
        }
    err_set(&e, ERR_ARG, "op: \"%.40s\" is none that the agent knows", op);
    agent_fail(a, &e);
}

/* Something is under way that has to end before the next request. */
static bool agent_busy(const struct agent *a)
{
    return a->hashing || a->n_tails || a->relay_fd >= 0 || a->ended ||
           a->out.len > AGENT_OUTPUT_MAX;
}

static bool agent_take(struct agent *a)
{
    struct wire_item item = wire_next(&a->in);
    struct err e = {0};

    switch (item.kind) {
    case WIRE_NOTHING:
        return false;
    case WIRE_OBJECT:
        agent_request(a, item.object);
        json_decref(item.object);
        return true;
    case WIRE_BYTES:
        agent_received(a, item.data, item.n);
        return true;
    case WIRE_BROKEN:
    case WIRE_FLOOD:
        break;
    }
    a->op[0] = '\0';
    a->ended = item.kind == WIRE_FLOOD;
    err_set(&e, ERR_FORMAT, a->ended ? "a line of more than %u bytes" : "a line is not a JSON object",
            WIRE_LINE_MAX);
    agent_fail(a, &e);
    return !a->ended;
}

int64_t agent_work(struct agent *a, int64_t now)
{
    int64_t next = INT64_MAX, tail;

    while (!agent_busy(a) && agent_take(a))
        ;
    if ((a->hashing && agent_hash(a, now)) || (!agent_busy(a) && a->in.in.len > a->in.at))
        next = now; /* more of it, or what waited for it */
    tail = agent_tail_on(a, now);
    next = tail < next ? tail : next;
    if (a->attached) {
        int64_t watch = agent_watch(a, now);

        next = watch < next ? watch : next;
    }
    return next;
}

struct agent *agent_new(void)
{
    struct agent *a = mem_zalloc(sizeof(*a));

    a->relay_fd = a->receive.fd = -1;
    return a;
}

void agent_free(struct agent **agent)
{
    struct agent *a = *agent;

    if (!a)
        return;
    agent_leave(a);
    agent_receive_end(a);
    agent_tail_end(a);
    model_file_close(&a->hashing);
    if (a->relay_fd >= 0)
        close(a->relay_fd);
    wire_fini(&a->in);
    str_fini(&a->out);
    mem_free(a);
    *agent = NULL;
}

void agent_feed(struct agent *a, const void *bytes, size_t n)
{
    wire_feed(&a->in, bytes, n);
    a->heard = true;
}

struct str *agent_output(struct agent *a) { return &a->out; }

int agent_fd(const struct agent *a) { return a->attached && !a->told_failed ? a->supervisor.fd : -1; }

bool agent_ended(const struct agent *a) { return a->ended; }

int agent_relay(const struct agent *a) { return a->relay_fd; }

const char *agent_rest(const struct agent *a, size_t *n) { return wire_rest(&a->in, n); }
