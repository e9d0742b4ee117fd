/* jinja: the part of Jinja that chat templates use, as Hugging Face's transformers set it up
 * (trim_blocks, lstrip_blocks, loopcontrols; no autoescape).
 *
 *   statements  for/else, if/elif/else, set, set block, macro, filter block, break, continue,
 * generation filters     jinja_filters.c     tests    jinja_tests.c     methods    jinja_methods.c
 *   functions   namespace, range, raise_exception, strftime_now
 *
 * Anything else is an error when the template is opened, with line and column. What only shows when
 * a template runs (a type that does not fit, an attribute of nothing) is an error of the rendering.
 *
 * A string knows which of its bytes came from a user, through every operation (jinja_value.h).
 * A template is immutable and may be used by any thread; a run belongs to one. */
#ifndef TANDEM_MODEL_JINJA_H
#define TANDEM_MODEL_JINJA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/vocab.h" /* struct text_range */

#define JINJA_TEMPLATE_BYTES_MAX ((size_t)256 << 10)
#define JINJA_OUTPUT_BYTES_MAX   ((size_t)8 << 20)   /* of any string, so of the output too */
#define JINJA_MEMORY_BYTES_MAX   ((size_t)256 << 20) /* of one run, in all */
#define JINJA_STEPS_MAX          (16u << 20)         /* of one run: about a second */
#define JINJA_NESTING_MAX        64                  /* brackets and statements inside each other */
#define JINJA_DEPTH_MAX          1024 /* of evaluation: long sums, macros in macros */

struct jinja;
struct jinja_run;
struct jinja_value;

/* name: put before line and column in errors; copied. ERR_FORMAT: malformed; ERR_UNSUPPORTED: not
 * in our part of the language; ERR_LIMIT: too large. */
int jinja_open(struct jinja **out, const char *name, const char *text, size_t n, struct err *e);
void jinja_free(struct jinja **t);

/* A rendering: variables and memory. t is borrowed until jinja_run_free. now_s: seconds since 1970
 * for strftime_now, in local time. Never NULL. */
struct jinja_run *jinja_run_new(const struct jinja *t, int64_t now_s);
void jinja_run_free(struct jinja_run **r);

/* Sets a variable; the value is from the same run (jinja_value.h). */
void jinja_set(struct jinja_run *r, const char *name, struct jinja_value value);

/* Result, inside the run until it is freed. */
struct jinja_output {
    const char *text; /* not NUL-terminated */
    size_t n;
    const struct text_range *user; /* what came from a user; ascending, disjoint */
    size_t n_user;
};

/* Once for each run. ERR_ARG: raise_exception, with its message alone; ERR_LIMIT; otherwise
 * ERR_FORMAT with template name, line and column. */
int jinja_render(struct jinja_run *r, struct jinja_output *out, struct err *e);

#endif
