/* tandem role: a node finishes what it does and goes on in the other role, with its weights and KV. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "deploy/api.h"
#include "deploy/command.h"
#include "deploy/commands.h"

#define ROLE_POLL (100 * CLOCK_MS)

struct role_options {
    uint32_t wait_s;
};

static const struct option role_rows[] = {
    OPTION(role_options, wait_s, U32, .def = "60", .min = 0, .max = 86400, .unit = "S",
           .help = "how long it may take to finish what it has; 0: return at once"),
};

static const struct option_table role_option_table = {
    .program = "tandem role",
    .usage = "[FILE|CLUSTER|URL] NODE prefill|decode",
    .summary = "Has a node that was started with change_role go on as a prefill or a decode node",
    .options = role_rows,
    .n = ARRAY_LEN(role_rows),
};

static bool role_taken(const char *url, const char *name, const char *role)
{
    const json_t *node;
    json_t *reply;
    bool taken;

    if (api_cluster(&reply, url, NULL))
        return false;
    node = api_node(reply, name);
    taken = !strcmp(api_text(node, "role"), role) && !strcmp(api_text(node, "state"), "ready");
    json_decref(reply);
    return taken;
}

static int role_wait(const char *url, const char *name, const char *role, uint32_t wait_s,
                     struct err *e)
{
    const struct timespec t = {.tv_nsec = ROLE_POLL};
    int64_t until = clock_now() + wait_s * CLOCK_S;

    while (!role_taken(url, name, role)) {
        if (clock_now() >= until)
            return err_set(e, ERR_TIMEOUT, "%s is not a %s node yet after %u s; it goes on draining",
                           name, role, wait_s);
        nanosleep(&t, NULL);
    }
    printf("%s is a %s node\n", name, role);
    return 0;
}

static int role_run(const void *options, const struct option_args *args, struct err *e)
{
    const struct role_options *o = options;
    struct target t = {0};
    const char *name, *role;
    int rc;

    if (args->n < 2 || args->n > 3)
        return err_set(e, ERR_ARG, "a node and prefill or decode are needed, got %d arguments",
                       args->n);
    name = args->argv[args->n - 2];
    role = args->argv[args->n - 1];
    if (strcmp(role, "prefill") != 0 && strcmp(role, "decode") != 0)
        return err_set(e, ERR_ARG, "\"%.40s\" is neither prefill nor decode", role);
    rc = target_reach(&t, args->n == 3 ? args->argv[0] : NULL, e);
    if (!rc)
        rc = api_role(t.url, name, role, e);
    if (!rc && o->wait_s)
        rc = role_wait(t.url, name, role, o->wait_s, e);
    target_fini(&t);
    return rc;
}

int cmd_role(int argc, char **argv)
{
    struct role_options o = {0};

    return command_main(&role_option_table, &o, argc, argv, role_run);
}
