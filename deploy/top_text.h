/* top_text: the lines that `tandem top` shows, for a screen or a pipe. Each fits the width: columns
 * that do not are left out, the least telling first. Pure. */
#ifndef TANDEM_DEPLOY_TOP_TEXT_H
#define TANDEM_DEPLOY_TOP_TEXT_H

#include "base/str.h"
#include "deploy/top.h"

#define TOP_WIDTH_MIN 20 /* narrower counts as so wide */
#define TOP_SUMMARY_LINES 3
#define TOP_COLUMNS 10

/* Which columns fit. */
struct top_layout {
    int widths[TOP_COLUMNS]; /* 0: left out */
};

void top_layout_init(struct top_layout *l, int width);

/* One of TOP_SUMMARY_LINES lines about the whole, without the newline, at most width bytes. */
void top_summary(struct str *out, const struct top *t, uint32_t line, const char *url, int width);

/* The columns' names, and a node, without the newline. */
void top_heads(struct str *out, const struct top_layout *l);
void top_row(struct str *out, const struct top_layout *l, const struct top_node *n);

/* Summary, heads and all nodes. */
void top_page(struct str *out, const struct top *t, const char *url, int width);

#endif
