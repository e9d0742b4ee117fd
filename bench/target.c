#include "bench/target.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[METRIC_COUNT] = {"ttft", "ttst", "tpot", "itl", "e2el"};

const char *metric_name(enum metric m) { return names[m]; }

enum metric metric_find(const char *s, size_t n)
{
    for (int i = 0; i < METRIC_COUNT; i++)
        if (strlen(names[i]) == n && memcmp(names[i], s, n) == 0)
            return (enum metric)i;
    return METRIC_COUNT;
}

int targets_parse(struct targets *t, const char *text, struct err *e)
{
    static const char blanks[] = " ,\t";

    memset(t, 0, sizeof(*t));
    for (text += strspn(text, blanks); *text; text += strspn(text, blanks)) {
        size_t n = strcspn(text, blanks), name = strcspn(text, ":");
        enum metric m = name < n ? metric_find(text, name) : METRIC_COUNT;
        char *end = NULL;
        double ms = name < n ? strtod(text + name + 1, &end) : 0;

        if (m == METRIC_COUNT || end != text + n || !(ms > 0 && ms < 1e9))
            return err_set(
                e, ERR_CONFIG,
                "goodput target \"%.*s\" is not NAME:MS with a name of ttft, ttst, tpot, "
                "itl, e2el and ms above 0",
                (int)n, text);
        t->n += t->ms[m] == 0;
        t->ms[m] = ms;
        text += n;
    }
    return ERR_OK;
}

bool targets_hold(const struct targets *t, const double values[METRIC_COUNT])
{
    for (int i = 0; i < METRIC_COUNT; i++)
        if (t->ms[i] > 0 && values[i] > t->ms[i])
            return false;
    return true;
}
