#include "deploy/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/mem.h"

void progress_init(struct progress *p, size_t n, bool silent)
{
    *p = (struct progress){.terminal = isatty(STDOUT_FILENO), .silent = silent, .n = n};
    p->lines = mem_calloc(n, sizeof(*p->lines));
    p->stages = mem_calloc(n, sizeof(*p->stages));
}

static void progress_erase(struct progress *p)
{
    if (p->drawn)
        printf("\033[%zuA\033[J", p->drawn); /* up, and erase from there on */
    p->drawn = 0;
    fflush(stdout);
}

void progress_wipe(struct progress *p)
{
    progress_erase(p);
    for (size_t i = 0; i < p->n; i++)
        str_clear(&p->lines[i]);
}

void progress_fini(struct progress *p)
{
    progress_wipe(p);
    for (size_t i = 0; i < p->n; i++) {
        str_fini(&p->lines[i]);
        str_fini(&p->stages[i]);
    }
    mem_free(p->lines);
    mem_free(p->stages);
    *p = (struct progress){0};
}

/* All lines again, none longer than the terminal is wide: a broken one would be two. */
static void progress_draw(struct progress *p)
{
    struct winsize size = {0}; /* and so it stays where the terminal does not know */
    size_t rows, columns;

    progress_erase(p);
    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    rows = size.ws_row > 2 ? (size_t)size.ws_row - 2 : 22; /* the last ones, if they do not fit */
    columns = size.ws_col > 1 ? (size_t)size.ws_col - 1 : 79;
    for (size_t i = p->n > rows ? p->n - rows : 0; i < p->n; i++) {
        if (!p->lines[i].len)
            continue;
        printf("%.*s\n", (int)columns, p->lines[i].data);
        p->drawn++;
    }
    fflush(stdout);
}

void progress_set(struct progress *p, size_t i, const char *stage, const char *detail)
{
    struct str line = {0};
    bool same = !strcmp(stage, str_text(&p->stages[i]));

    str_addf(&line, "%s%s%s", stage, *detail ? " " : "", detail);
    if (p->terminal && strcmp(str_text(&line), str_text(&p->lines[i])) != 0) {
        str_clear(&p->lines[i]);
        str_adds(&p->lines[i], str_text(&line));
        progress_draw(p);
    } else if (!p->terminal && !p->silent && !same) {
        printf("%s\n", stage);
        fflush(stdout);
    }
    if (!same) {
        str_clear(&p->stages[i]);
        str_adds(&p->stages[i], stage);
    }
    str_fini(&line);
}
