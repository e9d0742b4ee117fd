#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "bench/compare.h"
#include "bench/engine.h"
#include "bench/options.h"
#include "bench/process.h"
#include "bench/session.h"
#include "daemon/daemon.h"

static int serve_main(int argc, char **argv)
{
    struct bench_options o = {0};
    struct option_args rest = {0};
    enum option_action action = OPTION_RUN;
    struct err e = {0};
    int code = EXIT_OK;
    bool ok = false;

    if (option_main(&bench_option_table, &o, argc, argv, &rest, &action, &e) ||
        bench_positional(&o, &rest, &e)) {
        fprintf(stderr, "tandem-bench: %s\n", e.text);
        code = EXIT_USAGE;
    } else if (action == OPTION_RUN) {
        signal(SIGPIPE, SIG_IGN);
        log_init("bench", LOG_WARN);
        log_set_format((enum log_format)o.log_format);
        process_descriptors_raise();
        code = EXIT_FAILED;
        if (session_run(&ok, &o, &e))
            fprintf(stderr, "tandem-bench: %s\n", e.text);
        else if (ok)
            code = EXIT_OK;
    }
    option_free(&bench_option_table, &o);
    return code;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "engine") == 0)
        return engine_bench_main(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "compare") == 0)
        return compare_main(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "serve") == 0) /* as `vllm bench serve` */
        return serve_main(argc - 1, argv + 1);
    return serve_main(argc, argv);
}
