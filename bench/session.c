#include "bench/session.h"

#include <math.h>
#include <stdio.h>

#include "bench/json.h"
#include "bench/report.h"
#include "bench/roof.h"
#include "bench/table.h"

struct run_setup session_setup(struct session *s, double rate, uint32_t count, const char *label)
{
    const struct bench_options *o = s->options;
    struct run_setup setup = {.options = o,
                              .workload = &s->workload,
                              .url = *o->native ? o->native : o->base_url,
                              .native = *o->native != '\0',
                              .rate = rate,
                              .first = s->next,
                              .count = count,
                              .keep_answers = o->save_detailed,
                              .label = label};

    s->next += count;
    return setup;
}

int session_report(struct session *s, struct result *r, json_t *extra, struct err *e)
{
    const struct bench_options *o = s->options;
    struct str table = {0};
    struct figures f;
    json_t *root;
    int rc;

    figures_make(&f, r, o);
    s->ok = s->ok || f.ok > 0;
    table_result(&table, &f, r, o);
    report_print(&table, o);
    root = json_result(&f, r, o);
    json_object_update(root, extra);
    rc = report_files(root, &f, r, o, e);
    json_decref(extra);
    json_decref(root);
    str_fini(&table);
    figures_fini(&f);
    return rc;
}

static int warm_up(struct session *s, struct err *e)
{
    struct run_setup setup = session_setup(s, INFINITY, s->options->num_warmups, "warm-up");
    struct result r = {0};
    int rc;

    if (setup.count == 0)
        return ERR_OK;
    setup.asap = true;
    rc = run(&r, &setup, e);
    if (bench_trace(s->options))
        s->next = 0; /* a trace's requests are all wanted */
    result_fini(&r);
    return rc;
}

static int session_one(struct session *s, struct err *e)
{
    const struct bench_options *o = s->options;
    struct run_setup setup =
        session_setup(s, bench_number(o->request_rate), bench_prompts(o), "");
    struct result r = {0};
    int rc = run(&r, &setup, e);

    if (rc == ERR_OK)
        rc = session_report(s, &r, NULL, e);
    result_fini(&r);
    return rc;
}

int session_run(bool *ok, const struct bench_options *o, struct err *e)
{
    struct session s = {.options = o};
    struct roof roof;
    int rc = roof_load(&roof, o->roofline, "", e); /* a bad file is found before the run, not after */

    if (rc == ERR_OK)
        rc = workload_open(&s.workload, o, e);
    if (rc == ERR_OK)
        rc = warm_up(&s, e);
    if (rc != ERR_OK)
        goto out;
    if (o->find_goodput || *o->sweep)
        rc = session_climb(&s, e);
    else if (*o->against)
        rc = session_versus(&s, e);
    else if (*o->kill || *o->stop)
        rc = session_faulted(&s, e);
    else
        rc = session_one(&s, e);
    *ok = s.ok;
out:
    workload_close(&s.workload);
    return rc;
}
