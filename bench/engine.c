#include "bench/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "bench/engine_case.h"
#include "bench/engine_report.h"
#include "bench/report.h"
#include "config/ranges.h"
#include "daemon/daemon.h"
#include "host/topo.h"

/* All rounds of all tests with one team. Tests take turns, so that a disturbance of the machine
 * meets them alike. */
static int team_measure(const struct engine_bench_options *o, const uint32_t *pus,
                        uint32_t n_threads, json_t *root, struct err *e)
{
    FILE *out = strcmp(o->json, "-") == 0 ? stderr : stdout;
    struct engine_cases cases;
    struct engine_rig rig;
    struct str table = {0};
    int rc;

    engine_cases_init(&cases, o);
    rc = engine_rig_open(&rig, o, pus, n_threads, &cases, e);
    if (rc == ERR_OK) {
        for (uint32_t r = 0; r < o->repeat; r++)
            for (size_t i = 0; i < cases.n; i++)
                engine_case_run(&cases.items[i], &rig);
        engine_report_table(&table, o, &rig, &cases);
        engine_report_json_add(root, o, &rig, &cases);
        fputs(str_text(&table), out);
        fflush(out);
        engine_rig_close(&rig);
    }
    str_fini(&table);
    engine_cases_fini(&cases);
    return rc;
}

static int json_write(const struct engine_bench_options *o, const json_t *root, struct err *e)
{
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    struct str out = {0};
    int rc;

    str_adds(&out, text);
    str_addc(&out, '\n');
    rc = report_write(o->json, &out, e);
    free(text); /* jansson's */
    str_fini(&out);
    return rc;
}

static int measure(const struct engine_bench_options *o, struct err *e)
{
    uint32_t threads[ENGINE_LIST_MAX], n_pus = 0, *pus = NULL;
    int n = engine_list(threads, o->threads), rc = ranges_parse(&pus, &n_pus, o->cores, e);
    json_t *root = engine_report_json(o);

    if (n == 0)
        threads[n++] = n_pus ? n_pus : topo_allowed_pus();
    cpu_amx_allow(); /* before the team's threads start; whether it may is asked again */
    for (int i = 0; i < n && rc == ERR_OK; i++) {
        if (n_pus && threads[i] > n_pus)
            rc = err_set(e, ERR_ARG, "%u threads are more than the %u processors of --cores",
                         threads[i], n_pus);
        else
            rc = team_measure(o, pus, threads[i], root, e);
    }
    if (rc == ERR_OK && *o->json)
        rc = json_write(o, root, e);
    json_decref(root);
    mem_free(pus);
    return rc;
}

int engine_bench_main(int argc, char **argv)
{
    struct engine_bench_options o = {0};
    enum option_action action;
    struct err e = {0};
    int code = EXIT_OK;

    if (option_main(&engine_bench_table, &o, argc, argv, NULL, &action, &e)) {
        fprintf(stderr, "tandem-bench engine: %s\n", e.text);
        code = EXIT_USAGE;
    } else if (action == OPTION_RUN) {
        log_init("bench", LOG_WARN);
        if (measure(&o, &e)) {
            fprintf(stderr, "tandem-bench engine: %s\n", e.text);
            code = EXIT_FAILED;
        }
    }
    option_free(&engine_bench_table, &o);
    return code;
}
