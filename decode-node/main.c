#include "daemon/daemon.h"
#include "daemon/options.h"
#include "decode-node/decode.h"

int main(int argc, char **argv)
{
    struct decode_options options = {0};
    const struct daemon daemon = {&decode_option_table, &options, decode_run};

    return daemon_main(&daemon, argc, argv);
}
