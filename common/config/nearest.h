/* nearest: the known word closest to one that was mistyped. Data on the stack; any thread. */
#ifndef TANDEM_CONFIG_NEAREST_H
#define TANDEM_CONFIG_NEAREST_H

#include <stddef.h>

struct nearest {
    const char *word; /* borrowed */
    const char *best; /* borrowed from the caller's candidates; NULL while none was close */
    size_t distance;  /* of best; only a smaller one replaces it */
};

/* `-` and `_` count as the same. A candidate is close within a third of the word's length, at least
 * one edit (a letter inserted, lost, changed, or swapped with its neighbour). */
void nearest_init(struct nearest *n, const char *word);
void nearest_try(struct nearest *n, const char *candidate);

#endif
