#include "daemon/daemon.h"
#include "daemon/options.h"
#include "daemon/role.h"

static int run(const void *options, struct err *e)
{
    return role_run(options, &role_prefill, &role_decode, e);
}

int main(int argc, char **argv)
{
    struct node_options options = {0};
    const struct daemon daemon = {&prefill_option_table, &options, run};

    return daemon_main(&daemon, argc, argv);
}
