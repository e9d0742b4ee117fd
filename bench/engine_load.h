/* engine_load: how fast a model is loaded, beside a plain copy of its bytes. */
#ifndef TANDEM_BENCH_ENGINE_LOAD_H
#define TANDEM_BENCH_ENGINE_LOAD_H

#include "base/err.h"
#include "bench/series.h"
#include "engine/engine.h"

struct engine_loads {
    struct series byte_s, copy_byte_s; /* of the file's tensors; one value a round */
    size_t file_bytes, memory_bytes;   /* of tensors: in the file, and packed */
};

/* `times` rounds: the team that o asks for copies the tensors from the mapped file into new memory of
 * the kind that weights are in, and gives that back; then the model is loaded. The last engine stays,
 * owned by the caller. After an error l is still to be ended. */
int engine_loads_run(struct engine_loads *l, struct engine **engine, const struct engine_options *o,
                     uint32_t times, struct err *e);
void engine_loads_fini(struct engine_loads *l);

#endif
