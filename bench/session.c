#include "bench/session.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "bench/figures.h"
#include "bench/json.h"
#include "bench/report.h"
#include "bench/run.h"
#include "bench/table.h"
#include "bench/workload.h"

struct session {
    const struct bench_options *options;
    struct workload workload;
    uint32_t next; /* the first item that no run has taken */
};

static const char *server(const struct bench_options *o)
{
    return *o->native ? o->native : o->base_url;
}

/* Runs the next `count` items. */
static int session_load(struct session *s, struct result *r, double rate, uint32_t count, bool asap,
                        const char *label, struct err *e)
{
    struct run_setup setup = {.options = s->options,
                              .workload = &s->workload,
                              .url = server(s->options),
                              .native = *s->options->native != '\0',
                              .rate = rate,
                              .first = s->next,
                              .count = count,
                              .asap = asap,
                              .keep_answers = s->options->save_detailed,
                              .label = label};

    s->next += count;
    return run(r, &setup, e);
}

static int warm_up(struct session *s, struct err *e)
{
    struct result r = {0};
    uint32_t n = s->options->num_warmups;
    int rc;

    if (n == 0)
        return ERR_OK;
    rc = session_load(s, &r, INFINITY, n, true, "warm-up", e);
    if (bench_trace(s->options))
        s->next = 0; /* a trace's requests are all wanted */
    result_fini(&r);
    return rc;
}

static int report(struct result *r, const struct bench_options *o, bool *ok, struct err *e)
{
    struct str table = {0};
    struct figures f;
    json_t *root;
    int rc;

    figures_make(&f, r, o);
    *ok = f.ok > 0;
    table_result(&table, &f, r, o);
    report_print(&table, o);
    root = json_result(&f, r, o);
    rc = report_files(root, &f, r, o, e);
    json_decref(root);
    str_fini(&table);
    figures_fini(&f);
    return rc;
}

static int session_one(struct session *s, bool *ok, struct err *e)
{
    struct result r = {0};
    int rc = session_load(s, &r, bench_number(s->options->request_rate), bench_prompts(s->options),
                          false, "", e);

    if (rc == ERR_OK)
        rc = report(&r, s->options, ok, e);
    result_fini(&r);
    return rc;
}

int session_run(bool *ok, const struct bench_options *o, struct err *e)
{
    struct session s = {.options = o};
    int rc = workload_open(&s.workload, o, e);

    if (rc == ERR_OK)
        rc = warm_up(&s, e);
    if (rc == ERR_OK)
        rc = session_one(&s, ok, e);
    workload_close(&s.workload);
    return rc;
}
