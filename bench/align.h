/* align: what a fault did to an answer: tokens lost, repeated and changed against the same answer of a
 * run without faults. Pure. */
#ifndef TANDEM_BENCH_ALIGN_H
#define TANDEM_BENCH_ALIGN_H

#include <stddef.h>
#include <stdint.h>

struct alignment {
    uint64_t lost;     /* of the reference that did not arrive */
    uint64_t repeated; /* that arrived again */
    uint64_t changed;  /* others than in the reference */
};

/* Adds to *a what got[n_got] has less and more than want[n_want]. Up to the first difference all is
 * well; there, if the rest is the reference's from an earlier place on, the tokens between were
 * repeated, from a later place on, lost; otherwise what stands there is changed, place by place, and
 * what the reference has beyond is lost. Time n^2 at worst. */
void align_add(struct alignment *a, const uint32_t *want, size_t n_want, const uint32_t *got,
               size_t n_got);

#endif
