/* cost: what a forward pass has to compute and to read, at least, and what machine it meets: the
 * numerators and denominators of MFU and MBU. Formulas: bench/README.md. */
#ifndef TANDEM_ENGINE_COST_H
#define TANDEM_ENGINE_COST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "engine/engine.h"
#include "kernels/roofline.h"

struct cost {
    double flops; /* of matrices and attention; a multiply-add is two */
    double bytes; /* weights once, as packed, and the KV of each sequence once */
};

/* Adds the pass's cost to c. The rows of a sequence stand together. */
void cost_add(struct cost *c, const struct engine *en, const struct batch *b);

/* One row: the FLOPs of a prompt's row, its attention and the output matrix left out, and the weight
 * bytes that a decode step of one sequence reads. */
void cost_row(struct cost *c, const struct engine *en);

/* Appends the types of the matrices, those with most bytes first: "Q4_0+Q8_0". */
void cost_types(struct str *out, const struct engine *en);

/* What the engine's matrix products could do at most: the unit its tier uses for most of them. */
enum roof cost_roof(const struct engine *en);

/* Measures the machine with the engine's own team and weights. By the thread that opened it. */
void cost_roofline(struct roofline *r, struct engine *en, int64_t budget_ns);

#endif
