/* The figures over request rates, and the roofline; the rest of panels.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "bench/chart.h"
#include "bench/panels.h"

#define PLOT_HEIGHT 190

static double number(const json_t *point, const char *key)
{
    return json_number_value(json_object_get(point, key));
}

static int by_rate(const void *a, const void *b)
{
    double x = number(*(json_t *const *)a, "request_rate"),
           y = number(*(json_t *const *)b, "request_rate");

    return x < y ? -1 : x > y;
}

/* "points" of a result in order of their rates; mem_free. */
static json_t **points_sorted(size_t *n, const json_t *root)
{
    const json_t *list = json_object_get(root, "points");
    json_t **out;

    *n = json_array_size(list);
    out = mem_calloc(*n + 1, sizeof(*out));
    for (size_t i = 0; i < *n; i++)
        out[i] = json_array_get(list, i);
    qsort(out, *n, sizeof(*out), by_rate);
    return out;
}

static double largest(json_t **points, size_t n, const char *key)
{
    double max = 0;

    for (size_t i = 0; i < n; i++)
        max = fmax(max, number(points[i], key));
    return max;
}

static void curve(struct chart *c, json_t **points, size_t n, const char *key, const char *class,
                  const char *name)
{
    struct chart_point *line = mem_calloc(n, sizeof(*line));

    for (size_t i = 0; i < n; i++)
        line[i] = (struct chart_point){number(points[i], "request_rate"), number(points[i], key)};
    chart_line(c, class, line, n);
    for (size_t i = 0; i < n; i++) {
        char tip[120];

        snprintf(tip, sizeof(tip), "%s at %.3f requests/s: %.3f%s", name, line[i].x, line[i].y,
                 json_is_true(json_object_get(points[i], "saturated")) ? " (saturated)" : "");
        chart_dot(c, class, line[i].x, line[i].y, 3, tip);
    }
    chart_legend(c, class, name);
    mem_free(line);
}

/* A line at the answer of a search. */
static void highest(struct chart *c, const json_t *root, const char *text)
{
    double rate = number(json_object_get(root, "find_goodput"), "request_rate");

    if (rate > 0)
        chart_vline(c, rate, text);
}

void panel_goodput(struct str *out, const struct panels *p)
{
    const json_t *before = json_object_get(p->root, "before");
    struct chart_axis x, y;
    struct chart c;
    size_t n, n_before;
    json_t **points = points_sorted(&n, p->root);
    json_t **earlier = points_sorted(&n_before, before);
    char note[120] = "Requests a second that kept the targets, by requests a second sent.";

    if (n > 1) {
        x = chart_axis_fit("requests/s sent", 0,
                           fmax(largest(points, n, "request_rate"),
                                largest(earlier, n_before, "request_rate")), false);
        y = chart_axis_fit("requests/s", 0,
                           fmax(largest(points, n, "request_throughput"),
                                largest(earlier, n_before, "request_goodput")), false);
        chart_open(&c, out, "Goodput by rate", p->figures->targets.n > 0 ? note : NULL, true,
                   PLOT_HEIGHT, &x, &y);
        curve(&c, points, n, "request_throughput", "c6", "completed");
        if (p->figures->targets.n > 0)
            curve(&c, points, n, "request_goodput", "c1", "in the targets");
        if (n_before > 0)
            curve(&c, earlier, n_before, "request_goodput", "c2", "in the targets before");
        highest(&c, p->root, before ? "now" : "highest that holds");
        highest(&c, before, "before");
        chart_close(&c);
    }
    mem_free(points);
    mem_free(earlier);
}

void panel_rate_latency(struct str *out, const struct panels *p)
{
    double target = p->figures->targets.ms[METRIC_TTFT];
    struct chart_axis x, y;
    struct chart c;
    size_t n;
    json_t **points = points_sorted(&n, p->root);

    if (n > 1 && largest(points, n, "p99_ttft_ms") > 0) {
        x = chart_axis_fit("requests/s sent", 0, largest(points, n, "request_rate"), false);
        y = chart_axis_fit("TTFT, ms", 0, fmax(largest(points, n, "p99_ttft_ms"), target), false);
        chart_open(&c, out, "Time to first token by rate", NULL, true, PLOT_HEIGHT, &x, &y);
        curve(&c, points, n, "p50_ttft_ms", "c1", "p50");
        curve(&c, points, n, "p99_ttft_ms", "c2", "p99");
        if (target > 0)
            chart_hline(&c, target, "target");
        chart_close(&c);
    }
    mem_free(points);
}

static void ceilings(struct chart *c, const struct roof *r)
{
    double knee = r->peak_flops / r->peak_bytes;
    struct chart_point line[] = {{c->x.from, c->x.from * r->peak_bytes / 1e9},
                                 {knee, r->peak_flops / 1e9},
                                 {c->x.to, r->peak_flops / 1e9}};

    if (knee > c->x.from && knee < c->x.to)
        chart_line(c, "c6", line, 3);
    chart_hline(c, r->peak_flops / 1e9, "peak of arithmetic");
}

void panel_roofline(struct str *out, const struct panels *p)
{
    const struct roof *r = p->roof;
    double low_x = INFINITY, high_x = 0, low_y = INFINITY, high_y = r->peak_flops / 1e9;
    struct chart_axis x, y;
    struct chart c;

    for (uint32_t i = 0; i < r->n; i++) {
        low_x = fmin(low_x, r->points[i].flops / r->points[i].bytes);
        high_x = fmax(high_x, r->points[i].flops / r->points[i].bytes);
        low_y = fmin(low_y, r->points[i].flops / 1e9);
        high_y = fmax(high_y, r->points[i].flops / 1e9);
    }
    if (r->n == 0)
        return;
    if (r->peak_bytes > 0)
        high_x = fmax(high_x, 2 * r->peak_flops / r->peak_bytes);
    x = chart_axis_fit("FLOP per byte of memory", low_x, high_x, true);
    y = chart_axis_fit("GFLOP/s", low_y, high_y, true);
    chart_open(&c, out, "Roofline",
               r->peak_flops > 0
                   ? "How near nodes came to what their machine can do, as they or --roofline say."
                   : "Ceilings come with --roofline, a file of tandem-bench engine --json.",
               true, PLOT_HEIGHT, &x, &y);
    if (r->peak_flops > 0)
        ceilings(&c, r);
    for (uint32_t i = 0; i < r->n; i++) {
        const struct roof_point *q = &r->points[i];
        double px = q->flops / q->bytes;
        char tip[160];

        snprintf(tip, sizeof(tip), "%s: %.2f GFLOP/s, %.2f GB/s", q->name, q->flops / 1e9,
                 q->bytes / 1e9);
        chart_dot(&c, q->node ? "c1" : "c5", px, q->flops / 1e9, 4, tip);
        if (q->node)
            chart_text(&c, px, q->flops / 1e9 * (i % 2 ? 0.35 : 1), /* neighbours do not overlap */
                       px > sqrt(x.from * x.to) ? "end" : "start", q->name);
    }
    chart_legend(&c, "c1", "nodes in this run");
    if (r->peak_flops > 0)
        chart_legend(&c, "c5", "engine alone");
    chart_close(&c);
}
