#include "bench/report.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

/* Takes one successful record into the latencies. */
static void record_take(struct summary *s, const struct record *r, struct series *ttft,
                        struct series *tpot, struct series *e2e)
{
    s->ok++;
    s->prompt_tokens += r->prompt_tokens;
    s->output_tokens += r->output_tokens;
    series_add(e2e, clock_ms(r->done - r->start));
    if (r->outputs > 0)
        series_add(ttft, clock_ms(r->first - r->start));
    if (r->outputs > 1 && r->output_tokens > 1)
        series_add(tpot, clock_ms(r->last - r->first) / (r->output_tokens - 1));
}

static void validity(struct summary *s, const struct bench_options *o)
{
    bool slow = s->loop_lag.p99 > REPORT_LAG_LIMIT_MS;

    s->valid = !slow || o->rate <= 0;
    if (slow)
        snprintf(s->note, sizeof(s->note),
                 "the client was the bottleneck: p99 of its event loop's lag is %.1f ms, over %.0f ms",
                 s->loop_lag.p99, REPORT_LAG_LIMIT_MS);
}

void report_summarize(struct summary *s, struct result *r, const struct bench_options *o)
{
    struct series ttft = {0}, tpot = {0}, e2e = {0};
    int64_t start = INT64_MAX, end = INT64_MIN;

    memset(s, 0, sizeof(*s));
    s->requests = r->n;
    for (size_t i = 0; i < r->n; i++) {
        const struct record *record = &r->records[i];

        start = record->start < start ? record->start : start;
        end = record->done > end ? record->done : end;
        if (record->outcome == OUTCOME_OK)
            record_take(s, record, &ttft, &tpot, &e2e);
    }
    s->cancelled = r->failures[OUTCOME_CANCELLED].count;
    s->failed = s->requests - s->ok - s->cancelled;
    s->seconds = r->n > 0 ? clock_s(end - start) : 0;
    if (s->seconds > 0) {
        s->requests_per_s = (double)s->ok / s->seconds;
        s->input_tokens_per_s = (double)s->prompt_tokens / s->seconds;
        s->output_tokens_per_s = (double)s->output_tokens / s->seconds;
    }
    s->ttft = series_stats(&ttft);
    s->tpot = series_stats(&tpot);
    s->e2e = series_stats(&e2e);
    s->itl = series_stats(&r->itl_ms);
    s->start_lag = series_stats(&r->start_lag_ms);
    s->loop_lag = series_stats(&r->loop_lag_ms);
    validity(s, o);
    series_fini(&ttft);
    series_fini(&tpot);
    series_fini(&e2e);
}

static const char *target(const struct bench_options *o)
{
    return *o->native ? o->native : o->url;
}

static void table_head(struct str *out, const struct result *r, const struct bench_options *o)
{
    str_addf(out, "%s%s%s\n", target(o), *r->model ? "  model " : "", r->model);
    if (o->rate > 0)
        str_addf(out, "open loop, %g requests/s (Poisson), seed %" PRIu64, o->rate, o->seed);
    else
        str_addf(out, "closed loop, concurrency %u, seed %" PRIu64, o->concurrency, o->seed);
    str_addf(out, ", %u warm-up%s\n\n", o->warmup, r->interrupted ? ", INTERRUPTED" : "");
}

static void table_failures(struct str *out, const struct result *r)
{
    for (unsigned i = OUTCOME_OK + 1; i < OUTCOME_COUNT; i++)
        if (r->failures[i].count > 0)
            str_addf(out, "  %-11s %" PRIu64 ": %s\n", outcome_name((enum outcome)i),
                     r->failures[i].count, r->failures[i].first);
}

static void table_row(struct str *out, const char *name, const struct stats *s)
{
    if (s->n > 0)
        str_addf(out, "%-12s %10.2f %10.2f %10.2f %10.2f %10.2f %10.2f\n", name, s->mean, s->p50,
                 s->p90, s->p95, s->p99, s->max);
}

void report_table(struct str *out, const struct summary *s, const struct result *r,
                  const struct bench_options *o)
{
    table_head(out, r, o);
    str_addf(out, "requests     %" PRIu64 " ok, %" PRIu64 " failed in %.2f s: %.2f/s\n", s->ok,
             s->failed, s->seconds, s->requests_per_s);
    table_failures(out, r);
    str_addf(out, "tokens in    %" PRIu64 ": %.1f/s\ntokens out   %" PRIu64 ": %.1f/s\n\n",
             s->prompt_tokens, s->input_tokens_per_s, s->output_tokens, s->output_tokens_per_s);
    str_addf(out, "%-12s %10s %10s %10s %10s %10s %10s\n", "ms", "mean", "p50", "p90", "p95", "p99",
             "max");
    table_row(out, "TTFT", &s->ttft);
    table_row(out, "TPOT", &s->tpot);
    table_row(out, "ITL", &s->itl);
    table_row(out, "E2E", &s->e2e);
    table_row(out, "start lag", &s->start_lag);
    table_row(out, "loop lag", &s->loop_lag);
    if (r->prompt_mismatches > 0)
        str_addf(out, "\nNOTE: of %" PRIu64 " requests the server counted other prompt tokens than %u\n",
                 r->prompt_mismatches, o->prompt_tokens);
    if (*s->note)
        str_addf(out, "\n%s: %s\n", s->valid ? "NOTE" : "INVALID", s->note);
}

static json_t *json_stats(const struct stats *s)
{
    return json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f}", "n", (json_int_t)s->n, "mean", s->mean,
                     "p50", s->p50, "p90", s->p90, "p95", s->p95, "p99", s->p99, "max", s->max);
}

static json_t *json_failures(const struct result *r)
{
    json_t *out = json_object();

    for (unsigned i = OUTCOME_OK + 1; i < OUTCOME_COUNT; i++) {
        const struct failures *f = &r->failures[i];
        json_t *first = f->count > 0 ? json_string(f->first) : NULL;

        if (f->count == 0)
            continue;
        if (!first) /* a server's text that is not UTF-8 */
            first = json_null();
        json_object_set_new(out, outcome_name((enum outcome)i),
                            json_pack("{s:I, s:o}", "count", (json_int_t)f->count, "first", first));
    }
    return out;
}

/* Every option in force, as text, so that a result says how it was made. */
static json_t *json_settings(const struct bench_options *o)
{
    json_t *out = json_object();
    struct str value = {0};

    for (size_t i = 0; i < bench_option_table.n; i++) {
        str_clear(&value);
        option_text(&bench_option_table.options[i], o, &value);
        json_object_set_new(out, bench_option_table.options[i].key, json_string(str_text(&value)));
    }
    str_fini(&value);
    return out;
}

void report_json(struct str *out, const struct summary *s, const struct result *r,
                 const struct bench_options *o)
{
    char host[64] = "";
    json_t *root = json_object();
    char *text;

    gethostname(host, sizeof(host) - 1);
    json_object_set_new(root, "version", json_string(TANDEM_VERSION));
    json_object_set_new(root, "started", json_string(r->started));
    json_object_set_new(root, "client_host", json_string(host));
    json_object_set_new(root, "target", json_string(target(o)));
    json_object_set_new(root, "served_model", json_string(r->model));
    json_object_set_new(root, "loop", json_string(o->rate > 0 ? "open" : "closed"));
    json_object_set_new(root, "settings", json_settings(o));
    json_object_set_new(root, "valid", json_boolean(s->valid));
    json_object_set_new(root, "invalid_because", s->valid ? json_null() : json_string(s->note));
    json_object_set_new(root, "interrupted", json_boolean(r->interrupted));
    json_object_set_new(root, "duration_s", json_real(s->seconds));
    json_object_set_new(root, "requests", json_integer((json_int_t)s->requests));
    json_object_set_new(root, "ok", json_integer((json_int_t)s->ok));
    json_object_set_new(root, "failed", json_integer((json_int_t)s->failed));
    json_object_set_new(root, "cancelled", json_integer((json_int_t)s->cancelled));
    json_object_set_new(root, "errors", json_failures(r));
    json_object_set_new(root, "prompt_token_mismatches",
                        json_integer((json_int_t)r->prompt_mismatches));
    json_object_set_new(root, "input_tokens", json_integer((json_int_t)s->prompt_tokens));
    json_object_set_new(root, "output_tokens", json_integer((json_int_t)s->output_tokens));
    json_object_set_new(root, "requests_per_s", json_real(s->requests_per_s));
    json_object_set_new(root, "input_tokens_per_s", json_real(s->input_tokens_per_s));
    json_object_set_new(root, "output_tokens_per_s", json_real(s->output_tokens_per_s));
    json_object_set_new(root, "ttft_ms", json_stats(&s->ttft));
    json_object_set_new(root, "tpot_ms", json_stats(&s->tpot));
    json_object_set_new(root, "itl_ms", json_stats(&s->itl));
    json_object_set_new(root, "e2e_ms", json_stats(&s->e2e));
    json_object_set_new(root, "start_lag_ms", json_stats(&s->start_lag));
    json_object_set_new(root, "loop_lag_ms", json_stats(&s->loop_lag));
    text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    str_adds(out, text);
    str_addc(out, '\n');
    free(text); /* jansson's */
    json_decref(root);
}

int report_write(const char *path, const struct str *text, struct err *e)
{
    bool to_stdout = strcmp(path, "-") == 0;
    FILE *f = to_stdout ? stdout : fopen(path, "w");
    bool good;

    if (!f)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    good = fwrite(str_text(text), 1, text->len, f) == text->len;
    good = (to_stdout ? fflush(f) : fclose(f)) == 0 && good;
    return good ? ERR_OK : err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
}
