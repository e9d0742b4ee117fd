/* prom: checks a page of metrics as promtool would. Header only. */
#ifndef TANDEM_TESTS_PROM_H
#define TANDEM_TESTS_PROM_H

#include <regex.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct prom_lint {
    char metric[128], type[16], seen[200][128]; /* of the HELP and TYPE that came last; all so far */
    char series[128];                           /* of a histogram's last bucket */
    size_t n_seen;
    double bucket, edge;
};

/* Says what is wrong with a sample in why. */
static inline bool prom_lint_sample(struct prom_lint *l, const char *line, char why[256])
{
    size_t name = strcspn(line, "{ "), base = strlen(l->metric);
    const char *value = strrchr(line, ' ') + 1, *le = strstr(line, "le=\"");
    const char *suffix = line + base;
    bool histogram = !strcmp(l->type, "histogram");

    if (name < base || strncmp(line, l->metric, base) != 0)
        return snprintf(why, 256, "%s under TYPE %s", line, l->metric), false;
    if (!histogram && name != base)
        return snprintf(why, 256, "%s is not %s", line, l->metric), false;
    if (!strcmp(l->type, "counter") && (base < 6 || strcmp(l->metric + base - 6, "_total") != 0))
        return snprintf(why, 256, "counter %s does not end in _total", l->metric), false;
    if (strcmp(l->type, "gauge") != 0 && atof(value) < 0)
        return snprintf(why, 256, "%s is below 0", line), false;
    if (!histogram)
        return true;
    if (!strncmp(suffix, "_bucket{", 8) && le) {
        double edge = strncmp(le + 4, "+Inf", 4) ? atof(le + 4) : 1e300;

        if (l->edge > 0 && (edge <= l->edge || atof(value) < l->bucket))
            return snprintf(why, 256, "%s: buckets do not ascend", line), false;
        l->edge = edge;
        l->bucket = atof(value);
        return true;
    }
    if (!strncmp(suffix, "_count", 6) && (l->edge < 1e300 || atof(value) != l->bucket))
        return snprintf(why, 256, "%s is not its +Inf bucket", line), false;
    if (!strncmp(suffix, "_count", 6))
        l->edge = l->bucket = 0;
    return !strncmp(suffix, "_count", 6) || !strncmp(suffix, "_sum", 4);
}

static inline bool prom_lint_type(struct prom_lint *l, const char *line, char why[256])
{
    for (size_t i = 0; i < l->n_seen; i++)
        if (!strncmp(line + 7, l->seen[i], strlen(l->seen[i])) && line[7 + strlen(l->seen[i])] == ' ')
            return snprintf(why, 256, "%s: a second time", line), false;
    if (sscanf(line, "# TYPE %127s %15s", l->metric, l->type) != 2 || l->n_seen == 200)
        return snprintf(why, 256, "%s", line), false;
    memcpy(l->seen[l->n_seen++], l->metric, sizeof(l->metric));
    l->edge = l->bucket = 0;
    return true;
}

/* True if every line is well-formed, HELP and TYPE come once and before a metric's samples, counters end
 * in _total, histograms ascend to their count. Else why says where not. page is cut up. */
static inline bool prom_lint(char *page, char why[256])
{
    struct prom_lint *l = mem_zalloc(sizeof(*l));
    regex_t line;
    char *save, help[128] = "";
    bool ok = *page && page[strlen(page) - 1] == '\n';

    snprintf(why, 256, "the page does not end in a newline");
    if (regcomp(&line,
                "^[a-zA-Z_:][a-zA-Z0-9_:]*(\\{[a-z_]+=\"([^\"\\]|\\\\.)*\"(,[a-z_]+=\"([^\"\\]|\\\\.)*\")*\\})?"
                " (-?[0-9][0-9.]*(e[+-][0-9]+)?|NaN|[+-]Inf)$",
                REG_EXTENDED) != 0)
        abort();
    for (char *s = strtok_r(page, "\n", &save); ok && s; s = strtok_r(NULL, "\n", &save)) {
        if (!strncmp(s, "# HELP ", 7)) {
            snprintf(help, sizeof(help), "%.*s", (int)strcspn(s + 7, " "), s + 7);
        } else if (!strncmp(s, "# TYPE ", 7)) {
            ok = prom_lint_type(l, s, why);
            if (ok && strcmp(help, l->metric) != 0)
                ok = snprintf(why, 256, "%s without its HELP", s) < 0;
        } else if (regexec(&line, s, 0, NULL, 0) != 0) {
            ok = snprintf(why, 256, "malformed: %s", s) < 0;
        } else {
            ok = prom_lint_sample(l, s, why);
        }
    }
    regfree(&line);
    mem_free(l);
    return ok;
}

#endif
