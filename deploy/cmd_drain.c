/* tandem drain: has a node finish what it does and leave the cluster. */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "deploy/api.h"
#include "deploy/command.h"
#include "deploy/commands.h"

struct drain_options {
    uint32_t wait_s;
};

static const struct option drain_rows[] = {
    OPTION(drain_options, wait_s, U32, .def = "0", .min = 0, .max = 86400, .unit = "S",
           .help = "return when it has left, or fail after so long; 0: return at once"),
};

static const struct option_table drain_option_table = {
    .program = "tandem drain",
    .usage = "[FILE|CLUSTER] NODE",
    .summary = "Lets a node finish its streams, gives it no new ones, and has it leave",
    .options = drain_rows,
    .n = ARRAY_LEN(drain_rows),
};

#define DRAIN_POLL_MS 100

static bool drain_gone(const json_t *reply, const char *node, json_int_t pid)
{
    const json_t *nodes = json_object_get(reply, "nodes");

    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *n = json_array_get(nodes, i);

        if (!strcmp(api_text(n, "name"), node) && api_number(n, "pid") == pid)
            return false;
    }
    return true;
}

static json_int_t drain_pid(const char *url, const char *node)
{
    json_t *reply = NULL;
    json_int_t pid = 0;

    if (api_cluster(&reply, url, NULL) == 0) {
        const json_t *nodes = json_object_get(reply, "nodes");

        for (size_t i = 0; i < json_array_size(nodes); i++) {
            if (!strcmp(api_text(json_array_get(nodes, i), "name"), node))
                pid = api_number(json_array_get(nodes, i), "pid");
        }
    }
    json_decref(reply);
    return pid;
}

/* Until that process is not in the cluster any more. */
static int drain_wait(const char *url, const char *node, json_int_t pid, uint32_t wait_s,
                      struct err *e)
{
    int64_t until = clock_now() + wait_s * CLOCK_S;
    bool gone = false;

    while (!gone) {
        json_t *reply = NULL;
        int rc = api_cluster(&reply, url, e);

        if (rc)
            return rc;
        gone = drain_gone(reply, node, pid);
        json_decref(reply);
        if (!gone && clock_now() >= until)
            return err_set(e, ERR_TIMEOUT, "node %s has not left after %u s", node, wait_s);
        if (!gone)
            poll(NULL, 0, DRAIN_POLL_MS);
    }
    printf("node %s has left\n", node);
    return 0;
}

static int drain_run(const void *options, const struct option_args *args, struct err *e)
{
    const struct drain_options *o = options;
    const char *node = args->n ? args->argv[args->n - 1] : "";
    struct target t = {0};
    json_t *reply = NULL, *body = NULL;
    json_int_t pid = 0;
    int rc;

    if (args->n < 1 || args->n > 2)
        return err_set(e, ERR_ARG, "one node at a time, got %d arguments", args->n);
    rc = target_find(&t, args->n == 2 ? args->argv[0] : NULL, e);
    if (!rc && o->wait_s)
        pid = drain_pid(t.url, node);
    if (!rc) {
        body = json_pack("{s:s}", "node", node);
        rc = body ? api_call(&reply, t.url, "POST", "/tandem/drain", body, e)
                  : err_set(e, ERR_ARG, "the node's name is not UTF-8");
    }
    if (!rc)
        printf("node %s is draining, %" JSON_INTEGER_FORMAT " streams to finish\n", node,
               api_number(reply, "running"));
    if (!rc && o->wait_s)
        rc = drain_wait(t.url, node, pid, o->wait_s, e);
    json_decref(body);
    json_decref(reply);
    target_fini(&t);
    return rc;
}

int cmd_drain(int argc, char **argv)
{
    struct drain_options o = {0};

    return command_main(&drain_option_table, &o, argc, argv, drain_run);
}
