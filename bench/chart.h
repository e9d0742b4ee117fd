/* chart: a small figure as inline SVG: axes, lines, dots, bars. Colours are classes (c1 .. c8, and
 * those of the page), so that the page's style sheet decides, light or dark. One thread. */
#ifndef TANDEM_BENCH_CHART_H
#define TANDEM_BENCH_CHART_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

#define CHART_WIDTH 400 /* of the view box; the page scales it */

struct chart_axis {
    const char *label;
    double from, to; /* to > from; log: both above 0 */
    bool log;
    const double *ticks; /* NULL: chosen; tick_names then too */
    const char *const *tick_names;
    size_t n_ticks;
};

struct chart {
    struct str *out;
    struct chart_axis x, y;
    double height, left, top; /* of the view box; room for the labels of y, and above the plot */
    double legend_x;
};

struct chart_point {
    double x, y;
};

/* Appends the start of a figure: title, SVG, axes with grid. note may be NULL. legend: there will be
 * one. height: of the plot without the room for legend and labels, in view box units. */
void chart_open(struct chart *c, struct str *out, const char *title, const char *note, bool legend,
                double height, const struct chart_axis *x, const struct chart_axis *y);
void chart_close(struct chart *c);

/* Where data stand in the view box; beyond the axes at their ends. */
double chart_px(const struct chart *c, double x);
double chart_py(const struct chart *c, double y);

/* An entry above the plot, in this class; each to the right of the last. */
void chart_legend(struct chart *c, const char *class, const char *text);
void chart_line(struct chart *c, const char *class, const struct chart_point *p, size_t n);
/* tip: shown when the pointer is on it; NULL: none. */
void chart_dot(struct chart *c, const char *class, double x, double y, double radius, const char *tip);
/* A bar from x0 to x1 around the middle y of data, `thick` view box units high. */
void chart_bar(struct chart *c, const char *class, double x0, double x1, double y, double thick,
               const char *tip);
/* A dashed line at this y (or x), with a word at its end. */
void chart_hline(struct chart *c, double y, const char *text);
void chart_vline(struct chart *c, double x, const char *text);
/* Words at a place of the data. anchor: "start", "middle", "end". */
void chart_text(struct chart *c, double x, double y, const char *anchor, const char *text);

/* Makes an axis fit: from 0 (or, log, from the decade) to a round number that holds max. */
struct chart_axis chart_axis_fit(const char *label, double min, double max, bool log);

/* Appends text with <, >, & and quotes escaped; bytes that are not ASCII go through. */
void html_text(struct str *out, const char *text);

#endif
