#include "bench/lines.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int lines_each(const char *path, int (*fn)(void *ctx, const char *line, size_t n, struct err *e),
               void *ctx, struct err *e)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    int rc = ERR_OK, number = 0;
    size_t cap = 0;
    ssize_t n;

    if (!f)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    while (rc == ERR_OK && (n = getline(&line, &cap, f)) >= 0) {
        number++;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            n--;
        line[n] = '\0';
        if ((size_t)n > LINE_MAX_BYTES)
            rc = err_set(e, ERR_LIMIT, "a line of %zd bytes, at most %zu", n, LINE_MAX_BYTES);
        else if (n > 0)
            rc = fn(ctx, line, (size_t)n, e);
        if (rc != ERR_OK)
            err_wrap(e, "%s:%d", path, number);
    }
    if (rc == ERR_OK && ferror(f))
        rc = err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    free(line); /* getline's */
    fclose(f);
    return rc;
}
