/* tune: where the tier has two kernels of equal bits for a matrix, up to how many rows of x the one for
 * few is taken. Part of engine_open; changes no bit of any result. */
#ifndef TANDEM_ENGINE_TUNE_H
#define TANDEM_ENGINE_TUNE_H

#include <stdint.h>

struct engine;

/* Sets `few` of all the model's panels: to `rows`, or if that is 0 to what the team measures on the
 * model's own matrices, in a fraction of a second. Says what it chose, once. By thread 0, with the
 * scratch in place. */
void tune_engine(struct engine *en, uint32_t rows);

#endif
