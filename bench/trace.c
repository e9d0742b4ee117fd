#include "bench/trace.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/check.h"
#include "base/mem.h"
#include "bench/lines.h"

#define COLUMNS_MAX 32

struct cell {
    const char *text;
    size_t n;
};

/* Times may go back a little (recorders race): such an entry comes with the one before. */
static int entry_add(struct trace *t, double at_s, double input, double output, struct err *e)
{
    int64_t last = t->n ? t->entries[t->n - 1].at_ns : 0, at;

    if (!(input >= 1 && input <= TRACE_TOKENS_MAX) || !(output >= 1 && output <= TRACE_TOKENS_MAX))
        return err_set(e, ERR_FORMAT, "%g tokens in and %g out; each must be 1 to %u", input,
                       output, TRACE_TOKENS_MAX);
    if (!isfinite(at_s) || fabs(at_s) > 1e11)
        return err_set(e, ERR_FORMAT, "%g s is no time", at_s);
    if (t->n == 0)
        t->start = at_s;
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 1024;
        t->entries = mem_realloc(t->entries, t->cap * sizeof(*t->entries));
    }
    at = fabs(at_s - t->start) > 9e9 ? INT64_MAX / 2 : (int64_t)((at_s - t->start) * 1e9);
    t->entries[t->n++] = (struct trace_entry){
        at > last ? at : last, (uint32_t)input, (uint32_t)output, t->n_hashes, 0};
    return ERR_OK;
}

static void hash_add(struct trace *t, uint64_t hash)
{
    if (t->n_hashes == t->cap_hashes) {
        t->cap_hashes = t->cap_hashes ? 2 * t->cap_hashes : 4096;
        t->hashes = mem_realloc(t->hashes, t->cap_hashes * sizeof(*t->hashes));
    }
    t->hashes[t->n_hashes++] = hash;
}

static int hashes_add(struct trace *t, const json_t *ids, struct err *e)
{
    struct trace_entry *last = &t->entries[t->n - 1];
    size_t n = json_array_size(ids);

    if (n > 0 && n != (last->input + TRACE_BLOCK - 1) / TRACE_BLOCK)
        return err_set(e, ERR_FORMAT, "%zu hash_ids for %u tokens, of which each stands for %u", n,
                       last->input, TRACE_BLOCK);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(ids, i);

        if (!json_is_integer(id))
            return err_set(e, ERR_FORMAT, "hash_ids[%zu] is not an integer", i);
        hash_add(t, (uint64_t)json_integer_value(id));
    }
    last->n_hashes = (uint32_t)n;
    return ERR_OK;
}

static int mooncake_line(struct trace *t, const char *line, size_t n, struct err *e)
{
    static const char *const keys[] = {"timestamp", "input_length", "output_length"};
    json_error_t why;
    json_t *root = json_loadb(line, n, 0, &why);
    double values[ARRAY_LEN(keys)];
    int rc = ERR_OK;

    if (!root)
        return err_set(e, ERR_FORMAT, "column %d: %s", why.column, why.text);
    for (size_t i = 0; i < ARRAY_LEN(keys) && rc == ERR_OK; i++) {
        const json_t *v = json_object_get(root, keys[i]);

        values[i] = json_number_value(v);
        if (!json_is_number(v))
            rc = err_set(e, ERR_FORMAT, "no number \"%s\"", keys[i]);
    }
    if (rc == ERR_OK)
        rc = entry_add(t, values[0] / 1000, values[1], values[2], e);
    if (rc == ERR_OK)
        rc = hashes_add(t, json_object_get(root, "hash_ids"), e);
    json_decref(root);
    return rc;
}

/* Splits at commas; traces have no quotes. */
static int cells_split(struct cell cells[COLUMNS_MAX], const char *line)
{
    int n = 0;

    for (;;) {
        size_t len = strcspn(line, ",");

        if (n < COLUMNS_MAX)
            cells[n++] = (struct cell){line, len};
        if (!line[len])
            return n;
        line += len + 1;
    }
}

static int header_read(struct trace *t, const struct cell *cells, int n, struct err *e)
{
    static const char *const names[][3] = {
        [TRACE_AZURE] = {"TIMESTAMP", "ContextTokens", "GeneratedTokens"},
        [TRACE_BURSTGPT] = {"Timestamp", "Request tokens", "Response tokens"}};

    for (int i = 0; i < 3; i++) {
        const char *name = names[t->kind][i];

        t->columns[i] = -1;
        for (int c = 0; c < n; c++)
            if (strlen(name) == cells[c].n && strncasecmp(name, cells[c].text, cells[c].n) == 0)
                t->columns[i] = c;
        if (t->columns[i] < 0)
            return err_set(e, ERR_FORMAT, "the first line names no column \"%s\"", name);
    }
    t->header = 1;
    return ERR_OK;
}

/* A number, or seconds of a date "2023-11-16 18:15:46.68" (or with a T), whose zone is ignored: all
 * of a trace have the same. */
static bool cell_number(double *out, const struct cell *c, bool date)
{
    struct tm tm = {0};
    double seconds = 0;
    char text[64], *end;
    int used = 0;

    if (c->n == 0 || c->n >= sizeof(text))
        return false;
    snprintf(text, sizeof(text), "%.*s", (int)c->n, c->text);
    *out = strtod(text, &end);
    if (end != text && !*end)
        return true;
    if (!date ||
        sscanf(text, "%4d-%2d-%2d%*1[ T]%2d:%2d:%lf%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
               &tm.tm_hour, &tm.tm_min, &seconds, &used) < 6 ||
        !used)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *out = (double)timegm(&tm) + seconds;
    return true;
}

static int csv_line(struct trace *t, const char *line, struct err *e)
{
    struct cell cells[COLUMNS_MAX];
    int n = cells_split(cells, line);
    double values[3];

    if (!t->header)
        return header_read(t, cells, n, e);
    for (int i = 0; i < 3; i++) {
        struct cell c = t->columns[i] < n ? cells[t->columns[i]] : (struct cell){"", 0};

        if (!cell_number(&values[i], &c, i == 0))
            return err_set(e, ERR_FORMAT, "column %d holds \"%.*s\", which is no %s",
                           t->columns[i] + 1, (int)(c.n < 40 ? c.n : 40), c.text,
                           i == 0 ? "time" : "number of tokens");
    }
    if (values[2] == 0 && t->kind == TRACE_BURSTGPT) {
        t->left_out++;
        return ERR_OK;
    }
    return entry_add(t, values[0], values[1], values[2], e);
}

int trace_line(void *trace, const char *line, size_t n, struct err *e)
{
    struct trace *t = trace;

    return t->kind == TRACE_MOONCAKE ? mooncake_line(t, line, n, e) : csv_line(t, line, e);
}

int trace_load(struct trace *t, enum trace_kind kind, const char *path, struct err *e)
{
    int rc;

    memset(t, 0, sizeof(*t));
    t->kind = kind;
    rc = lines_each(path, trace_line, t, e);
    if (rc == ERR_OK && t->n == 0)
        rc = err_set(e, ERR_FORMAT, "%s: holds no request", path);
    if (rc != ERR_OK)
        trace_fini(t);
    return rc;
}

void trace_fini(struct trace *t)
{
    mem_free(t->entries);
    mem_free(t->hashes);
    memset(t, 0, sizeof(*t));
}
