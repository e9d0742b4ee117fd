#include "bench/panels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "bench/chart.h"

#define PLOT_HEIGHT 190
#define POINTS_MAX 1500 /* dots of a scatter: more make a file large and show no more */

/* Percentile p stands at -log10(1 - p / 100): 90, 99 and 99.9 are equally far apart. */
static double tail(double p) { return -log10(1 - p / 100); }

void panel_percentiles(struct str *out, const struct panels *p)
{
    static const struct {
        enum metric m;
        const char *class, *name;
    } lines[] = {{METRIC_E2EL, "c4", "E2EL"},
                 {METRIC_TTFT, "c1", "TTFT"},
                 {METRIC_TPOT, "c2", "TPOT"},
                 {METRIC_ITL, "c3", "ITL"}};
    static const char *const names[] = {"0", "50", "90", "99", "99.9"};
    const double ticks[] = {0, tail(50), tail(90), tail(99), tail(99.9)};
    struct chart_axis x = {.label = "percentile", .to = tail(99.95), .ticks = ticks,
                           .tick_names = names, .n_ticks = 5}, y;
    double low = INFINITY, high = 0;
    struct chart c;

    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        double median = series_percentile(&p->figures->values[lines[i].m], 5);

        low = median > 0 ? fmin(low, median) : low;
        high = fmax(high, p->figures->metrics[lines[i].m].max);
    }
    if (high <= 0)
        return;
    y = chart_axis_fit("ms", low, high, true);
    chart_open(&c, out, "Latency by percentile",
               "Every value was measured; nothing is interpolated.", true, PLOT_HEIGHT, &x, &y);
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct series *s = &p->figures->values[lines[i].m];
        struct chart_point points[120];
        double last = s->n > 1 ? tail(100 - 50.0 / (double)s->n) : 0;
        size_t n = 0;

        if (s->n == 0)
            continue;
        for (; n < ARRAY_LEN(points); n++) {
            double u = fmin(last, x.to) * (double)n / (ARRAY_LEN(points) - 1);

            points[n] = (struct chart_point){u, series_percentile(s, 100 * (1 - pow(10, -u)))};
        }
        chart_line(&c, lines[i].class, points, n);
        chart_legend(&c, lines[i].class, lines[i].name);
    }
    chart_close(&c);
}

void panel_prompt_length(struct str *out, const struct panels *p)
{
    const struct result *r = p->result;
    double max_x = 0, max_y = 0, target = p->figures->targets.ms[METRIC_TTFT];
    size_t step = r->n / POINTS_MAX + 1;
    struct chart_axis x, y;
    struct chart c;

    for (size_t i = 0; i < r->n; i++)
        if (r->records[i].outcome == OUTCOME_OK && r->records[i].first > 0) {
            max_x = fmax(max_x, r->records[i].prompt_tokens);
            max_y = fmax(max_y, clock_ms(r->records[i].first - r->records[i].start));
        }
    if (max_x <= 0 || max_y <= 0)
        return;
    x = chart_axis_fit("prompt tokens", 0, max_x, false);
    y = chart_axis_fit("TTFT, ms", 0, target < 2 * max_y ? fmax(max_y, target) : max_y, false);
    chart_open(&c, out, "Time to first token by prompt length", NULL, false, PLOT_HEIGHT, &x, &y);
    for (size_t i = 0; i < r->n; i += step) {
        const struct record *q = &r->records[i];
        double ttft = clock_ms(q->first - q->start);
        char tip[80];

        if (q->outcome != OUTCOME_OK || q->first == 0)
            continue;
        snprintf(tip, sizeof(tip), "request %u: %u tokens, %.1f ms", q->item, q->prompt_tokens,
                 ttft);
        chart_dot(&c, target > 0 && ttft > target ? "c2 soft" : "c1 soft", q->prompt_tokens, ttft,
                  3, tip);
    }
    if (target > 0 && target <= y.to)
        chart_hline(&c, target, "target");
    chart_close(&c);
}

static void stage_bars(struct chart *c, const double at[STAGE_COUNT], const double ms[STAGE_COUNT],
                       double start, double y, double thick, bool tips)
{
    for (int s = 0; s < STAGE_COUNT; s++) {
        char class[24], tip[80];

        if (ms[s] <= 0)
            continue;
        snprintf(class, sizeof(class), "s%d", s);
        snprintf(tip, sizeof(tip), "%s: %.2f ms", stage_name((enum stage)s), ms[s]);
        chart_bar(c, class, start + at[s], start + at[s] + ms[s], y, thick, tips ? tip : NULL);
    }
}

static void stage_legend(struct str *out, const struct figures *f)
{
    str_adds(out, "<p class=\"keys\">");
    for (int s = 0; s < STAGE_COUNT; s++)
        if (f->stages[s].n > 0 && f->stages[s].max > 0)
            str_addf(out, "<span><i class=\"s%d\"></i>%s</span> ", s, stage_name((enum stage)s));
    str_adds(out, "</p>\n");
}

static int by_e2el(const void *a, const void *b)
{
    const struct record *x = *(const struct record *const *)a,
                        *y = *(const struct record *const *)b;
    int64_t d = (x->done - x->start) - (y->done - y->start);

    return d < 0 ? -1 : d > 0;
}

/* The successful requests in order; mem_free. */
static const struct record **sorted(size_t *n, const struct result *r,
                                    int (*order)(const void *a, const void *b))
{
    const struct record **list = mem_calloc(r->n + 1, sizeof(*list));

    *n = 0;
    for (size_t i = 0; i < r->n; i++)
        if (r->records[i].outcome == OUTCOME_OK && r->records[i].first > 0)
            list[(*n)++] = &r->records[i];
    qsort(list, *n, sizeof(*list), order);
    return list;
}

void panel_stages(struct str *out, const struct panels *p)
{
    static const char *const names[] = {"slowest", "p99", "p90", "median"};
    static const double ticks[] = {0.5, 1.5, 2.5, 3.5};
    struct chart_axis x,
        y = {.label = "", .to = 4, .ticks = ticks, .tick_names = names, .n_ticks = 4};
    struct chart c;
    size_t n;
    const struct record **list = sorted(&n, p->result, by_e2el);

    if (n == 0) {
        mem_free(list);
        return;
    }
    x = chart_axis_fit("ms since it was due", 0, clock_ms(list[n - 1]->done - list[n - 1]->start),
                       false);
    chart_open(&c, out, "A request on its way through the nodes",
               "Of all requests by end-to-end time: the median, and three of the slow ones.", false,
               150, &x, &y);
    for (int i = 0; i < 4; i++) {
        size_t rank = (size_t)ceil((double[]){100, 99, 90, 50}[i] / 100 * (double)n);
        const struct record *r = list[rank > 0 ? rank - 1 : 0];
        double at[STAGE_COUNT], ms[STAGE_COUNT];
        char text[120];

        record_spans(r, at, ms);
        stage_bars(&c, at, ms, 0, ticks[i], 16, true);
        snprintf(text, sizeof(text), "request %u: %u in, %u out%s%s%s%s", r->item, r->prompt_tokens,
                 r->output_tokens, *r->server.prefill_node ? ", " : "", r->server.prefill_node,
                 *r->server.decode_node ? " > " : "", r->server.decode_node);
        chart_text(&c, 0, ticks[i] + 0.27, "start", text);
    }
    chart_close(&c);
    out->len -= strlen("</figure>\n"); /* the legend belongs to it */
    stage_legend(out, p->figures);
    str_adds(out, "</figure>\n");
    mem_free(list);
}

void panel_waterfall(struct str *out, const struct panels *p)
{
    enum { ROWS = 60 };
    static const double no_ticks[1];
    static const char *const no_names[1] = {""};
    struct chart_axis x, y = {.label = "", .to = 1, .ticks = no_ticks, .tick_names = no_names};
    struct chart c;
    size_t n, rows;
    const struct record **list = sorted(&n, p->result, record_by_start);

    rows = n < ROWS ? n : ROWS;
    if (n > 0) {
        int64_t zero = list[0]->start;
        double end = 0;

        for (size_t i = 0; i < rows; i++)
            end = fmax(end, clock_ms(list[i]->done - zero));
        x = chart_axis_fit("ms since the first was due", 0, end, false);
        y.to = (double)rows;
        chart_open(&c, out, "Requests in time", n > rows ? "The first 60, each by its stages."
                                                         : "Each by its stages.",
                   false, 8 + 5.0 * (double)rows, &x, &y);
        for (size_t i = 0; i < rows; i++) {
            double at[STAGE_COUNT], ms[STAGE_COUNT];

            record_spans(list[i], at, ms);
            stage_bars(&c, at, ms, clock_ms(list[i]->start - zero), (double)rows - (double)i - 0.5,
                       4, false);
        }
        chart_close(&c);
    }
    mem_free(list);
}

/* Tokens/s, or requests in flight, over the first segment, in buckets. */
static size_t buckets_make(struct chart_point *out, size_t n, const struct result *r, bool tokens)
{
    int64_t zero = INT64_MAX, end = 0;
    double width;

    for (size_t i = 0; i < r->n; i++)
        if (r->records[i].segment == 0) {
            zero = r->records[i].start < zero ? r->records[i].start : zero;
            end = r->records[i].done > end ? r->records[i].done : end;
        }
    if (end <= zero)
        return 0;
    width = clock_s(end - zero) / (double)n;
    for (size_t b = 0; b < n; b++)
        out[b] = (struct chart_point){((double)b + 0.5) * width, 0};
    for (size_t i = 0; i < r->n; i++) {
        const struct record *q = &r->records[i];
        double t = clock_s(q->first - zero),
               each = (double)q->output_tokens / (q->outputs ? q->outputs : 1);

        if (q->segment != 0)
            continue;
        for (uint32_t k = 0; tokens && k < q->outputs; k++) {
            size_t b = (size_t)(t / width);

            out[b < n ? b : n - 1].y += each / width;
            t += k + 1 < q->outputs ? (double)q->gaps_ms[k] / 1000 : 0;
        }
        for (size_t b = 0; !tokens && b < n; b++)
            out[b].y += clock_s(q->sent - zero) <= out[b].x && clock_s(q->done - zero) > out[b].x;
    }
    return n;
}

static void over_time(struct str *out, const struct panels *p, bool tokens)
{
    struct chart_point points[80];
    size_t n = buckets_make(points, ARRAY_LEN(points), p->result, tokens);
    struct chart_axis x, y;
    double max = 0;
    struct chart c;

    for (size_t i = 0; i < n; i++)
        max = fmax(max, points[i].y);
    if (n == 0 || max <= 0)
        return;
    x = chart_axis_fit("s", 0, points[n - 1].x, false);
    y = chart_axis_fit(tokens ? "tokens/s" : "requests", 0, max, false);
    chart_open(&c, out, tokens ? "Output tokens over time" : "Requests in flight over time", NULL,
               false, 150, &x, &y);
    chart_line(&c, "c1", points, n);
    chart_close(&c);
}

void panel_tokens(struct str *out, const struct panels *p) { over_time(out, p, true); }
void panel_in_flight(struct str *out, const struct panels *p) { over_time(out, p, false); }

void panel_nodes(struct str *out, const struct panels *p)
{
    const struct monitor_nodes *m = &p->result->nodes;
    const char *names[MONITOR_NODES_MAX];
    double ticks[MONITOR_NODES_MAX], max = 0, end = 0;
    struct chart_axis x,
        y = {.label = "", .to = m->n, .ticks = ticks, .tick_names = names, .n_ticks = m->n};
    struct chart c;

    if (m->n == 0 || m->list[0].n < 3)
        return;
    for (uint32_t i = 0; i < m->n; i++) {
        names[i] = m->list[i].name;
        ticks[i] = m->n - i - 0.5;
        for (size_t k = 0; k < m->list[i].n; k++)
            max = fmax(max, (double)m->list[i].samples[k].values[MONITOR_RUNNING] +
                                (double)m->list[i].samples[k].values[MONITOR_QUEUED]);
    }
    end = clock_s(m->list[0].samples[m->list[0].n - 1].at - m->list[0].samples[0].at);
    x = chart_axis_fit("s", 0, end, false);
    chart_open(&c, out, "Load of the nodes", "Darker: more requests running and queued there.",
               false, 22.0 * m->n, &x, &y);
    for (uint32_t i = 0; i < m->n && max > 0; i++)
        for (size_t k = 0; k + 1 < m->list[i].n; k++) {
            const struct monitor_sample *s = &m->list[i].samples[k];
            double load = (double)s->values[MONITOR_RUNNING] + (double)s->values[MONITOR_QUEUED];
            int64_t zero = m->list[0].samples[0].at;
            char class[16], tip[80];

            snprintf(class, sizeof(class), "h%d", load > 0 ? 1 + (int)ceil(7 * load / max) : 0);
            snprintf(tip, sizeof(tip), "%s: %g running, %g queued", m->list[i].name,
                     (double)s->values[MONITOR_RUNNING], (double)s->values[MONITOR_QUEUED]);
            chart_bar(&c, class, clock_s(s->at - zero), clock_s(s[1].at - zero), ticks[i], 18, tip);
        }
    chart_close(&c);
}
