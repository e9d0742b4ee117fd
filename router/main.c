/* tandem-router */
#include "daemon/daemon.h"
#include "router/router.h"

int main(int argc, char **argv)
{
    struct router_options options = {0};
    const struct daemon daemon = {&router_option_table, &options, router_run};

    return daemon_main(&daemon, argc, argv);
}
