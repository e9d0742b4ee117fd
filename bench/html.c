#include "bench/html.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bench/chart.h"
#include "bench/panels.h"
#include "bench/table.h"

/* Colours c1 .. c6 are told apart by all common kinds of colour blindness, and have 3:1 against the
 * page; s0 .. s7 are the stages: greys for the client's side, blues for prefill, greens for decode. */
static const char style[] =
    ":root{color-scheme:light "
    "dark;--bg:#fbfbfa;--card:#fff;--ink:#1b1f24;--soft:#5b636d;--line:#e3e5e8;"
    "--c1:#1f6fd1;--c2:#d1581a;--c3:#178764;--c4:#8a4fc0;--c5:#a87900;--c6:#7b848f;--good:#178764;"
    "--bad:#c0392b;--s0:#c3c8ce;--s1:#98a1ab;--s2:#e0a030;--s3:#9cc4f2;--s4:#1f6fd1;--s5:#8a4fc0;"
    "--s6:#9ad6c0;--s7:#178764}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1c2024;--ink:#e8eaed;--soft:#"
    "a0a8b1;"
    "--line:#30363c;--c1:#62a5f2;--c2:#f08a50;--c3:#3fc29a;--c4:#bd8cf0;--c5:#d8ac3a;--c6:#8d96a1;"
    "--good:#3fc29a;--bad:#f07a6c;--s0:#59616a;--s1:#7b848f;--s2:#d8a03a;--s3:#2f5f96;--s4:#62a5f2;"
    "--s5:#bd8cf0;--s6:#2c6f5b;--s7:#3fc29a}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);"
    "font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}"
    "main{max-width:1320px;margin:0 auto;padding:20px 16px 48px}"
    "h1{font-size:22px;margin:0 0 2px}h2{font-size:17px;margin:34px 0 "
    "10px}h3{font-size:15px;margin:0}"
    "p{margin:2px 0;color:var(--soft)}a{color:var(--c1)}"
    ".verdict{margin:12px 0;padding:9px 12px;border-radius:8px;border:1px solid var(--line);"
    "border-left:4px solid var(--good);background:var(--card);color:var(--ink)}"
    ".verdict.bad{border-left-color:var(--bad)}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(128px,1fr));gap:10px;margin:"
    "16px 0}"
    ".tiles div,figure{background:var(--card);border:1px solid var(--line);border-radius:10px}"
    ".tiles div{padding:10px 12px}.tiles "
    "b{display:block;font-size:21px;font-weight:600;line-height:1.25;"
    "font-variant-numeric:tabular-nums}.tiles "
    "span{color:var(--soft);font-size:13px;white-space:nowrap}"
    ".charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,390px),1fr));gap:"
    "14px;"
    "align-items:start}figure{margin:0;padding:12px 12px 8px}figcaption p{font-size:13px}"
    "svg{display:block;width:100%;height:auto;margin-top:8px;font-family:inherit}"
    ".tick,.label{font-size:11px;fill:var(--soft)}.grid{stroke:var(--line)}.axis{stroke:var(--soft)"
    "}"
    ".mark{stroke:var(--ink);stroke-dasharray:4 "
    "3;opacity:.6}.line{fill:none!important;stroke-width:2;"
    "stroke-linejoin:round}.soft{opacity:.55}"
    ".c1{fill:var(--c1);stroke:var(--c1)}.c2{fill:var(--c2);stroke:var(--c2)}"
    ".c3{fill:var(--c3);stroke:var(--c3)}.c4{fill:var(--c4);stroke:var(--c4)}"
    ".c5{fill:var(--c5);stroke:var(--c5)}.c6{fill:var(--c6);stroke:var(--c6)}.fill{stroke:none}"
    ".s0{fill:var(--s0);background:var(--s0)}.s1{fill:var(--s1);background:var(--s1)}"
    ".s2{fill:var(--s2);background:var(--s2)}.s3{fill:var(--s3);background:var(--s3)}"
    ".s4{fill:var(--s4);background:var(--s4)}.s5{fill:var(--s5);background:var(--s5)}"
    ".s6{fill:var(--s6);background:var(--s6)}.s7{fill:var(--s7);background:var(--s7)}"
    ".h0{fill:var(--line);opacity:.5}.h1,.h2,.h3,.h4,.h5,.h6,.h7,.h8{fill:var(--c1)}.h1{opacity:."
    "16}"
    ".h2{opacity:.28}.h3{opacity:.4}.h4{opacity:.52}.h5{opacity:.64}.h6{opacity:.76}.h7{opacity:."
    "88}"
    ".keys{font-size:13px;margin-top:6px}.keys span{white-space:nowrap;margin-right:10px}"
    ".keys i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:5px}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;"
    "font-size:14px}th,td{text-align:right;padding:4px 10px;border-bottom:1px solid var(--line);"
    "white-space:nowrap}th{color:var(--soft);font-weight:500}th:first-child,td:first-child{text-"
    "align:left;"
    "padding-left:0}td.f{text-align:left;color:var(--soft)}"
    "details{margin-top:14px}summary{cursor:pointer;color:var(--soft)}"
    "td.v{text-align:left;white-space:normal;overflow-wrap:anywhere}\n";

static void tile(struct str *out, const char *name, const char *format, double value)
{
    char text[48];

    snprintf(text, sizeof(text), format, value);
    str_addf(out, "<div><b>%s</b><span>%s</span></div>\n", text, name);
}

static void tiles(struct str *out, const struct figures *f)
{
    str_adds(out, "<div class=\"tiles\">\n");
    tile(out, "requests/s", "%.2f", f->requests_per_s);
    tile(out, "tokens out/s", "%.1f", f->output_tokens_per_s);
    tile(out, "tokens in/s", "%.1f", f->input_tokens_per_s);
    tile(out, "TTFT p50, ms", "%.1f", f->metrics[METRIC_TTFT].p50);
    tile(out, "TTFT p99, ms", "%.1f", f->metrics[METRIC_TTFT].p99);
    tile(out, "TPOT p50, ms", "%.2f", f->metrics[METRIC_TPOT].p50);
    tile(out, "TPOT p99, ms", "%.2f", f->metrics[METRIC_TPOT].p99);
    if (f->targets.n > 0) {
        tile(out, "goodput, 1/s", "%.2f", f->goodput);
        tile(out, "in the targets, %", "%.1f", f->attainment * 100);
    }
    if (f->cost_output >= 0)
        tile(out, "cost, M tokens out", "%.4g", f->cost_output);
    if (f->tokens_per_joule >= 0)
        tile(out, "tokens out/J", "%.2f", f->tokens_per_joule);
    str_adds(out, "</div>\n");
    if (f->batches.requests_per_s[1] > 0)
        str_addf(out, "<p>At 95 %%: %.2f to %.2f requests/s, %.1f to %.1f tokens out/s, by the means of "
                 "%d equal parts of the run.</p>\n", f->batches.requests_per_s[0],
                 f->batches.requests_per_s[1], f->batches.output_tokens_per_s[0],
                 f->batches.output_tokens_per_s[1], BATCHES_PARTS);
}

static void verdict(struct str *out, bool good, const char *text)
{
    str_addf(out, "<p class=\"verdict%s\">", good ? "" : " bad");
    html_text(out, text);
    str_adds(out, "</p>\n");
}

static void before_verdict(struct str *out, const json_t *root)
{
    const json_t *found = json_object_get(json_object_get(root, "before"), "find_goodput");
    double now = json_number_value(json_object_get(json_object_get(root, "find_goodput"), "request_rate"));
    double before = json_number_value(json_object_get(found, "request_rate"));
    char text[160];

    if (!found || before <= 0)
        return;
    snprintf(text, sizeof(text), "Before: %.3f requests/s kept the targets. Now: %.3f, %.2f times that.",
             before, now, now / before);
    verdict(out, now > 0, text);
}

static void verdicts(struct str *out, const json_t *root, const struct figures *f,
                     const struct result *r, const struct bench_options *o)
{
    const json_t *found = json_object_get(root, "find_goodput"),
                 *faults = json_object_get(root, "faults");
    char text[700];

    if (f->valid)
        snprintf(text, sizeof(text),
                 "Valid: %" PRIu64 " of %" PRIu64 " requests succeeded in %.1f s. %s", f->ok,
                 f->requests, f->seconds, f->note);
    else
        snprintf(text, sizeof(text), "Invalid: %s.", f->note);
    verdict(out, f->valid && f->failed == 0, text);
    for (unsigned i = OUTCOME_OK + 1; i < OUTCOME_COUNT; i++)
        if (r->failures[i].count > 0 && i != OUTCOME_LEFT && i != OUTCOME_CANCELLED) {
            snprintf(text, sizeof(text), "%" PRIu64 " x %s, first: %s", r->failures[i].count,
                     outcome_name((enum outcome)i), r->failures[i].first);
            verdict(out, false, text);
        }
    if (found) {
        const char *why = json_string_value(json_object_get(found, "why"));
        const char *what = json_string_value(json_object_get(found, "short"));

        snprintf(text, sizeof(text),
                 "Goodput: %.3f requests/s keep the targets for %.0f %% of requests. "
                 "Short above it: %s: %s.",
                 json_number_value(json_object_get(found, "request_rate")), o->goodput_share * 100,
                 what ? what : "", why ? why : "");
        verdict(out, json_number_value(json_object_get(found, "request_rate")) > 0, text);
    }
    before_verdict(out, root);
    if (faults) {
        json_int_t lost = json_integer_value(json_object_get(faults, "tokens_lost"));
        json_int_t again = json_integer_value(json_object_get(faults, "tokens_repeated"));
        json_int_t other = json_integer_value(json_object_get(faults, "tokens_changed"));

        snprintf(text, sizeof(text),
                 "Under faults: %" JSON_INTEGER_FORMAT " tokens lost, %" JSON_INTEGER_FORMAT
                 " repeated, %" JSON_INTEGER_FORMAT " changed.",
                 lost, again, other);
        verdict(out, lost + again + other == 0, text);
    }
    if (o->scenario != SCENARIO_NONE)
        verdict(out, figures_scenario(text, sizeof(text), f, o->scenario), text);
}

static void stats_row(struct str *out, const char *name, const struct stats *s, const char *formula)
{
    if (s->n == 0)
        return;
    str_addf(out,
             "<tr><td>%s<td>%.2f<td>%.2f<td>%.2f<td>%.2f<td>%.2f<td>%.2f<td class=\"f\">%s</tr>\n",
             name, s->mean, s->p50, s->p90, s->p95, s->p99, s->max, formula);
}

static void stats_head(struct str *out, const char *title)
{
    str_addf(out,
             "<h2>%s</h2><div class=\"scroll\"><table><tr><th><th>mean<th>p50<th>p90<th>p95<th>p99"
             "<th>max<th style=\"text-align:left\">formula</tr>\n",
             title);
}

static void latency_table(struct str *out, const struct figures *f)
{
    stats_head(out, "Latency, ms");
    stats_row(out, "TTFT", &f->metrics[METRIC_TTFT], "first output - start (due, in an open loop)");
    stats_row(out, "TTST", &f->metrics[METRIC_TTST], "second output - first output");
    stats_row(out, "TPOT", &f->metrics[METRIC_TPOT], "(last - first output) / (output tokens - 1)");
    stats_row(out, "ITL", &f->metrics[METRIC_ITL], "gap between two outputs, all of all requests");
    stats_row(out, "E2EL", &f->metrics[METRIC_E2EL], "end - start");
    stats_row(out, "start lag", &f->start_lag, "sent - due: the client's own lateness");
    stats_row(out, "loop lag", &f->loop_lag, "lateness of a 10 ms tick in the client");
    str_adds(out, "</table></div>\n");
}

static void stage_table(struct str *out, const struct figures *f)
{
    static const char *const formulas[STAGE_COUNT] = {
        "sent - due",
        "from sent to the first output, less the next three",
        "tokenising, waiting for a pair of nodes",
        "waiting in the prefill node",
        "from its start to the first token",
        "KV that was not there when prefill ended",
        "waiting for a decode step",
        "first to last output, less transfer and queue"};

    if (f->stages[STAGE_PREFILL].n == 0)
        return;
    stats_head(out, "Where a request's time went, ms");
    for (int i = 0; i < STAGE_COUNT; i++)
        stats_row(out, stage_name((enum stage)i), &f->stages[i], formulas[i]);
    str_adds(out, "</table></div>\n");
}

static void share_cell(struct str *out, double measured, double computed)
{
    if (measured > 0 || computed > 0)
        str_addf(out, "<td>%.2f %%", 100 * (measured > 0 ? measured : computed));
    else
        str_adds(out, "<td>-");
}

static void node_table(struct str *out, const struct result *r, const struct roof *roof)
{
    const struct monitor_nodes *m = &r->nodes;

    if (m->n == 0 || m->seconds <= 0)
        return;
    str_adds(
        out,
        "<h2>Nodes</h2><div class=\"scroll\"><table><tr><th><th>tokens/s<th>passes/s<th>tokens/pass"
        "<th>running<th>queued<th>KV MB/s<th>MFU<th>MBU</tr>\n");
    for (uint32_t i = 0; i < m->n; i++) {
        const struct monitor_node *n = &m->list[i];
        double tokens = n->total[MONITOR_TOKENS] / m->seconds,
               steps = n->total[MONITOR_STEPS] / m->seconds;

        str_adds(out, "<tr><td>");
        html_text(out, n->name);
        str_addf(out, "<td>%.1f<td>%.1f<td>%.2f<td>%.2f<td>%.2f<td>%.2f", tokens, steps,
                 steps > 0 ? tokens / steps : 0, monitor_mean(n, MONITOR_RUNNING),
                 monitor_mean(n, MONITOR_QUEUED), n->total[MONITOR_KV_BYTES] / m->seconds * 1e-6);
        share_cell(out, monitor_mfu(m, n),
                   roof->peak_flops > 0 ? 2 * roof->weights * tokens / roof->peak_flops : 0);
        share_cell(out, monitor_mbu(m, n),
                   roof->peak_bytes > 0 ? roof->weight_bytes * steps / roof->peak_bytes : 0);
        str_adds(out, "</tr>\n");
    }
    str_adds(
        out,
        "</table></div><p>MFU: FLOPs that the node's passes needed at least, over the arithmetic that "
        "it measured its cores to give. MBU: bytes of weights and KV that they had to read, over the "
        "memory rate that it measured. Where nodes do not say: from --tokenizer (a whole model) and "
        "--roofline, without KV.</p>\n");
}

static void settings(struct str *out, const struct bench_options *o)
{
    struct str value = {0};

    str_adds(out,
             "<details><summary>Every option of this run</summary><div class=\"scroll\"><table>\n");
    for (size_t i = 0; i < bench_option_table.n; i++) {
        const struct option *option = &bench_option_table.options[i];

        str_clear(&value);
        option_text(option, o, &value);
        if (value.len == 0)
            continue;
        str_addf(out, "<tr><td>%s<td class=\"v\">", option->key);
        html_text(out, strcmp(option->key, "header") == 0 ? "..." : str_text(&value));
        str_adds(out, "</tr>\n");
    }
    str_adds(out, "</table></div></details>\n");
    str_fini(&value);
}

void html_report(struct str *out, const json_t *root, struct figures *f, const struct result *r,
                 const struct bench_options *o, const struct roof *roof)
{
    static void (*const panels[])(struct str *out, const struct panels *p) = {
        panel_goodput, panel_rate_latency, panel_percentiles, panel_prompt_length, panel_stages,
        panel_waterfall, panel_tokens, panel_in_flight, panel_nodes, panel_roofline};
    const struct panels p = {f, r, o, root, roof};
    struct str load = {0};

    table_load(&load, r, o);
    str_addf(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
        "content=\"width=device-width,initial-scale=1\"><title>tandem-bench</title>\n<style>%s</"
        "style>"
        "</head><body><main>\n<h1>",
        style);
    html_text(out, *r->model ? r->model : "tandem-bench");
    str_adds(out, "</h1><p>");
    html_text(out, r->url);
    str_adds(out, " \xc2\xb7 ");
    html_text(out, str_text(&load));
    str_addf(out, " \xc2\xb7 %s</p>\n", r->started);
    verdicts(out, root, f, r, o);
    tiles(out, f);
    str_adds(out, "<div class=\"charts\">\n");
    for (size_t i = 0; i < sizeof(panels) / sizeof(panels[0]); i++)
        panels[i](out, &p);
    str_adds(out, "</div>\n");
    latency_table(out, f);
    stage_table(out, f);
    node_table(out, r, roof);
    settings(out, o);
    str_adds(out, "<p>tandem-bench " TANDEM_VERSION "</p></main></body></html>\n");
    str_fini(&load);
}
