/* trace: recorded arrivals: when, how long the prompt, how long the answer, which blocks are shared.
 *
 *   mooncake   a JSON object a line: timestamp (ms), input_length, output_length, hash_ids
 *   azure      CSV with TIMESTAMP, ContextTokens, GeneratedTokens
 *   burstgpt   CSV with Timestamp (s), Request tokens, Response tokens; without a response: left out */
#ifndef TANDEM_BENCH_TRACE_H
#define TANDEM_BENCH_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TRACE_BLOCK 512u          /* tokens a hash id of Mooncake stands for */
#define TRACE_TOKENS_MAX (1u << 20)

enum trace_kind { TRACE_MOONCAKE, TRACE_AZURE, TRACE_BURSTGPT };

struct trace_entry {
    int64_t at_ns; /* after the first entry */
    uint32_t input, output;
    size_t first_hash;
    uint32_t n_hashes; /* 0, or enough blocks for the input */
};

/* Zeroed but for kind: empty. */
struct trace {
    enum trace_kind kind;
    struct trace_entry *entries;
    size_t n, cap;
    uint64_t *hashes;
    size_t n_hashes, cap_hashes;
    size_t left_out;   /* rows of failed requests */
    double start;      /* time of the first entry */
    int columns[3];    /* CSV: of time, input, output; valid if header */
    int header;
};

/* Takes the next line, NUL-terminated. ERR_FORMAT. */
int trace_line(void *trace, const char *line, size_t n, struct err *e);

/* Reads a file. ERR_FORMAT with FILE:LINE; ERR_IO. */
int trace_load(struct trace *t, enum trace_kind kind, const char *path, struct err *e);
void trace_fini(struct trace *t);

#endif
