#include "deploy/change.h"

#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "deploy/api.h"

#define CHANGE_POLL (100 * CLOCK_MS)

const char *change_argument(const json_t *argv, const char *key)
{
    size_t n = strlen(key);

    for (size_t i = 1; i < json_array_size(argv); i++) {
        const char *arg = json_string_value(json_array_get(argv, i));

        if (arg && !strncmp(arg, "--", 2) && !strncmp(arg + 2, key, n) && arg[2 + n] == '=')
            return arg + 2 + n + 1;
    }
    return NULL;
}

/* What the process was started as. */
static enum place_kind change_kind(const json_t *argv)
{
    const char *path = json_string_value(json_array_get(argv, 0));
    const char *file = path ? strrchr(path, '/') : NULL;

    if (file && !strcmp(file, "/tandem-prefill"))
        return PLACE_PREFILL;
    return file && !strcmp(file, "/tandem-decode") ? PLACE_DECODE : PLACE_ROUTER;
}

static void change_forget(struct change *c)
{
    for (size_t i = 0; i < c->fleet->n; i++) {
        json_decref(c->lists[i]);
        c->lists[i] = NULL;
    }
    c->n = 0;
}

int change_init(struct change *c, struct fleet *fleet, const char *http, uint32_t patience_s,
                struct err *e)
{
    *c = (struct change){.fleet = fleet, .http = http, .patience = patience_s * CLOCK_S};
    c->runs = mem_calloc(fleet->n, sizeof(*c->runs));
    c->lists = mem_calloc(fleet->n, sizeof(json_t *));
    for (size_t i = 0; i < fleet->n; i++)
        c->runs[i] = fleet_running(fleet, i);
    return change_look(c, e);
}

void change_fini(struct change *c)
{
    if (c->lists)
        change_forget(c);
    mem_free(c->lists);
    mem_free(c->runs);
    mem_free(c->nodes);
    *c = (struct change){0};
}

/* A node may have changed its role since it was started: the router knows. */
static void change_roles(struct change *c)
{
    json_t *reply;

    if (fleet_http(c->fleet, c->http, "GET", "/v1/cluster", NULL, &reply, NULL))
        return;
    for (size_t i = 0; i < c->n; i++) {
        const json_t *node = api_node(reply, c->nodes[i].name);

        if (node)
            c->nodes[i].kind = !strcmp(api_text(node, "role"), "prefill") ? PLACE_PREFILL : PLACE_DECODE;
    }
    json_decref(reply);
}

static void change_list(struct change *c, uint32_t host)
{
    const json_t *list = json_object_get(c->lists[host], "processes");
    size_t n = json_array_size(list);

    c->nodes = mem_realloc(c->nodes, (c->n + n) * sizeof(*c->nodes));
    for (size_t i = 0; i < n; i++) {
        const json_t *process = json_array_get(list, i);
        const json_t *argv = json_object_get(process, "argv");

        c->nodes[c->n++] = (struct change_node){.name = api_text(process, "name"),
                                                .argv = argv,
                                                .last = api_text(process, "last"),
                                                .stopping =
                                                    json_is_true(json_object_get(process, "stopping")),
                                                .host = host,
                                                .kind = change_kind(argv)};
    }
}

int change_look(struct change *c, struct err *e)
{
    struct fleet *f = c->fleet;
    int rc;

    change_forget(c);
    for (size_t i = 0; i < f->n; i++)
        if (c->runs[i])
            fleet_ask_list(f, i);
    rc = fleet_wait(f, e);
    for (uint32_t i = 0; i < f->n && !rc; i++) {
        struct remote *r = &f->remotes[i];

        if (!c->runs[i])
            continue;
        if (!r->reply) {
            *e = r->e;
            rc = fleet_wrap(f, i, e);
            break;
        }
        c->lists[i] = r->reply;
        r->reply = NULL;
        change_list(c, i);
    }
    if (!rc)
        change_roles(c);
    return rc;
}

size_t change_find(const struct change *c, const char *name)
{
    size_t i = 0;

    while (i < c->n && strcmp(c->nodes[i].name, name) != 0)
        i++;
    return i;
}

static void change_pause(void)
{
    const struct timespec t = {.tv_nsec = CHANGE_POLL};

    nanosleep(&t, NULL);
}

/* The node as the router knows it: -1 unknown, else what it has to do. *ready: it takes work. */
static json_int_t change_load(struct change *c, const char *name, bool *ready)
{
    json_t *reply;
    const json_t *node;
    json_int_t load;

    *ready = false;
    if (fleet_http(c->fleet, c->http, "GET", "/v1/cluster", NULL, &reply, NULL))
        return 0; /* busy: not gone */
    node = api_node(reply, name);
    load = node ? api_number(node, "queued") + api_number(node, "running") : -1;
    *ready = !strcmp(api_text(node, "state"), "ready");
    json_decref(reply);
    return load;
}

static int change_take(struct change *c, uint32_t host, const char *name, bool stop, struct err *e)
{
    json_t *reply;
    int rc = fleet_ask(c->fleet, host, json_pack("{s:s, s:s, s:s, s:b}", "op", "remove", "cluster",
                                                 c->fleet->cluster, "name", name, "stop", stop),
                       &reply, e);

    json_decref(reply);
    return rc;
}

/* Until the router has the process as ready, or it is dead, or too late. */
static int change_await(struct change *c, const char *name, struct err *e)
{
    int64_t until = clock_now() + c->patience;
    bool ready = false;
    int rc = 0;

    while (!rc) {
        size_t i;

        change_load(c, name, &ready);
        if (ready)
            return 0;
        change_pause();
        rc = change_look(c, e);
        i = change_find(c, name);
        if (!rc && i < c->n && *c->nodes[i].last)
            rc = err_set(e, ERR_PEER, "%s ended at start: %s", name, c->nodes[i].last);
        else if (!rc && clock_now() >= until)
            rc = err_set(e, ERR_TIMEOUT, "%s did not come up within %.0f s", name,
                         clock_s(c->patience));
        if (rc && i < c->n)
            fleet_wrap(c->fleet, c->nodes[i].host, e);
    }
    return rc;
}

int change_add(struct change *c, uint32_t host, const char *name, json_t *argv, struct err *e)
{
    char *own = mem_strdup(name); /* it may be one of the list's */
    struct err ignored = {0};
    json_t *reply;
    int rc = fleet_ask(c->fleet, host, json_pack("{s:s, s:s, s:s, s:o}", "op", "add", "cluster",
                                                 c->fleet->cluster, "name", own, "argv", argv),
                       &reply, e);

    json_decref(reply);
    if (!rc) {
        rc = change_await(c, own, e);
        if (rc)
            change_take(c, host, own, true, &ignored);
    }
    mem_free(own);
    return rc ? rc : change_look(c, e);
}

int change_remove(struct change *c, const char *name, struct err *e)
{
    int64_t until = clock_now() + c->patience;
    size_t i = change_find(c, name);
    char *own = mem_strdup(name);
    bool ready, told = false;
    json_t *reply;
    uint32_t host;
    int rc;

    ASSERT(i < c->n);
    host = c->nodes[i].host;
    rc = change_take(c, host, own, false, e);
    if (!rc && change_load(c, own, &ready) >= 0) {
        rc = fleet_http(c->fleet, c->http, "POST", "/tandem/drain", json_pack("{s:s}", "node", own),
                        &reply, e);
        json_decref(reply);
        if (rc)
            err_wrap(e, "%s", own);
    }
    while (!rc && change_find(c, own) < c->n) {
        if (!told && change_load(c, own, &ready) <= 0) { /* idle, or it has said BYE */
            rc = change_take(c, host, own, true, e);
            if (rc == ERR_PEER) /* it ended meanwhile */
                rc = 0;
            told = true;
        }
        if (!rc && clock_now() >= until) {
            rc = err_set(e, ERR_TIMEOUT, "%s is still busy after %.0f s; it goes on draining", own,
                         clock_s(c->patience));
            break;
        }
        change_pause();
        if (!rc)
            rc = change_look(c, e);
    }
    mem_free(own);
    return rc;
}

int change_settle(struct change *c, struct err *e)
{
    int64_t until = clock_now() + c->patience;
    bool ready;

    for (size_t i = 0; i < c->n; i++)
        while (change_kind(c->nodes[i].argv) != PLACE_ROUTER) {
            change_load(c, c->nodes[i].name, &ready);
            if (ready)
                break;
            if (clock_now() >= until)
                return err_set(e, ERR_TIMEOUT, "%s is not ready after %.0f s", c->nodes[i].name,
                               clock_s(c->patience));
            change_pause();
        }
    return 0;
}

/* Has the router's supervisor start it as argv says, and waits until it answers. Takes argv. */
static int router_replace(struct change *c, json_t *argv, struct err *e)
{
    int64_t until = clock_now() + c->patience;
    json_t *reply;
    bool ready = false;
    int rc = fleet_ask(c->fleet, 0, json_pack("{s:s, s:s, s:s, s:o}", "op", "replace", "cluster",
                                              c->fleet->cluster, "name", "router", "argv", argv),
                       &reply, e);

    json_decref(reply);
    while (!rc && !ready) {
        size_t i;

        change_pause();
        rc = change_look(c, e);
        i = change_find(c, "router");
        if (!rc && i < c->n && *c->nodes[i].last)
            rc = err_set(e, ERR_PEER, "router ended at start: %s", c->nodes[i].last);
        else if (!rc && i < c->n && !c->nodes[i].stopping &&
                 !fleet_http(c->fleet, c->http, "GET", "/v1/cluster", NULL, &reply, NULL)) {
            ready = true; /* whether it has nodes is another question: they may have to be changed */
            json_decref(reply);
        }
        if (!rc && !ready && clock_now() >= until)
            rc = err_set(e, ERR_TIMEOUT, "the router does not answer after %.0f s",
                         clock_s(c->patience));
    }
    return rc;
}

int change_router(struct change *c, json_t *argv, const char *http, struct err *e)
{
    const char *http_before = c->http;
    size_t i = change_find(c, "router");
    json_t *before = i < c->n ? json_deep_copy(c->nodes[i].argv) : NULL;
    struct err ignored = {0};
    int rc;

    c->http = http;
    rc = router_replace(c, argv, e);
    if (rc && before) {
        c->http = http_before;
        router_replace(c, before, &ignored);
        return fleet_wrap(c->fleet, 0, e);
    }
    json_decref(before);
    return rc;
}
