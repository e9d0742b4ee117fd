#include "bench/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

static void set(json_t *o, const char *key, json_t *value) { json_object_set_new(o, key, value); }
static void set_n(json_t *o, const char *key, uint64_t n)
{
    set(o, key, json_integer((json_int_t)n));
}

/* JSON has no infinity: null. */
static json_t *real(double x) { return isfinite(x) ? json_real(x) : json_null(); }

/* A string; what is not UTF-8, a server's words maybe, is null. */
static json_t *string(const char *s, size_t n)
{
    json_t *out = json_stringn(s, n);

    return out ? out : json_null();
}

static void date_set(json_t *o)
{
    char date[32];
    time_t now = time(NULL);
    struct tm tm;

    strftime(date, sizeof(date), "%Y%m%d-%H%M%S", localtime_r(&now, &tm)); /* vLLM's form */
    set(o, "date", json_string(date));
}

static void metric_set(json_t *out, enum metric m, struct figures *f, const char *percentiles)
{
    const struct stats *s = &f->metrics[m];
    const struct {
        const char *name;
        double value;
    } list[] = {{"mean", s->mean}, {"median", s->p50}, {"std", s->std}, {"min", s->min},
                {"max", s->max}};
    char key[48];

    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        snprintf(key, sizeof(key), "%s_%s_ms", list[i].name, metric_name(m));
        set(out, key, json_real(list[i].value));
    }
    for (const char *p = percentiles; *p; p += strcspn(p, ","), p += *p == ',') {
        double q = strtod(p, NULL);

        snprintf(key, sizeof(key), "p%g_%s_ms", q, metric_name(m));
        set(out, key, json_real(series_percentile(&f->values[m], q)));
    }
}

static json_t *stats_value(const struct stats *s)
{
    return json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f}", "n", (json_int_t)s->n, "mean", s->mean,
                     "p50", s->p50, "p90", s->p90, "p95", s->p95, "p99", s->p99, "max", s->max);
}

static json_t *stages_value(const struct figures *f)
{
    json_t *out = json_object();

    for (int i = 0; i < STAGE_COUNT; i++)
        if (f->stages[i].n > 0)
            set(out, stage_name((enum stage)i), stats_value(&f->stages[i]));
    return out;
}

static json_t *failures_value(const struct result *r)
{
    json_t *out = json_object();

    for (unsigned i = OUTCOME_OK + 1; i < OUTCOME_COUNT; i++) {
        const struct failures *f = &r->failures[i];

        if (f->count > 0)
            set(out, outcome_name((enum outcome)i),
                json_pack("{s:I, s:o}", "count", (json_int_t)f->count, "first",
                          string(f->first, strlen(f->first))));
    }
    return out;
}

/* Every option in force, as text, so that a result says how it was made. */
static json_t *settings_value(const struct bench_options *o)
{
    json_t *out = json_object();
    struct str value = {0};

    for (size_t i = 0; i < bench_option_table.n; i++) {
        const char *key = bench_option_table.options[i].key;
        bool secret = strcmp(key, "header") == 0; /* it may hold a key */

        str_clear(&value);
        option_text(&bench_option_table.options[i], o, &value);
        set(out, key, secret && value.len > 0 ? json_string("...")
                                              : string(str_text(&value), value.len));
    }
    str_fini(&value);
    return out;
}

static json_t *nodes_value(const struct result *r)
{
    const struct monitor_nodes *m = &r->nodes;
    json_t *out = json_array();

    for (uint32_t i = 0; i < m->n && m->seconds > 0; i++) {
        const struct monitor_node *n = &m->list[i];
        json_t *v = json_pack(
            "{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f}", "name", n->name, "role", n->role,
            "tokens_per_s", n->total[MONITOR_TOKENS] / m->seconds, "steps_per_s",
            n->total[MONITOR_STEPS] / m->seconds, "kv_bytes_per_s",
            n->total[MONITOR_KV_BYTES] / m->seconds, "running", monitor_mean(n, MONITOR_RUNNING),
            "queued", monitor_mean(n, MONITOR_QUEUED), "pages_used",
            monitor_mean(n, MONITOR_PAGES_USED));

        set(v, "mfu", n->peaks.flops > 0 ? json_real(monitor_mfu(m, n)) : json_null());
        set(v, "mbu", n->peaks.bytes > 0 ? json_real(monitor_mbu(m, n)) : json_null());
        json_array_append_new(out, v);
    }
    return out;
}

static json_t *goodput_value(const struct figures *f)
{
    json_t *out = json_object(), *targets = json_object();
    double low, high;

    for (int i = 0; i < METRIC_COUNT; i++)
        if (f->targets.ms[i] > 0)
            set(targets, metric_name((enum metric)i),
                json_pack("{s:f, s:I}", "ms", f->targets.ms[i], "missed",
                          (json_int_t)f->missed[i]));
    figures_wilson(&low, &high, f->good, f->judged);
    set(out, "targets", targets);
    set_n(out, "judged", f->judged);
    set_n(out, "good", f->good);
    set(out, "attainment", json_real(f->attainment));
    set(out, "attainment_95", json_pack("[f, f]", low, high));
    return out;
}

void json_details(json_t *root, const struct result *r)
{
    static const char *const keys[] = {"input_lens", "output_lens", "ttfts",       "tpots",
                                       "e2els",      "itls",        "start_times", "errors"};
    json_t *lists[sizeof(keys) / sizeof(keys[0])], *texts = json_array();

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        lists[i] = json_array();
        set(root, keys[i], lists[i]);
    }
    for (size_t i = 0; i < r->n; i++) {
        const struct record *c = &r->records[i];
        double ms[METRIC_COUNT];
        json_t *gaps = json_array();

        record_metrics(c, ms);
        for (uint32_t g = 0; g + 1 < c->outputs; g++)
            json_array_append_new(gaps, json_real((double)c->gaps_ms[g] / 1000));
        json_array_append_new(lists[0], json_integer(c->prompt_tokens));
        json_array_append_new(lists[1], json_integer(c->output_tokens));
        json_array_append_new(lists[2],
                              json_real(ms[METRIC_TTFT] >= 0 ? ms[METRIC_TTFT] / 1000 : 0));
        json_array_append_new(lists[3],
                              json_real(ms[METRIC_TPOT] >= 0 ? ms[METRIC_TPOT] / 1000 : 0));
        json_array_append_new(lists[4], json_real(ms[METRIC_E2EL] / 1000));
        json_array_append_new(lists[5], gaps);
        json_array_append_new(lists[6], json_real(clock_s(c->start)));
        json_array_append_new(
            lists[7], json_string(c->outcome == OUTCOME_OK ? "" : outcome_name(c->outcome)));
        json_array_append_new(texts, string(str_text(&c->text), c->text.len));
    }
    set(root, "generated_texts", texts);
}

static void load_set(json_t *root, const struct result *r, const struct bench_options *o)
{
    char host[64] = "";

    gethostname(host, sizeof(host) - 1);
    date_set(root);
    set(root, "version", json_string(TANDEM_VERSION));
    set(root, "started", json_string(r->started));
    set(root, "client_host", json_string(host));
    set(root, "backend", json_string(*o->native ? "tandem-native"
                                     : o->backend == BACKEND_CHAT ? "openai-chat" : "openai"));
    set(root, "endpoint_type", json_incref(json_object_get(root, "backend")));
    set(root, "url", json_string(r->url));
    set(root, "model_id", json_string(r->model));
    set(root, "tokenizer_id", json_string(bench_tokenizer(o)));
    set(root, "loop", json_string(r->open ? "open" : "closed"));
    set_n(root, "num_prompts", bench_prompts(o) == UINT32_MAX ? r->n : bench_prompts(o));
    /* vLLM writes "inf" as a string, too */
    set(root, "request_rate", isfinite(r->rate) ? json_real(r->rate) : json_string("inf"));
    set(root, "burstiness",
        isfinite(bench_number(o->burstiness)) ? json_real(bench_number(o->burstiness))
                                              : json_string("inf"));
    set(root, "max_concurrency",
        o->max_concurrency ? json_integer(o->max_concurrency) : json_null());
    set(root, "settings", settings_value(o));
}

static void counts_set(json_t *root, const struct figures *f, const struct result *r)
{
    set(root, "valid", json_boolean(f->valid));
    set(root, "note", json_string(f->note));
    set(root, "interrupted", json_boolean(r->interrupted));
    set(root, "saturated", json_boolean(r->saturated));
    set(root, "duration", json_real(f->seconds));
    set_n(root, "completed", f->ok);
    set_n(root, "failed", f->failed);
    set_n(root, "client_cancelled", f->left);
    set_n(root, "cut", f->cut);
    set(root, "failures", failures_value(r));
    set_n(root, "total_input_tokens", f->prompt_tokens);
    set_n(root, "total_output_tokens", f->output_tokens);
    set_n(root, "cached_input_tokens", f->cached_tokens);
    set_n(root, "prompt_token_mismatches", f->prompt_mismatches);
    set_n(root, "output_token_mismatches", f->output_mismatches);
    set(root, "request_throughput", json_real(f->requests_per_s));
    set(root, "requests_per_minute", json_real(f->requests_per_s * 60));
    set(root, "request_goodput", f->targets.n > 0 ? json_real(f->goodput) : json_null());
    set(root, "input_throughput", json_real(f->input_tokens_per_s));
    set(root, "output_throughput", json_real(f->output_tokens_per_s));
    set(root, "total_token_throughput", json_real(f->input_tokens_per_s + f->output_tokens_per_s));
    if (f->batches.requests_per_s[1] > 0) {
        set(root, "request_throughput_95", json_pack("[f, f]", f->batches.requests_per_s[0],
                                                     f->batches.requests_per_s[1]));
        set(root, "output_throughput_95", json_pack("[f, f]", f->batches.output_tokens_per_s[0],
                                                    f->batches.output_tokens_per_s[1]));
    }
    set_n(root, "max_concurrent_requests", f->peak_concurrency);
}

static json_t *known(double x) { return x >= 0 ? json_real(x) : json_null(); }

json_t *json_result(struct figures *f, const struct result *r, const struct bench_options *o)
{
    json_t *root = json_object();
    const char *names = o->percentile_metrics;

    load_set(root, r, o);
    counts_set(root, f, r);
    for (size_t n; *names; names += n + (names[n] == ',')) {
        enum metric m = metric_find(names, n = strcspn(names, ","));

        if (m < METRIC_COUNT)
            metric_set(root, m, f, o->metric_percentiles);
    }
    set(root, "goodput", goodput_value(f));
    set(root, "stages_ms", stages_value(f));
    set(root, "nodes", nodes_value(r));
    set(root, "start_lag_ms", stats_value(&f->start_lag));
    set(root, "loop_lag_ms", stats_value(&f->loop_lag));
    set(root, "client_cpu", real(f->client_cpu));
    set(root, "cost_per_million_output_tokens", known(f->cost_output));
    set(root, "cost_per_million_tokens", known(f->cost_total));
    set(root, "cost_per_1000_requests", known(f->cost_requests));
    set(root, "joules", known(f->joules));
    set(root, "output_tokens_per_joule", known(f->tokens_per_joule));
    if (o->save_detailed)
        json_details(root, r);
    return root;
}

void json_text(struct str *out, const json_t *value)
{
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(9));

    str_adds(out, text);
    str_addc(out, '\n');
    free(text); /* jansson's */
}

void json_path(char *out, size_t size, const struct result *r, const struct bench_options *o)
{
    const char *slash = *o->result_dir ? "/" : "", *model = strrchr(r->model, '/');
    char name[320], rate[24], date[24];
    time_t now = time(NULL);
    struct tm tm;

    *out = '\0';
    if (*o->result_filename && (strcmp(o->result_filename, "-") == 0 || *o->result_filename == '/'))
        snprintf(out, size, "%s", o->result_filename);
    else if (*o->result_filename)
        snprintf(out, size, "%s%s%s", o->result_dir, slash, o->result_filename);
    if (*out || !(o->save_result || o->save_detailed))
        return;
    strftime(date, sizeof(date), "%Y%m%d-%H%M%S", localtime_r(&now, &tm));
    snprintf(rate, sizeof(rate), isfinite(r->rate) ? "%g" : "inf", r->rate);
    snprintf(name, sizeof(name), "openai-%sqps-%s-%s.json", rate, model ? model + 1 : r->model,
             date);
    snprintf(out, size, "%s%s%s", o->result_dir, slash, name);
}
