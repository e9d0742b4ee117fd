/* engine_options: what `tandem-bench engine` can be told. Plain data, filled at start. */
#ifndef TANDEM_BENCH_ENGINE_OPTIONS_H
#define TANDEM_BENCH_ENGINE_OPTIONS_H

#include <stdint.h>

#include "config/option.h"

#define ENGINE_LIST_MAX 32     /* numbers in one option */
#define ENGINE_ROWS_MAX 512    /* rows of a prompt's chunks, and of a batch */
#define ENGINE_TOKENS_MAX 1048576

struct engine_bench_options {
    char *model;
    char *threads, *pp, *batch, *ctx; /* lists, see engine_list */
    char *cpu;   /* tier or "auto" */
    char *cores; /* ranges.h; the first of them for each count of threads; "": not pinned */
    uint32_t tg, repeat, loads, few_rows;
    int kv_type; /* enum kv_type */
    char *json;  /* file; "": none, "-": stdout */
};

extern const struct option_table engine_bench_table;

/* Reads "64,128,512" into list and returns how many; "" is 0 numbers. -1: something else, a number
 * over ENGINE_TOKENS_MAX, or more than ENGINE_LIST_MAX of them. */
int engine_list(uint32_t list[ENGINE_LIST_MAX], const char *text);

#endif
