#include "bench/chart.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define LEGEND 20.0 /* room for a legend */
#define LABEL 20.0  /* for the label of y below it */
#define BOTTOM 36.0 /* and for the labels of x */
#define RIGHT 18.0
#define TICKS_MAX 12

void html_text(struct str *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '<')
            str_adds(out, "&lt;");
        else if (*text == '>')
            str_adds(out, "&gt;");
        else if (*text == '&')
            str_adds(out, "&amp;");
        else if (*text == '"')
            str_adds(out, "&quot;");
        else if ((unsigned char)*text >= ' ' || *text == '\n')
            str_addc(out, *text);
    }
}

/* 1, 2 or 5 times a power of ten: the smallest at least x. */
static double round_up(double x)
{
    double power = pow(10, floor(log10(x)));

    for (int i = 0; i < 3; i++)
        if (x <= (double[]){1, 2, 5}[i] * power * (1 + 1e-9))
            return (double[]){1, 2, 5}[i] * power;
    return 10 * power;
}

struct chart_axis chart_axis_fit(const char *label, double min, double max, bool log)
{
    struct chart_axis a = {.label = label, .log = log};

    if (!(max > 0))
        max = 1;
    if (log) {
        min = min > 0 && min < max ? min : max / 10;
        a.from = pow(10, floor(log10(min)));
        a.to = pow(10, ceil(log10(max) - 1e-9));
        if (a.to <= a.from)
            a.to = a.from * 10;
    } else {
        double step = round_up(max / 5);

        a.to = ceil(max / step - 1e-9) * step;
    }
    return a;
}

static double share(const struct chart_axis *a, double v)
{
    double s = a->log ? (v > 0 ? log(v / a->from) / log(a->to / a->from) : 0)
                      : (v - a->from) / (a->to - a->from);

    return s < 0 ? 0 : s > 1 ? 1 : s;
}

double chart_px(const struct chart *c, double x)
{
    return c->left + share(&c->x, x) * (CHART_WIDTH - RIGHT - c->left);
}

double chart_py(const struct chart *c, double y)
{
    return c->height - BOTTOM - share(&c->y, y) * (c->height - BOTTOM - c->top);
}

/* Up to TICKS_MAX places; returns how many. */
static size_t ticks_choose(double out[TICKS_MAX], const struct chart_axis *a)
{
    double step = round_up((a->to - a->from) / 6);
    size_t n = 0;

    if (a->log) {
        double decades = log10(a->to / a->from), factor = decades > 8 ? 100 : 10;

        for (double v = a->from; v <= a->to * 1.001 && n < TICKS_MAX; v *= factor)
            out[n++] = v;
        return n;
    }
    for (double v = a->from; v <= a->to + step / 1e6 && n < TICKS_MAX; v += step)
        out[n++] = v;
    return n;
}

static void tick_text(char *out, size_t size, double v)
{
    double x = fabs(v);

    if (x >= 1e9)
        snprintf(out, size, "%gG", v / 1e9);
    else if (x >= 1e6)
        snprintf(out, size, "%gM", v / 1e6);
    else if (x >= 1e4)
        snprintf(out, size, "%gk", v / 1e3);
    else
        snprintf(out, size, "%.4g", x < 1e-12 ? 0 : v);
}

static void ticks_draw(struct chart *c, bool vertical)
{
    const struct chart_axis *a = vertical ? &c->y : &c->x;
    double chosen[TICKS_MAX];
    size_t n = a->ticks ? a->n_ticks : ticks_choose(chosen, a);

    for (size_t i = 0; i < n; i++) {
        double v = a->ticks ? a->ticks[i] : chosen[i];
        double at = vertical ? chart_py(c, v) : chart_px(c, v);
        char text[32];

        tick_text(text, sizeof(text), v);
        if (vertical)
            str_addf(c->out,
                     "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/><text class=\"tick\" x=\"%.1f\" "
                     "y=\"%.1f\" text-anchor=\"end\">",
                     c->left, at, CHART_WIDTH - RIGHT, c->left - 6, at + 4);
        else
            str_addf(c->out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">",
                     at, c->height - BOTTOM + 15);
        html_text(c->out, a->tick_names ? a->tick_names[i] : text);
        str_adds(c->out, "</text>");
    }
}

void chart_open(struct chart *c, struct str *out, const char *title, const char *note, bool legend,
                double height, const struct chart_axis *x, const struct chart_axis *y)
{
    double top = (legend ? LEGEND : 0) + (*y->label ? LABEL : 4);
    size_t widest = 3;

    for (size_t i = 0; y->tick_names && i < y->n_ticks; i++)
        widest = strlen(y->tick_names[i]) > widest ? strlen(y->tick_names[i]) : widest;
    height += top + BOTTOM;
    *c = (struct chart){.out = out, .x = *x, .y = *y, .height = height, .top = top,
                        .left = y->tick_names ? 14 + 6.3 * (double)widest : 46};
    c->legend_x = 2;
    str_adds(out, "<figure><figcaption><h3>");
    html_text(out, title);
    str_adds(out, "</h3>");
    if (note) {
        str_adds(out, "<p>");
        html_text(out, note);
        str_adds(out, "</p>");
    }
    str_addf(out, "</figcaption><svg viewBox=\"0 0 %d %.0f\" role=\"img\" aria-label=\"",
             CHART_WIDTH, height);
    html_text(out, title);
    str_adds(out, "\">");
    ticks_draw(c, true);
    ticks_draw(c, false);
    str_addf(
        out,
        "<path class=\"axis\" d=\"M%.1f %.1fH%.1f\"/><text class=\"label\" x=\"%.1f\" y=\"%.1f\" "
        "text-anchor=\"end\">",
        c->left, height - BOTTOM, CHART_WIDTH - RIGHT, CHART_WIDTH - RIGHT, height - 4);
    html_text(out, x->label);
    str_adds(out, "</text>");
    if (*y->label) {
        str_addf(out, "<text class=\"label\" x=\"2\" y=\"%.1f\">", top - 9);
        html_text(out, y->label);
        str_adds(out, "</text>");
    }
}

void chart_close(struct chart *c) { str_adds(c->out, "</svg></figure>\n"); }

void chart_legend(struct chart *c, const char *class, const char *text)
{
    str_addf(c->out,
             "<rect class=\"%s fill\" x=\"%.1f\" y=\"4\" width=\"10\" height=\"10\" rx=\"2\"/>"
             "<text class=\"label\" x=\"%.1f\" y=\"13\">",
             class, c->legend_x, c->legend_x + 14);
    html_text(c->out, text);
    str_adds(c->out, "</text>");
    c->legend_x += 26 + 6.2 * (double)strlen(text);
}

void chart_line(struct chart *c, const char *class, const struct chart_point *p, size_t n)
{
    if (n == 0)
        return;
    str_addf(c->out, "<path class=\"%s line\" d=\"", class);
    for (size_t i = 0; i < n; i++)
        str_addf(c->out, "%c%.1f %.1f", i ? 'L' : 'M', chart_px(c, p[i].x), chart_py(c, p[i].y));
    str_adds(c->out, "\"/>");
}

static void tip_close(struct chart *c, const char *element, const char *tip)
{
    if (!tip) {
        str_adds(c->out, "/>");
        return;
    }
    str_adds(c->out, "><title>");
    html_text(c->out, tip);
    str_addf(c->out, "</title></%s>", element);
}

void chart_dot(struct chart *c, const char *class, double x, double y, double radius,
               const char *tip)
{
    str_addf(c->out, "<circle class=\"%s fill\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"", class,
             chart_px(c, x), chart_py(c, y), radius);
    tip_close(c, "circle", tip);
}

void chart_bar(struct chart *c, const char *class, double x0, double x1, double y, double thick,
               const char *tip)
{
    double from = chart_px(c, x0), to = chart_px(c, x1);

    str_addf(c->out, "<rect class=\"%s fill\" x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\"",
             class, from, chart_py(c, y) - thick / 2, to - from > 0.3 ? to - from : 0.3, thick);
    tip_close(c, "rect", tip);
}

void chart_hline(struct chart *c, double y, const char *text)
{
    str_addf(c->out, "<path class=\"mark\" d=\"M%.1f %.1fH%.1f\"/>", c->left, chart_py(c, y),
             CHART_WIDTH - RIGHT);
    chart_text(c, c->x.to, y, "end", text);
}

void chart_vline(struct chart *c, double x, const char *text)
{
    str_addf(c->out, "<path class=\"mark\" d=\"M%.1f %.1fV%.1f\"/>", chart_px(c, x), c->top,
             c->height - BOTTOM);
    chart_text(c, x, c->y.to, share(&c->x, x) > 0.6 ? "end" : "start", text);
}

void chart_text(struct chart *c, double x, double y, const char *anchor, const char *text)
{
    double at = chart_py(c, y) - 4, shift = anchor[0] == 's' ? 4 : anchor[0] == 'e' ? -4 : 0;

    str_addf(c->out, "<text class=\"label\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">",
             chart_px(c, x) + shift, at < c->top + 10 ? c->top + 10 : at, anchor);
    html_text(c->out, text);
    str_adds(c->out, "</text>");
}
