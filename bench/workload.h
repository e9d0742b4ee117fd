/* workload: the prompts, all made before the measurement begins. Immutable afterwards. */
#ifndef TANDEM_BENCH_WORKLOAD_H
#define TANDEM_BENCH_WORKLOAD_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "bench/options.h"

/* Synthetic prompts that are made at most: a run with more requests uses them again, in order. */
#define WORKLOAD_SYNTHETIC_MAX 4096
#define WORKLOAD_LINE_MAX ((size_t)8 << 20) /* MSG_PROMPT_MAX: what the router takes */

struct prompt {
    char *text; /* NULL: tokens */
    size_t text_bytes;
    uint32_t *tokens;
    uint32_t n_tokens; /* 0: unknown (text from a file) */
};

/* A zeroed struct is empty. */
struct workload {
    struct prompt *prompts;
    uint32_t n, cap;
};

/* What the options say: from the file, or synthetic. ERR_IO, ERR_FORMAT (FILE:LINE and why),
 * ERR_UNSUPPORTED: the tokenizer has no words to make text of. */
int workload_open(struct workload *w, const struct bench_options *o, struct err *e);
void workload_fini(struct workload *w);

/* The prompt of request i. */
const struct prompt *workload_prompt(const struct workload *w, uint64_t i);

#endif
