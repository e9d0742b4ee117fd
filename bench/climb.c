/* One run after the other at different request rates: a list of them, or a search. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "bench/compare.h"
#include "bench/report.h"
#include "bench/search.h"
#include "bench/session.h"
#include "bench/shortage.h"

/* Of a probe if neither --num-prompts nor --duration says: long enough for a queue to build up. A
 * share of fewer requests than the minimum means nothing. */
#define PROBE_S 10.0
#define PROBE_MIN 30u

struct climb {
    struct session *session;
    struct targets targets;
    json_t *points;
    struct result best; /* of the highest goodput that held */
    double best_rate;
    double short_rate; /* of the lowest rate that did not hold */
    enum shortage shortage;
    char why[400];
    bool interrupted;
    uint32_t invalid; /* probes in which the client was the bottleneck */
};

static uint32_t probe_count(const struct bench_options *o, double rate)
{
    double n = rate * (o->duration > 0 ? o->duration : PROBE_S);

    if (o->num_prompts > 0)
        return o->num_prompts;
    return n > PROBE_MIN ? (uint32_t)n : PROBE_MIN;
}

static json_t *point_value(const struct probe *p, struct figures *f, const struct result *r)
{
    return json_pack(
        "{s:f, s:f, s:f, s:f, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:b, s:b}", "request_rate",
        p->rate, "request_throughput", f->requests_per_s, "request_goodput", p->goodput,
        "attainment", f->attainment, "good", (json_int_t)p->good, "judged", (json_int_t)p->judged,
        "output_throughput", f->output_tokens_per_s, "p50_ttft_ms", f->metrics[METRIC_TTFT].p50,
        "p99_ttft_ms", f->metrics[METRIC_TTFT].p99, "p50_tpot_ms", f->metrics[METRIC_TPOT].p50,
        "p99_tpot_ms", f->metrics[METRIC_TPOT].p99, "saturated", r->saturated, "valid", f->valid);
}

static void point_print(const struct climb *c, const struct probe *p, const struct figures *f,
                        const struct result *r, double share)
{
    struct str line = {0};
    double low, high;

    figures_wilson(&low, &high, p->good, p->judged);
    str_addf(&line, "%9.3f %9.3f %9.1f %9.1f %9.1f %9.2f %9.2f", p->rate, f->requests_per_s,
             f->output_tokens_per_s, f->metrics[METRIC_TTFT].p50, f->metrics[METRIC_TTFT].p99,
             f->metrics[METRIC_TPOT].p50, f->metrics[METRIC_TPOT].p99);
    if (c->targets.n > 0)
        str_addf(&line, " %6.1f %% [%5.1f, %5.1f] %s", f->attainment * 100, low * 100, high * 100,
                 r->saturated ? "saturated" : probe_holds(p, share) ? "holds" : "misses");
    str_addf(&line, "%s\n", f->valid ? "" : "  INVALID: client");
    report_print(&line, c->session->options);
    str_fini(&line);
}

static void head_print(const struct climb *c)
{
    struct str line = {0};

    str_addf(&line, "%9s %9s %9s %9s %9s %9s %9s%s\n", "rate/s", "done/s", "tokens/s", "TTFT p50",
             "p99 ms", "TPOT p50", "p99 ms", c->targets.n > 0 ? "   kept  [95 %]" : "");
    report_print(&line, c->session->options);
    str_fini(&line);
}

/* Keeps the result if it is the best so far; frees it otherwise. */
static void result_keep(struct climb *c, struct result *r, const struct probe *p, bool holds)
{
    if (c->best.n == 0 || (holds && p->rate > c->best_rate)) {
        result_fini(&c->best);
        c->best = *r;
        c->best_rate = holds ? p->rate : 0;
    } else {
        result_fini(r);
    }
}

static int climb_probe(struct probe *p, struct climb *c, double rate, struct err *e)
{
    const struct bench_options *o = c->session->options;
    struct bench_options counted = *o; /* a probe ends with its requests, not with time */
    struct run_setup setup;
    struct result r = {0};
    struct figures f;
    char label[40];
    bool holds;
    int rc;

    snprintf(label, sizeof(label), "%.3g/s", rate);
    setup = session_setup(c->session, rate, probe_count(o, rate), label);
    counted.duration = 0;
    setup.options = &counted;
    setup.stop = o->find_goodput ? &c->targets : NULL;
    rc = run(&r, &setup, e);
    if (rc != ERR_OK) {
        result_fini(&r);
        return rc;
    }
    figures_make(&f, &r, o);
    *p = (struct probe){rate, f.good, f.judged, f.goodput, r.saturated,
                        f.peak_concurrency <= 1};
    holds = c->targets.n == 0 || probe_holds(p, o->goodput_share);
    if (!holds && (c->short_rate == 0 || rate < c->short_rate)) {
        c->short_rate = rate;
        c->shortage = shortage_find(c->why, sizeof(c->why), &f, &r, o->goodput_share);
    }
    json_array_append_new(c->points, point_value(p, &f, &r));
    point_print(c, p, &f, &r, o->goodput_share);
    c->session->ok = c->session->ok || f.ok > 0;
    c->interrupted = r.interrupted;
    c->invalid += !f.valid;
    result_keep(c, &r, p, holds);
    figures_fini(&f);
    return ERR_OK;
}

static int climb_list(struct climb *c, struct err *e)
{
    const char *at = c->session->options->sweep;
    struct probe p;
    int rc = ERR_OK;

    while (*at && rc == ERR_OK && !c->interrupted) {
        rc = climb_probe(&p, c, strtod(at, NULL), e);
        at += strcspn(at, ",");
        at += *at == ',';
    }
    return rc;
}

static void before_print(struct str *out, const json_t *extra, const struct search_answer *a)
{
    const json_t *found = json_object_get(json_object_get(extra, "before"), "find_goodput");
    double rate = json_number_value(json_object_get(found, "request_rate"));

    if (found)
        str_addf(out, "\nbefore: %.3f requests/s; now %.3f", rate, a->rate);
    if (rate > 0)
        str_addf(out, ", %.2fx", a->rate / rate);
}

static void answer_print(struct str *out, const struct climb *c, const struct search_answer *a,
                         const json_t *extra)
{
    const struct bench_options *o = c->session->options;

    if (a->rate > 0)
        str_addf(out,
                 "\ngoodput: %.3f requests/s keep the targets for at least %.0f %% of requests",
                 a->rate, o->goodput_share * 100);
    else
        str_addf(out, "\ngoodput: no rate that was tried keeps the targets for %.0f %% of requests",
                 o->goodput_share * 100);
    if (isfinite(a->high))
        str_addf(out, "; 95 %%: between %.3f and %.3f", a->low, a->high);
    else
        str_addf(out, "; 95 %%: at least %.3f", a->low);
    if (!a->bounded)
        str_adds(out, "; no higher rate was tried that failed");
    before_print(out, extra, a);
    if (c->short_rate > 0)
        str_addf(out, "\nshort at %.3f/s: %s: %s", c->short_rate, shortage_name(c->shortage),
                 c->why);
    if (c->invalid > 0)
        str_addf(out, "\nINVALID: in %u of the probes the client was the bottleneck", c->invalid);
    str_adds(out, a->rate > 0 ? "\n\nThe run at that rate:\n" : "\n\nThe first run:\n");
}

static json_t *answer_value(const struct climb *c, const struct search_answer *a)
{
    json_t *out = json_pack("{s:f, s:f, s:b}", "request_rate", a->rate, "low_95", a->low, "bounded",
                            a->bounded);

    json_object_set_new(out, "high_95", isfinite(a->high) ? json_real(a->high) : json_null());
    json_object_set_new(out, "invalid_probes", json_integer(c->invalid));
    json_object_set_new(out, "short", json_string(shortage_name(c->shortage)));
    json_object_set_new(out, "why", json_string(c->why));
    return out;
}

/* What the report shows of the earlier search. */
static int climb_before(json_t *extra, const char *path, struct err *e)
{
    json_t *root = compare_load(path, e);
    json_t *found = json_object_get(root, "find_goodput"), *points = json_object_get(root, "points");
    int rc = root ? ERR_OK : e->code;

    if (root && (!json_is_number(json_object_get(found, "request_rate")) || !json_is_array(points)))
        rc = err_set(e, ERR_FORMAT, "%s: is no result of --find-goodput", path);
    if (rc == ERR_OK)
        json_object_set_new(extra, "before", json_pack("{s:O, s:O}", "find_goodput", found, "points",
                                                       points));
    json_decref(root);
    return rc;
}

static int climb_search(struct climb *c, json_t *extra, struct err *e)
{
    const struct bench_options *o = c->session->options;
    double start = bench_number(o->request_rate), rate;
    struct search_answer a;
    struct str text = {0};
    struct search s;
    int rc = *o->before ? climb_before(extra, o->before, e) : ERR_OK;

    search_init(&s, isfinite(start) ? start : 1, o->goodput_share);
    while (rc == ERR_OK && !c->interrupted && search_next(&rate, &s)) {
        struct probe p;

        rc = climb_probe(&p, c, rate, e);
        if (rc == ERR_OK && !c->interrupted)
            search_add(&s, &p);
    }
    if (rc != ERR_OK)
        return rc;
    a = search_answer(&s);
    answer_print(&text, c, &a, extra);
    report_print(&text, o);
    str_fini(&text);
    json_object_set_new(extra, "find_goodput", answer_value(c, &a));
    return ERR_OK;
}

int session_climb(struct session *s, struct err *e)
{
    struct climb c = {.session = s, .targets = bench_targets(s->options), .points = json_array()};
    json_t *extra = json_pack("{s:o}", "points", c.points);
    int rc;

    head_print(&c);
    rc = s->options->find_goodput ? climb_search(&c, extra, e) : climb_list(&c, e);
    if (rc == ERR_OK)
        rc = session_report(s, &c.best, extra, e); /* takes extra */
    else
        json_decref(extra);
    result_fini(&c.best);
    return rc;
}
