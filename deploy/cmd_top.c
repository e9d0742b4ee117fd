/* tandem top: what a cluster's nodes do, refreshed: on a terminal a screen of its own, else pages. */
#include <curses.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "deploy/api.h"
#include "deploy/command.h"
#include "deploy/commands.h"
#include "deploy/top.h"
#include "deploy/top_text.h"

#define TOP_PLAIN_WIDTH 100 /* of a page in a pipe, unless COLUMNS says */

struct top_options {
    double seconds;
    uint32_t iterations;
    int sort; /* enum top_sort */
    bool plain;
};

static const char *const top_sort_names[] = {"name", "tokens", "queue", "kv", NULL};

static const struct option top_rows[] = {
    OPTION(top_options, seconds, F64, .letter = 'd', .def = "1", .min = 0.1, .max = 3600, .unit = "S",
           .help = "between two looks"),
    OPTION(top_options, iterations, U32, .letter = 'n', .help = "end after so many, 0 for never"),
    OPTION(top_options, sort, ENUM, .letter = 's', .names = top_sort_names, .help = "what is first"),
    OPTION(top_options, plain, BOOL, .help = "pages also on a terminal"),
};

static const struct option_table top_option_table = {
    .program = "tandem top",
    .usage = "[FILE|CLUSTER|URL]",
    .summary = "Shows what the nodes of a running cluster do, again and again. Keys: s sorts, arrows "
               "scroll, q ends",
    .options = top_rows,
    .n = ARRAY_LEN(top_rows),
};

/* One run. */
struct top_run {
    const struct top_options *options;
    const char *url, *shown;
    struct top *top;
    enum top_sort sort;
    uint32_t first;  /* node at the top of the table */
    struct err wrong; /* of the last look; code 0: none */
};

static void top_look(struct top_run *r)
{
    json_t *reply;

    r->wrong.code = 0;
    if (api_cluster(&reply, r->url, &r->wrong))
        return;
    top_take(r->top, reply, clock_now());
    top_order(r->top, r->sort);
    json_decref(reply);
}

/* What is not well is in the second colour, what is a matter of seconds in the first. */
enum { TOP_WARN = 1, TOP_BAD };

static attr_t top_colour(const struct top_node *n)
{
    if (!strcmp(n->state, "ready"))
        return A_NORMAL;
    return has_colors() ? (attr_t)COLOR_PAIR(!strcmp(n->state, "draining") ? TOP_WARN : TOP_BAD) : A_BOLD;
}

static void top_line(int y, const struct str *text, attr_t attributes)
{
    attrset(attributes);
    mvaddnstr(y, 0, str_text(text), COLS);
    if (attributes & A_REVERSE) /* to the edge */
        for (int x = (int)text->len; x < COLS; x++)
            addch(' ');
    attrset(A_NORMAL);
}

static void top_bottom(const struct top_run *r, int y)
{
    struct str text = {0};

    if (r->wrong.code)
        str_addf(&text, "no answer: %s", r->wrong.text);
    else
        str_addf(&text, "q ends  s sorts: %s  arrows scroll", top_sorts[r->sort]);
    if (!r->wrong.code && r->top->n + r->top->hidden > 0)
        str_addf(&text, "  %u nodes", r->top->n + r->top->hidden);
    top_line(y, &text, r->wrong.code && has_colors() ? (attr_t)COLOR_PAIR(TOP_BAD) : A_DIM);
    str_fini(&text);
}

static void top_draw(struct top_run *r)
{
    const struct top *t = r->top;
    int rows = LINES - TOP_SUMMARY_LINES - 2; /* between heads and the bottom line */
    struct top_layout l;
    struct str text = {0};

    erase();
    for (uint32_t i = 0; i < TOP_SUMMARY_LINES && t->at; i++) {
        str_clear(&text);
        top_summary(&text, t, i, r->shown, COLS);
        top_line((int)i, &text, i == 0 ? A_BOLD : A_NORMAL);
    }
    top_layout_init(&l, COLS);
    str_clear(&text);
    top_heads(&text, &l);
    top_line(TOP_SUMMARY_LINES, &text, A_REVERSE);
    if (rows > 0 && r->first + (uint32_t)rows > t->n)
        r->first = t->n > (uint32_t)rows ? t->n - (uint32_t)rows : 0;
    for (int i = 0; i < rows && r->first + (uint32_t)i < t->n; i++) {
        const struct top_node *n = &t->nodes[r->first + (uint32_t)i];

        str_clear(&text);
        top_row(&text, &l, n);
        top_line(TOP_SUMMARY_LINES + 1 + i, &text, top_colour(n));
    }
    str_fini(&text);
    if (LINES > 0)
        top_bottom(r, LINES - 1);
    refresh();
}

/* False: the user has had enough. */
static bool top_key(struct top_run *r, int key)
{
    switch (key) {
    case 'q':
    case 'Q':
    case 3: /* Ctrl-C, in raw mode */
        return false;
    case 's':
        r->sort = (enum top_sort)((r->sort + 1) % TOP_SORTS);
        top_order(r->top, r->sort);
        break;
    case KEY_DOWN:
        r->first++;
        break;
    case KEY_UP:
        r->first -= r->first > 0;
        break;
    default: /* KEY_RESIZE among them: drawing reads the size */
        break;
    }
    return true;
}

/* Keys count at once, and a look is due each options->seconds. */
static void top_screen(struct top_run *r)
{
    int64_t period = (int64_t)(r->options->seconds * 1e9), next = clock_now();
    uint32_t looks = 0;
    bool going = true;

    while (going) {
        int64_t left = next - clock_now();

        if (left <= 0) {
            if (r->options->iterations && looks == r->options->iterations)
                break;
            top_look(r);
            looks++;
            next = clock_now() + period;
            left = period;
        }
        top_draw(r);
        timeout((int)(left / CLOCK_MS) + 1);
        going = top_key(r, getch());
    }
}

static int top_terminal(struct top_run *r, struct err *e)
{
    SCREEN *screen;

    setlocale(LC_CTYPE, "");
    screen = newterm(NULL, stdout, stdin); /* unlike initscr, it returns if it does not know TERM */
    if (!screen)
        return err_set(e, ERR_UNSUPPORTED, "terminal \"%.40s\" is not known here; use --plain",
                       getenv("TERM") ? getenv("TERM") : "");
    raw();
    noecho();
    curs_set(0);
    keypad(stdscr, TRUE);
    if (has_colors()) {
        start_color();
        use_default_colors();
        init_pair(TOP_WARN, COLOR_YELLOW, -1);
        init_pair(TOP_BAD, COLOR_RED, -1);
    }
    top_screen(r);
    endwin();
    delscreen(screen);
    return 0;
}

static void top_wait(double seconds)
{
    const struct timespec t = {.tv_sec = (time_t)seconds,
                               .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};

    nanosleep(&t, NULL);
}

/* The first page comes after one period: before, there are no rates. */
static int top_pages(struct top_run *r, struct err *e)
{
    const char *columns = getenv("COLUMNS");
    int width = columns ? atoi(columns) : 0;
    int rc = 0;

    top_look(r);
    for (uint32_t i = 0; !rc && (!r->options->iterations || i < r->options->iterations); i++) {
        struct str page = {0};

        top_wait(r->options->seconds);
        top_look(r);
        if (r->wrong.code) {
            rc = err_set(e, r->wrong.code, "%s", r->wrong.text);
            break;
        }
        if (i)
            str_addc(&page, '\n');
        top_page(&page, r->top, r->shown, width > 0 ? width : TOP_PLAIN_WIDTH);
        if (fputs(str_text(&page), stdout) < 0 || fflush(stdout))
            rc = err_set(e, ERR_IO, "nobody reads the pages any more");
        str_fini(&page);
    }
    return rc;
}

static int top_main(const void *options, const struct option_args *args, struct err *e)
{
    const struct top_options *o = options;
    const char *which = args->n ? args->argv[0] : NULL;
    struct top_run r = {.options = o, .sort = (enum top_sort)o->sort};
    struct target t = {0};
    int rc;

    if (args->n > 1)
        return err_set(e, ERR_ARG, "one cluster at a time, got %d arguments", args->n);
    rc = target_reach(&t, which, e);
    if (!rc) {
        r.url = t.url;
        r.shown = t.shown;
        r.top = mem_zalloc(sizeof(*r.top));
        rc = isatty(STDOUT_FILENO) && isatty(STDIN_FILENO) && !o->plain ? top_terminal(&r, e)
                                                                        : top_pages(&r, e);
        mem_free(r.top);
    }
    target_fini(&t);
    return rc;
}

int cmd_top(int argc, char **argv)
{
    struct top_options o = {0};

    return command_main(&top_option_table, &o, argc, argv, top_main);
}
