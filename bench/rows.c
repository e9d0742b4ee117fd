#include "bench/rows.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

static int64_t origin(const struct result *r)
{
    int64_t first = INT64_MAX;

    for (size_t i = 0; i < r->n; i++)
        first = r->records[i].start < first ? r->records[i].start : first;
    return first;
}

static void number(struct str *out, double x, const char *unknown)
{
    if (x >= 0)
        str_addf(out, "%.3f", x);
    else
        str_adds(out, unknown);
}

static double since(int64_t at, int64_t start) { return at > 0 ? clock_ms(at - start) : -1; }

/* A server's words: nothing that CSV would read as more than a cell. */
static void cell(struct str *out, const char *text)
{
    str_addc(out, ',');
    for (; *text; text++)
        str_addc(out, *text == ',' || *text == '"' || *text == '\\' || (unsigned char)*text < ' '
                          ? '_'
                          : *text);
}

static void csv_row(struct str *out, const struct record *c, int64_t zero)
{
    double ms[METRIC_COUNT], stages[STAGE_COUNT];

    record_metrics(c, ms);
    record_stages(c, stages);
    str_addf(out, "%u,%u,%s,%.3f,%.3f,", c->item, c->turn, outcome_name(c->outcome),
             since(c->start, zero), since(c->sent, zero));
    number(out, since(c->first, zero), "");
    str_addf(out, ",%.3f,%u,%u,%u", since(c->done, zero), c->prompt_tokens, c->output_tokens,
             c->cached_tokens);
    for (int m = 0; m < METRIC_COUNT; m++) {
        str_addc(out, ',');
        number(out, ms[m], "");
    }
    for (int s = 0; s < STAGE_COUNT; s++) {
        str_addc(out, ',');
        number(out, stages[s], "");
    }
    cell(out, c->server.prefill_node);
    cell(out, c->server.decode_node);
    str_addf(out, ",%u\n", c->server.restarts);
}

void rows_csv(struct str *out, const struct result *r)
{
    int64_t zero = origin(r);

    str_adds(out,
             "request,turn,outcome,due_ms,sent_ms,first_ms,done_ms,prompt_tokens,output_tokens,"
             "cached_tokens");
    for (int m = 0; m < METRIC_COUNT; m++)
        str_addf(out, ",%s_ms", metric_name((enum metric)m));
    for (int i = 0; i < STAGE_COUNT; i++)
        str_addf(out, ",%s_ms", stage_name((enum stage)i));
    str_adds(out, ",prefill_node,decode_node,restarts\n");
    for (size_t i = 0; i < r->n; i++)
        csv_row(out, &r->records[i], zero);
}

static void set_ms(json_t *o, const char *key, double ms)
{
    json_object_set_new(o, key, ms >= 0 ? json_real(ms) : json_null());
}

static void set_text(json_t *o, const char *key, const char *text, size_t n)
{
    json_t *value = json_stringn(text, n); /* NULL: not UTF-8 */

    json_object_set_new(o, key, value ? value : json_null());
}

static json_t *record_value(const struct record *c, int64_t zero)
{
    json_t *out = json_pack("{s:i, s:i, s:s, s:i, s:i, s:i}", "request", (int)c->item, "turn",
                            (int)c->turn, "outcome", outcome_name(c->outcome), "prompt_tokens",
                            (int)c->prompt_tokens, "output_tokens", (int)c->output_tokens,
                            "cached_tokens", (int)c->cached_tokens);
    json_t *stages = json_object(), *gaps = json_array();
    double ms[METRIC_COUNT], stage[STAGE_COUNT];
    char key[16];

    record_metrics(c, ms);
    record_stages(c, stage);
    set_ms(out, "due_ms", since(c->start, zero));
    set_ms(out, "sent_ms", since(c->sent, zero));
    set_ms(out, "first_ms", since(c->first, zero));
    set_ms(out, "done_ms", since(c->done, zero));
    for (int i = 0; i < METRIC_COUNT; i++) {
        snprintf(key, sizeof(key), "%s_ms", metric_name((enum metric)i));
        set_ms(out, key, ms[i]);
    }
    for (int i = 0; i < STAGE_COUNT; i++)
        if (stage[i] >= 0)
            set_ms(stages, stage_name((enum stage)i), stage[i]);
    for (uint32_t i = 0; i + 1 < c->outputs; i++)
        json_array_append_new(gaps, json_real((double)c->gaps_ms[i]));
    json_object_set_new(out, "stages_ms", stages);
    json_object_set_new(out, "gaps_ms", gaps);
    set_text(out, "prefill_node", c->server.prefill_node, strlen(c->server.prefill_node));
    set_text(out, "decode_node", c->server.decode_node, strlen(c->server.decode_node));
    json_object_set_new(out, "restarts", json_integer(c->server.restarts));
    json_object_set_new(out, "kv_bytes", json_integer((json_int_t)c->server.kv_bytes));
    if (c->text.len > 0)
        set_text(out, "text", c->text.data, c->text.len);
    return out;
}

void rows_jsonl(struct str *out, const struct result *r)
{
    int64_t zero = origin(r);

    for (size_t i = 0; i < r->n; i++) {
        json_t *value = record_value(&r->records[i], zero);
        char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(7));

        str_adds(out, text);
        str_addc(out, '\n');
        free(text); /* jansson's */
        json_decref(value);
    }
}

static void span(struct str *out, const char *name, uint32_t lane, double at_ms, double ms)
{
    str_addf(out, "{\"name\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":%u,\"ts\":%.1f,\"dur\":%.1f",
             name, lane + 1, at_ms * 1000, ms * 1000);
}

static void trace_record(struct str *out, const struct record *c, uint32_t lane, int64_t zero)
{
    double at[STAGE_COUNT], ms[STAGE_COUNT], start = since(c->start, zero);
    char name[48];

    snprintf(name, sizeof(name), "request %u.%u", c->item, c->turn);
    span(out, name, lane, start, clock_ms(c->done - c->start));
    str_addf(out, ",\"args\":{\"outcome\":\"%s\",\"prompt_tokens\":%u,\"output_tokens\":%u}},\n",
             outcome_name(c->outcome), c->prompt_tokens, c->output_tokens);
    record_spans(c, at, ms);
    for (int i = 0; i < STAGE_COUNT; i++)
        if (ms[i] > 0) {
            span(out, stage_name((enum stage)i), lane, start + at[i], ms[i]);
            str_adds(out, "},\n");
        }
}

static void trace_nodes(struct str *out, const struct result *r, int64_t zero)
{
    for (uint32_t i = 0; i < r->nodes.n; i++) {
        const struct monitor_node *n = &r->nodes.list[i];

        for (size_t k = 0; k < n->n; k++) {
            struct str name = {0};

            cell(&name, n->name);
            str_addf(out,
                     "{\"name\":\"%s\",\"ph\":\"C\",\"pid\":2,\"ts\":%.1f,\"args\":{\"running\":%g,"
                     "\"queued\":%g}},\n",
                     str_text(&name) + 1, clock_ms(n->samples[k].at - zero) * 1000,
                     (double)n->samples[k].values[MONITOR_RUNNING],
                     (double)n->samples[k].values[MONITOR_QUEUED]);
            str_fini(&name);
        }
    }
}

/* The first lane that is free at the time; lanes[n] hold until when each is taken. */
static uint32_t lane_take(int64_t *lanes, uint32_t *n, const struct record *c)
{
    uint32_t lane = 0;

    while (lane < *n && lanes[lane] > c->start)
        lane++;
    *n += lane == *n;
    lanes[lane] = c->done;
    return lane;
}

void rows_trace(struct str *out, const struct result *r)
{
    const struct record **list = mem_calloc(r->n, sizeof(*list));
    int64_t *lanes = mem_calloc(r->n, sizeof(*lanes)), zero = origin(r);
    uint32_t n_lanes = 0;

    for (size_t i = 0; i < r->n; i++)
        list[i] = &r->records[i];
    qsort(list, r->n, sizeof(*list), record_by_start);
    str_adds(out, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
    for (size_t i = 0; i < r->n; i++)
        trace_record(out, list[i], lane_take(lanes, &n_lanes, list[i]), zero);
    trace_nodes(out, r, zero);
    str_adds(
        out,
        "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"args\":{\"name\":\"requests\"}},\n"
        "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":2,\"args\":{\"name\":\"nodes\"}}]}\n");
    mem_free(list);
    mem_free(lanes);
}
