#include "config/ranges.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* A number below RANGES_MAX at *p; moves *p behind it. */
static bool ranges_number(uint32_t *out, const char **p)
{
    uint32_t v = 0;
    const char *s = *p;

    if (*s < '0' || *s > '9')
        return false;
    for (; *s >= '0' && *s <= '9'; s++) {
        v = v * 10 + (uint32_t)(*s - '0');
        if (v >= RANGES_MAX)
            return false;
    }
    *p = s;
    *out = v;
    return true;
}

int ranges_parse(uint32_t **list, uint32_t *n, const char *text, struct err *e)
{
    bool seen[RANGES_MAX] = {false};
    uint32_t *out = NULL, first, last;
    const char *p = text;

    *list = NULL;
    *n = 0;
    if (!*text)
        return 0;
    out = mem_calloc(RANGES_MAX, sizeof(*out));
    for (;;) {
        if (!ranges_number(&first, &p))
            goto bad;
        last = first;
        if (*p == '-' && (p++, !ranges_number(&last, &p)))
            goto bad;
        if (last < first)
            goto bad;
        for (; first <= last; first++) {
            if (seen[first])
                goto bad;
            seen[first] = true;
            out[(*n)++] = first;
        }
        if (!*p)
            break;
        if (*p++ != ',')
            goto bad;
    }
    *list = mem_realloc(out, *n * sizeof(*out));
    return 0;
bad:
    mem_free(out);
    *n = 0;
    return err_set(e, ERR_ARG, "\"%.64s\" is not a list of different numbers below %d like 0,2-5",
                   text, RANGES_MAX);
}

void ranges_format(struct str *out, const uint32_t *list, uint32_t n)
{
    for (uint32_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && list[j] == list[j - 1] + 1;)
            j++;
        str_addf(out, "%s%u", i ? "," : "", list[i]);
        if (j > i + 1)
            str_addf(out, "-%u", list[j - 1]);
    }
}
