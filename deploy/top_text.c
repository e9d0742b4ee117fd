#include "deploy/top_text.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

#define TOP_BAR_MAX 32 /* columns; more tells nothing */

/* "1.2k" of numbers with five digits and more. */
static void text_count(struct str *out, double v)
{
    if (v < 0)
        str_addc(out, '-');
    else if (v < 9.95)
        str_addf(out, "%.1f", v);
    else if (v < 99999.5)
        str_addf(out, "%.0f", v);
    else if (v < 9999500)
        str_addf(out, "%.0fk", v / 1e3);
    else
        str_addf(out, "%.0fM", v / 1e6);
}

static void cell_name(struct str *out, const struct top_node *n, int width)
{
    (void)width;
    str_adds(out, n->name);
}

static void cell_role(struct str *out, const struct top_node *n, int width)
{
    (void)width;
    str_adds(out, n->role);
}

static void cell_host(struct str *out, const struct top_node *n, int width)
{
    (void)width;
    str_adds(out, *n->host ? n->host : "-");
}

static void cell_domain(struct str *out, const struct top_node *n, int width)
{
    (void)width;
    str_addf(out, n->domain < 0 ? "-" : "%d", (int)n->domain);
}

static void cell_state(struct str *out, const struct top_node *n, int width)
{
    (void)width;
    str_adds(out, n->state);
}

static void cell_queue(struct str *out, const struct top_node *n, int width)
{
    (void)width;
    str_addf(out, "%" JSON_INTEGER_FORMAT, n->queued);
}

/* "12/16" sequences of the slots, "3" where a node has no slots. */
static void cell_batch(struct str *out, const struct top_node *n, int width)
{
    (void)width;
    str_addf(out, "%" JSON_INTEGER_FORMAT, n->running);
    if (n->slots > 0)
        str_addf(out, "/%" JSON_INTEGER_FORMAT, n->slots);
}

/* "[|||||    ] 45%": the brackets, a blank and the number take 7. */
static void cell_kv(struct str *out, const struct top_node *n, int width)
{
    double share = n->pages_total > 0 ? (double)n->pages / (double)n->pages_total : 0;
    int room = width - 7, full;

    share = share < 0 ? 0 : share > 1 ? 1 : share;
    full = (int)(share * room + 0.5);
    str_addc(out, '[');
    for (int i = 0; i < room; i++)
        str_addc(out, i < full ? '|' : ' ');
    str_addf(out, "] %3.0f%%", 100 * share);
}

static void cell_tokens(struct str *out, const struct top_node *n, int width)
{
    (void)width;
    text_count(out, n->tokens_s);
}

static void cell_use(struct str *out, const struct top_node *n, int width)
{
    (void)width;
    if (n->use < 0)
        str_addc(out, '-');
    else
        str_addf(out, "%.*f%%", n->use < 0.0995 ? 1 : 0, 100 * n->use);
}

/* In the order shown. The one with the highest drop goes first; 0 stays. */
static const struct column {
    const char *head;
    int width, drop;
    bool left; /* aligned */
    void (*cell)(struct str *out, const struct top_node *n, int width);
} columns[TOP_COLUMNS] = {
    {"node", 10, 0, true, cell_name},    {"role", 7, 5, true, cell_role},
    {"host", 10, 7, true, cell_host},    {"dom", 3, 8, false, cell_domain},
    {"state", 8, 4, true, cell_state},   {"queue", 5, 3, false, cell_queue},
    {"batch", 7, 2, false, cell_batch},  {"KV pages", 12, 6, true, cell_kv},
    {"tok/s", 6, 1, false, cell_tokens}, {"mfu/mbu", 7, 4, false, cell_use},
};

enum { COLUMN_HOST = 2, COLUMN_KV = 7 };

/* Blanks between columns included. */
static int layout_width(const struct top_layout *l)
{
    int width = -1;

    for (int i = 0; i < TOP_COLUMNS; i++)
        width += l->widths[i] ? l->widths[i] + 1 : 0;
    return width;
}

void top_layout_init(struct top_layout *l, int width)
{
    int room;

    width = width < TOP_WIDTH_MIN ? TOP_WIDTH_MIN : width;
    for (int i = 0; i < TOP_COLUMNS; i++)
        l->widths[i] = columns[i].width;
    while (layout_width(l) > width) {
        int worst = 0;

        for (int i = 1; i < TOP_COLUMNS; i++)
            if (l->widths[i] && (!l->widths[worst] || columns[i].drop > columns[worst].drop))
                worst = i;
        if (!columns[worst].drop)
            break;
        l->widths[worst] = 0;
    }
    room = width - layout_width(l);
    for (int i = 0; i <= COLUMN_HOST && room > 0; i += COLUMN_HOST) { /* names may be long */
        int more = room / 4 < 14 ? room / 4 : 14;

        l->widths[i] += l->widths[i] ? more : 0;
        room -= l->widths[i] ? more : 0;
    }
    if (l->widths[COLUMN_KV] && room > 0) {
        int most = TOP_BAR_MAX - l->widths[COLUMN_KV];

        l->widths[COLUMN_KV] += room < most ? room : most;
    }
}

/* Adds text padded or cut to the column. */
static void layout_add(struct str *out, const struct top_layout *l, int i, const char *text)
{
    int w = l->widths[i];

    if (i > 0)
        str_addc(out, ' ');
    str_addf(out, columns[i].left ? "%-*.*s" : "%*.*s", w, w, text);
}

void top_heads(struct str *out, const struct top_layout *l)
{
    for (int i = 0; i < TOP_COLUMNS; i++)
        if (l->widths[i])
            layout_add(out, l, i, columns[i].head);
}

void top_row(struct str *out, const struct top_layout *l, const struct top_node *n)
{
    for (int i = 0; i < TOP_COLUMNS; i++) {
        struct str text = {0};

        if (!l->widths[i])
            continue;
        columns[i].cell(&text, n, l->widths[i]);
        layout_add(out, l, i, str_text(&text));
        str_fini(&text);
    }
}

static void text_times(struct str *out, const char *name, const struct top_times *t)
{
    const double values[] = {t->p50, t->p90, t->p99};
    static const char *const names[] = {"p50", "p90", "p99"};

    str_addf(out, "%s", name);
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        str_addf(out, " %s ", names[i]);
        text_count(out, values[i]);
    }
    str_adds(out, " ms");
}

static void text_uptime(struct str *out, double s)
{
    if (s < 60)
        str_addf(out, "%.0f s", s);
    else if (s < 3600)
        str_addf(out, "%.0f min", s / 60);
    else
        str_addf(out, "%.1f h", s / 3600);
}

void top_summary(struct str *out, const struct top *t, uint32_t line, const char *url, int width)
{
    struct str text = {0};

    if (line == 0) {
        str_addf(&text, "%s  %s  %s  up ", t->cluster, url, t->model);
        text_uptime(&text, t->uptime_s);
    } else if (line == 1) {
        str_addf(&text, "%" JSON_INTEGER_FORMAT " running, %" JSON_INTEGER_FORMAT " queued, ",
                 t->running, t->queued);
        text_count(&text, t->requests_s);
        str_adds(&text, " requests/s; tokens/s in ");
        text_count(&text, t->input_s);
        str_adds(&text, ", out ");
        text_count(&text, t->output_s);
        str_addf(&text, "; %" JSON_INTEGER_FORMAT " restarts", t->restarts);
    } else {
        text_times(&text, "TTFT", &t->ttft);
        str_adds(&text, "; ");
        text_times(&text, "TPOT", &t->tpot);
    }
    str_add(out, str_text(&text), size_min(text.len, (size_t)(width < 0 ? 0 : width)));
    str_fini(&text);
}

void top_page(struct str *out, const struct top *t, const char *url, int width)
{
    struct top_layout l;

    for (uint32_t i = 0; i < TOP_SUMMARY_LINES; i++) {
        top_summary(out, t, i, url, width);
        str_addc(out, '\n');
    }
    top_layout_init(&l, width);
    top_heads(out, &l);
    str_addc(out, '\n');
    for (uint32_t i = 0; i < t->n; i++) {
        top_row(out, &l, &t->nodes[i]);
        str_addc(out, '\n');
    }
    if (t->hidden)
        str_addf(out, "and %u more\n", t->hidden);
}
