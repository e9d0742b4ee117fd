/* engine_case: the tests of `tandem-bench engine`, and an engine with pages to run them on. */
#ifndef TANDEM_BENCH_ENGINE_CASE_H
#define TANDEM_BENCH_ENGINE_CASE_H

#include <stdint.h>

#include "base/err.h"
#include "bench/engine_load.h"
#include "bench/engine_options.h"
#include "bench/series.h"
#include "engine/engine.h"
#include "kernels/roofline.h"
#include "kv/kv_pool.h"

/* A test and what its runs gave. */
struct engine_case {
    char name[48];                  /* "pp512", "tg64@b16c0" */
    uint32_t pp;                    /* tokens of the prompt; 0: generation */
    uint32_t steps, batch, ctx;
    struct series tok_s, flop_s, byte_s, mfu, mbu; /* one value a round */
    double peak, read;              /* the best that the machine did in these rounds */
};

struct engine_cases {
    struct engine_case *items;
    size_t n;
};

/* The tests that the options ask for, prompts first. */
void engine_cases_init(struct engine_cases *c, const struct engine_bench_options *o);
void engine_cases_fini(struct engine_cases *c);

/* An engine of n_threads and KV for the largest test. */
struct engine_rig {
    struct engine *engine;
    struct kv_pool *pool;
    uint8_t **pages;        /* block tables of all sequences, one after the other */
    struct batch_row *rows; /* [ENGINE_ROWS_MAX] */
    uint32_t n_threads;
    struct roofline roofline; /* measured after loading */
    struct engine_loads loads;
};

/* Loads the model; pages are filled with small random values. pus: NULL or n_threads of them.
 * ERR_LIMIT if a test needs a longer context than the model has. */
int engine_rig_open(struct engine_rig *rig, const struct engine_bench_options *o,
                    const uint32_t *pus, uint32_t n_threads, const struct engine_cases *cases,
                    struct err *e);
void engine_rig_close(struct engine_rig *rig);

/* Runs the test once, between two looks at the machine, and adds what it gave. */
void engine_case_run(struct engine_case *c, struct engine_rig *rig);

#endif
