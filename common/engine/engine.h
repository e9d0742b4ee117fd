/* engine: a loaded model, packed for this machine's kernels, with the team that computes it.
 *
 * One engine a node. After engine_open everything but the scratch buffers is immutable.
 * engine_forward is called by the thread that opened the engine (its team's thread 0). The engine
 * knows rows and pages, not requests: sequences, slots and sockets are the nodes' business. */
#ifndef TANDEM_ENGINE_ENGINE_H
#define TANDEM_ENGINE_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "engine/batch.h"
#include "host/cpu.h"
#include "kv/kv_layout.h"
#include "model/hparams.h"

struct engine;

struct engine_options {
    const char *model;   /* path of a GGUF */
    enum cpu_tier tier;
    const uint32_t *pus; /* processors to pin the team to, NULL: not pinned */
    uint32_t n_threads;  /* length of pus, or number of unpinned threads; >= 1 */
    uint32_t rows_max;   /* largest batch */
    uint32_t ctx_max;    /* longest sequence; 0: the model's context length */
    enum mem_huge huge_pages; /* of the weights */
    /* Called by the calling thread while weights are packed, ascending, at most once a percent, the last
     * time with 100. NULL: not called. */
    void (*progress)(void *ctx, uint32_t percent);
    void *progress_ctx;
    /* Rows of a matmul up to which kernels for few are taken, where the tier has others of the same bits:
     * 0: measured at the end of engine_open, else as said. */
    uint32_t few_rows;
    enum kv_type kv_type; /* KV_AUTO: the tier's, kernels_kv_auto */
};

/* Maps the file, checks it, packs the weights with the team's threads (each packs what it will
 * read), and unmaps the file. The calling thread becomes thread 0 of the team and is pinned with it.
 * Owned by the caller. */
int engine_open(struct engine **engine, const struct engine_options *o, struct err *e);
void engine_close(struct engine **engine); /* by the thread that opened it */

const struct hparams *engine_hparams(const struct engine *engine);
const struct kv_layout *engine_kv_layout(const struct engine *engine);
uint64_t engine_model_hash(const struct engine *engine); /* gguf_hash of the file */
uint32_t engine_ctx_max(const struct engine *engine);
uint32_t engine_rows_max(const struct engine *engine);
size_t engine_weight_bytes(const struct engine *engine); /* packed weights, resident */

/* What loading took, from opening the file to closing it. */
struct engine_load {
    int64_t ns;
    size_t file_bytes; /* of the tensors that engine_weight_bytes has in packed form */
};
const struct engine_load *engine_load(const struct engine *engine);

/* Runs all layers over the batch: embeds, attends, writes KV, and returns the logits of the rows
 * that want them, [n_wanted][n_vocab] in row order; NULL if none does. The logits live until the next
 * call. A row's KV and logits depend on its own sequence alone: not on the other rows, the chunking,
 * the number of threads or which pages it got (the determinism contract). The batch's fields are
 * trusted: callers check tokens and positions where they enter the process. */
const float *engine_forward(struct engine *engine, const struct batch *b);

/* How often the threads met in the last pass, its beginning and end aside. */
uint32_t engine_meetings(const struct engine *engine);

/* `Q4_0*2048=64 Q6_K*5632=48`: matrices of that type and width take kernels for few rows up to so many. ""
 * where the tier has but one kernel for each. Lives as long as the engine. */
const char *engine_few_rows(const struct engine *engine);

#endif
