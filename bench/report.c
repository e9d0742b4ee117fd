#include "bench/report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bench/html.h"
#include "bench/json.h"
#include "bench/rows.h"

void report_print(const struct str *text, const struct bench_options *o)
{
    fputs(str_text(text), strcmp(o->result_filename, "-") == 0 ? stderr : stdout);
}

/* Writes what `make` appends to the path, if there is one. */
static int rows_write(const char *path, void (*make)(struct str *out, const struct result *r),
                      const struct result *r, struct err *e)
{
    struct str text = {0};
    int rc;

    if (!*path)
        return ERR_OK;
    make(&text, r);
    rc = report_write(path, &text, e);
    str_fini(&text);
    return rc;
}

static int html_write(const json_t *root, struct figures *f, const struct result *r,
                      const struct bench_options *o, struct err *e)
{
    struct str text = {0};
    struct roof roof;
    int rc = roof_load(&roof, o->roofline, bench_tokenizer(o), e);

    if (rc == ERR_OK) {
        roof_nodes(&roof, &r->nodes);
        html_report(&text, root, f, r, o, &roof);
        rc = report_write(o->html, &text, e);
    }
    str_fini(&text);
    return rc;
}

int report_files(const json_t *root, struct figures *f, const struct result *r,
                 const struct bench_options *o, struct err *e)
{
    struct str text = {0};
    char path[4096];
    int rc = ERR_OK;

    json_path(path, sizeof(path), r, o);
    if (*path) {
        json_text(&text, root);
        rc = report_write(path, &text, e);
    }
    if (rc == ERR_OK)
        rc = rows_write(o->csv, rows_csv, r, e);
    if (rc == ERR_OK)
        rc = rows_write(o->jsonl, rows_jsonl, r, e);
    if (rc == ERR_OK)
        rc = rows_write(o->trace, rows_trace, r, e);
    if (rc == ERR_OK && *o->html)
        rc = html_write(root, f, r, o, e);
    str_fini(&text);
    return rc;
}

int report_write(const char *path, const struct str *text, struct err *e)
{
    bool to_stdout = strcmp(path, "-") == 0;
    FILE *f = to_stdout ? stdout : fopen(path, "w");
    bool good;

    if (!f)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    good = fwrite(str_text(text), 1, text->len, f) == text->len;
    good = (to_stdout ? fflush(f) : fclose(f)) == 0 && good;
    return good ? ERR_OK : err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
}
