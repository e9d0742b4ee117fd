/* daemon: what every daemon's main does: options, log, run, exit code.
 *
 *     int main(int argc, char **argv)
 *     {
 *         struct router_options options = {0};
 *         const struct daemon daemon = {&router_option_table, &options, router_run};
 *
 *         return daemon_main(&daemon, argc, argv);
 *     }
 */
#ifndef TANDEM_DAEMON_DAEMON_H
#define TANDEM_DAEMON_DAEMON_H

#include "base/err.h"
#include "config/option.h"

/* What main returns, and every program of tandem. */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct daemon {
    const struct option_table *table;
    void *options; /* the table's struct, zeroed; its first member is a struct daemon_options */
    /* Serves until told to stop (0), or writes one sentence. options is borrowed until return. */
    int (*run)(const void *options, struct err *e);
};

/* Returns EXIT_*: a failure of run or of the options is one sentence on stderr. SIGPIPE is ignored. */
int daemon_main(const struct daemon *d, int argc, char **argv);

#endif
