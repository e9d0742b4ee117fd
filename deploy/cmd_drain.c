/* tandem drain: has a node finish what it does and leave the cluster. */
#include <poll.h>
#include <stdio.h>

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
    .usage = "[FILE|CLUSTER|URL] NODE",
    .summary = "Lets a node finish its streams, gives it no new ones, and has it leave",
    .options = drain_rows,
    .n = ARRAY_LEN(drain_rows),
};

#define DRAIN_POLL_MS 100

/* The process that has the name, 0: none has. */
static json_int_t drain_pid(const json_t *cluster, const char *node)
{
    return api_number(api_node(cluster, node), "pid");
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
        gone = !pid || drain_pid(reply, node) != pid;
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
    json_t *reply = NULL;
    json_int_t pid = 0, running = 0;
    int rc;

    if (args->n < 1 || args->n > 2)
        return err_set(e, ERR_ARG, "one node at a time, got %d arguments", args->n);
    rc = target_reach(&t, args->n == 2 ? args->argv[0] : NULL, e);
    if (!rc && o->wait_s && api_cluster(&reply, t.url, NULL) == 0)
        pid = drain_pid(reply, node);
    if (!rc)
        rc = api_drain(&running, t.url, node, e);
    if (!rc)
        printf("node %s is draining, %" JSON_INTEGER_FORMAT " streams to finish\n", node, running);
    if (!rc && o->wait_s)
        rc = drain_wait(t.url, node, pid, o->wait_s, e);
    json_decref(reply);
    target_fini(&t);
    return rc;
}

int cmd_drain(int argc, char **argv)
{
    struct drain_options o = {0};

    return command_main(&drain_option_table, &o, argc, argv, drain_run);
}
