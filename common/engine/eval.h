/* eval: one model, one sequence, no network: how the engine is compared with an outside oracle, and
 * what a cluster's stream must equal. One thread. */
#ifndef TANDEM_ENGINE_EVAL_H
#define TANDEM_ENGINE_EVAL_H

#include <stdint.h>

#include "base/err.h"
#include "engine/engine.h"
#include "engine/sample.h"

struct eval;

/* Opens the engine and a KV pool for one sequence of ctx_max tokens. Owned by the caller. */
int eval_open(struct eval **ev, const struct engine_options *o, struct err *e);
void eval_close(struct eval **ev);
const struct engine *eval_engine(const struct eval *ev);

/* Called for each position with its logits [n_vocab], borrowed. */
typedef void eval_row_fn(void *ctx, uint32_t pos, const float *logits);

/* Starts the sequence anew and runs it in chunks of `chunk` rows (0: as large as rows_max allows).
 * ERR_LIMIT if it is longer than the context, ERR_ARG for an id outside the vocabulary. */
int eval_logits(struct eval *ev, const uint32_t *tokens, uint32_t n, uint32_t chunk, eval_row_fn *fn,
                void *ctx, struct err *e);

/* How badly the model foretells the tokens: *nll = the sum of -log p(tokens[i] | those before it) for
 * i = 1 .. n - 1, in nats. exp(nll / (n - 1)) is the perplexity. Errors as eval_logits. */
int eval_nll(struct eval *ev, const uint32_t *tokens, uint32_t n, double *nll, struct err *e);

/* Starts anew with the prompt and writes the n_new ids that follow into out, sampled with p (index 0
 * first). End-of-text ids do not stop it. */
int eval_generate(struct eval *ev, const uint32_t *tokens, uint32_t n, const struct sample_params *p,
                  uint32_t *out, uint32_t n_new, struct err *e);

#endif
