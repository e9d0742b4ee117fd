#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/log.h"
#include "bench/engine.h"
#include "bench/options.h"
#include "bench/report.h"
#include "bench/run.h"
#include "bench/workload.h"
#include "daemon/daemon.h"

/* A connection a request: as many descriptors as the system lets us have. */
static void descriptors_raise(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* The table goes to stdout, unless that is where the JSON goes. *ok: some request succeeded. */
static int report(struct result *r, const struct bench_options *o, bool *ok, struct err *e)
{
    struct str table = {0}, json = {0};
    struct summary s;
    int rc;

    report_summarize(&s, r, o);
    *ok = s.ok > 0;
    report_table(&table, &s, r, o);
    fputs(str_text(&table), strcmp(o->json, "-") == 0 ? stderr : stdout);
    report_json(&json, &s, r, o);
    rc = *o->json ? report_write(o->json, &json, e) : ERR_OK;
    str_fini(&table);
    str_fini(&json);
    return rc;
}

static int bench(const struct bench_options *o, bool *ok, struct err *e)
{
    struct workload w;
    struct result r;
    int rc = workload_open(&w, o, e);

    if (rc != ERR_OK)
        return rc;
    rc = run(&r, o, &w, e);
    if (rc == ERR_OK)
        rc = report(&r, o, ok, e);
    result_fini(&r);
    workload_fini(&w);
    return rc;
}

int main(int argc, char **argv)
{
    struct bench_options o = {0};
    enum option_action action;
    struct err e = {0};
    int code = EXIT_OK;
    bool ok = false;

    if (argc > 1 && strcmp(argv[1], "engine") == 0)
        return engine_bench_main(argc - 1, argv + 1);
    if (option_main(&bench_option_table, &o, argc, argv, NULL, &action, &e)) {
        fprintf(stderr, "tandem-bench: %s\n", e.text);
        code = EXIT_USAGE;
    } else if (action == OPTION_RUN) {
        signal(SIGPIPE, SIG_IGN);
        log_init("bench", LOG_WARN);
        descriptors_raise();
        code = EXIT_FAILED;
        if (bench(&o, &ok, &e))
            fprintf(stderr, "tandem-bench: %s\n", e.text);
        else if (ok)
            code = EXIT_OK;
    }
    option_free(&bench_option_table, &o);
    return code;
}
