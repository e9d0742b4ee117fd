/* Two servers get the same requests at the same times, a part of the schedule each in turns (A B, B A,
 * A B, ...), so that what disturbs a machine for a while disturbs both. */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "bench/compare.h"
#include "bench/json.h"
#include "bench/report.h"
#include "bench/session.h"
#include "bench/table.h"

struct sides {
    struct result a, b;
};

static int turn(struct result *r, const struct run_setup *part, const char *against, struct err *e)
{
    struct run_setup setup = *part;

    if (against) {
        setup.url = against;
        setup.native = false;
    }
    return run(r, &setup, e);
}

static int rounds_run(struct sides *s, struct session *session, struct err *e)
{
    const struct bench_options *o = session->options;
    uint32_t left = bench_prompts(o), rounds = u32_min(o->rounds, left);
    int rc = ERR_OK;

    for (uint32_t i = 0; i < rounds && rc == ERR_OK; i++) {
        uint32_t count = left / (rounds - i);
        char label[40];
        struct run_setup part;
        bool b_first = i % 2;

        snprintf(label, sizeof(label), "round %u/%u", i + 1, rounds);
        part = session_setup(session, bench_number(o->request_rate), count, label);
        left -= count;
        rc = turn(b_first ? &s->b : &s->a, &part, b_first ? o->against : NULL, e);
        if (rc == ERR_OK && !s->a.interrupted && !s->b.interrupted)
            rc = turn(b_first ? &s->a : &s->b, &part, b_first ? NULL : o->against, e);
        if (s->a.interrupted || s->b.interrupted)
            break;
    }
    return rc;
}

/* The other server's result, printed, as JSON. */
static json_t *against_value(struct result *r, const struct bench_options *o, bool *ok)
{
    struct str table = {0};
    struct figures f;
    json_t *out;

    figures_make(&f, r, o);
    *ok = f.ok > 0;
    str_addc(&table, '\n');
    table_result(&table, &f, r, o);
    report_print(&table, o);
    out = json_result(&f, r, o);
    str_fini(&table);
    figures_fini(&f);
    return out;
}

/* A's result has B's as "against"; the table needs each request's times, wanted in the file or not. */
static void table_print(const json_t *b, struct sides *s, const struct bench_options *o)
{
    json_t *a, *detailed = json_copy((json_t *)b);
    struct str text = {0};
    struct figures f;

    figures_make(&f, &s->a, o);
    a = json_result(&f, &s->a, o);
    json_details(a, &s->a);
    json_details(detailed, &s->b);
    str_addf(&text, "\nA: %s\nB: %s, the same %zu requests in turns\n", s->a.url, s->b.url, s->a.n);
    compare_table(&text, a, detailed, 0);
    report_print(&text, o);
    str_fini(&text);
    figures_fini(&f);
    json_decref(a);
    json_decref(detailed);
}

int session_versus(struct session *s, struct err *e)
{
    struct sides sides = {0};
    int rc = rounds_run(&sides, s, e);
    bool ok = false;

    if (rc == ERR_OK) {
        json_t *b = against_value(&sides.b, s->options, &ok);

        rc = session_report(s, &sides.a, json_pack("{s:O}", "against", b), e);
        table_print(b, &sides, s->options);
        s->ok = s->ok && ok;
        json_decref(b);
    }
    result_fini(&sides.a);
    result_fini(&sides.b);
    return rc;
}
