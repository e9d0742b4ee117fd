#include "daemon/daemon.h"
#include "daemon/options.h"
#include "prefill-node/prefill.h"

int main(int argc, char **argv)
{
    struct prefill_options options = {0};
    const struct daemon daemon = {&prefill_option_table, &options, prefill_run};

    return daemon_main(&daemon, argc, argv);
}
