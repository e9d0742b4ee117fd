/* weights: random rows of weights in the file's layout, and random activations, for kernel tests.
 * Pure functions of their seed. */
#ifndef TANDEM_TESTS_WEIGHTS_H
#define TANDEM_TESTS_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

#include "model/dtype.h"

enum weights_kind {
    WEIGHTS_PLAIN,   /* about -1 to 1 */
    WEIGHTS_EXTREME, /* ends of every range: -128, nibbles 0 and 15; scales 0, largest, denormal */
    WEIGHTS_KIND_COUNT
};

#define WEIGHTS_TYPES 19
#define WEIGHTS_FORMS 10 /* the first of them are packed in a form of their own */
extern const enum dtype weights_types[WEIGHTS_TYPES];

/* n_in, or the next length that rows of this type can have. */
uint32_t weights_length(enum dtype type, uint32_t n_in);

/* Bytes of a row of n_in weights. */
size_t weights_row_bytes(enum dtype type, size_t n_in);

/* rows[n_out] rows of n_in */
void weights_fill(void *rows, enum dtype type, size_t n_out, size_t n_in, enum weights_kind kind,
                  uint64_t seed);

/* x[n]: plain about -1 to 1; extreme: also zeros, runs of one magnitude, tiny and large values. */
void weights_floats(float *x, size_t n, enum weights_kind kind, uint64_t seed);

#endif
