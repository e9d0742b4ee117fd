#include "daemon/daemon.h"

#include <signal.h>
#include <stdio.h>

#include "base/log.h"
#include "daemon/options.h"

static int daemon_say(const struct daemon *d, const struct err *e, int code)
{
    fprintf(stderr, "%s: %s\n", d->table->program, e->text);
    return code;
}

int daemon_main(const struct daemon *d, int argc, char **argv)
{
    const struct daemon_options *common = d->options;
    enum option_action action;
    struct err e = {0};
    int code = EXIT_OK;

    if (option_main(d->table, d->options, argc, argv, NULL, &action, &e)) {
        code = daemon_say(d, &e, EXIT_USAGE);
    } else if (action == OPTION_RUN) {
        signal(SIGPIPE, SIG_IGN); /* a peer that went away is an error code, not our end */
        log_init(common->name, (enum log_level)common->log_level);
        log_set_format((enum log_format)common->log_format);
        if (d->run(d->options, &e))
            code = daemon_say(d, &e, EXIT_FAILED);
    }
    option_free(d->table, d->options);
    return code;
}
