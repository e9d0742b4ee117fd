/* fuzz_gguf: any bytes as a model file, as far as a node goes with it before it computes: directory,
 * hparams, weights, vocabulary. Run with tests/fuzz/run.sh gguf SECONDS. */
#include <string.h>

#include "base/mem.h"
#include "model/gguf.h"
#include "model/hparams.h"
#include "model/vocab.h"
#include "model/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static volatile uint64_t sink;

/* Every byte that a load by the engine would read. */
static void read_weights(const struct gguf *g)
{
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);

        sink += ((const uint8_t *)t->data)[0] + ((const uint8_t *)t->data)[t->bytes - 1];
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t *copy = mem_aligned(n, 64);
    struct vocab *v = NULL;
    struct hparams h;
    struct weights w;
    struct gguf *g;
    struct err e;

    if (n)
        memcpy(copy, data, n);
    if (gguf_open_bytes(&g, copy, n, "fuzz", &e) == 0) {
        sink += gguf_hash(g);
        read_weights(g);
        if (hparams_load(&h, g, &e) == 0 && weights_load(&w, g, &h, &e) == 0)
            weights_fini(&w);
        if (vocab_load(&v, g, &e) == 0)
            vocab_free(&v);
        gguf_close(&g);
    }
    mem_free(copy);
    return 0;
}
