/* gguf_parse: the part of gguf that reads bytes nobody vouches for. Private to gguf.c. */
#ifndef TANDEM_MODEL_GGUF_PARSE_H
#define TANDEM_MODEL_GGUF_PARSE_H

#include "model/gguf.h"

/* Names in strcmp order, for lookup. */
struct gguf_index {
    const char *name;
    uint32_t i; /* in the file's order */
};

/* While parsing, n_kv and n_tensors count what is complete or half-built, so that gguf_close frees
 * exactly that. */
struct gguf {
    char name[256]; /* last component of the path, cut */
    const uint8_t *data;
    size_t bytes;
    bool mapped; /* data is ours to unmap */

    uint32_t version, alignment;
    size_t directory_end; /* header, metadata and directory: data[0 .. directory_end) */
    size_t data_start; /* directory_end rounded up to alignment; may lie past an empty file's end */

    uint32_t n_kv, n_tensors;
    struct gguf_kv *kv;
    struct gguf_tensor *tensors;
    uint64_t *offsets; /* [n_tensors], from data_start */
    struct gguf_index *kv_index, *tensor_index; /* [n_kv], [n_tensors] */
};

/* Fills everything below `mapped` from data[bytes]. After a failure gguf_close frees what there is. */
int gguf_parse(struct gguf *g, struct err *e);

/* Bytes of one value of the type; 0 for strings, arrays and unknown types. */
uint32_t gguf_type_bytes(uint32_t type);

#endif
