#include "model/weights.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/dtype.h"
#include "model/gguf.h"
#include "model/hparams.h"
#include "tests/lib/gguf_writer.h"

/* A model held in memory. */
struct model {
    uint8_t *file;
    struct gguf *g;
    struct hparams h;
    struct weights w;
};

static int open_model(struct model *m, const struct gguf_writer *w, struct err *e)
{
    size_t n;

    m->file = gguf_writer_finish(w, &n);
    assert_int_equal(gguf_open_bytes(&m->g, m->file, n, "model.gguf", e), 0);
    assert_int_equal(hparams_load(&m->h, m->g, e), 0);
    return weights_load(&m->w, m->g, &m->h, e);
}

static void close_model(struct model *m)
{
    weights_fini(&m->w);
    gguf_close(&m->g);
    mem_free(m->file);
}

/* The tiny model with one tensor replaced (n_in > 0) or left out. */
static void refuses(const char *tensor, uint32_t type, uint64_t n_in, uint64_t n_out, int code,
                    const char *says)
{
    uint64_t ne[2] = {n_in, n_out ? n_out : 1};
    const struct dtype_info *d = dtype_info(type);
    struct err e = {0};
    struct gguf_writer w;
    struct model m;
    int rc;

    gguf_writer_init(&w);
    if (n_in)
        gguf_writer_tensor(&w, tensor, type, n_out ? 2 : 1, ne, NULL,
                           n_in / d->block_elems * d->block_bytes * ne[1]);
    w.skip = tensor;
    gguf_writer_llama(&w, NULL);
    rc = open_model(&m, &w, &e);
    if (rc != code || !strstr(e.text, says) || (code && strncmp(e.text, "model.gguf: ", 12) != 0))
        fail_msg("%s gave %d \"%s\", want %d \"%s\"", tensor, rc, e.text, code, says);
    if (rc)
        assert_null(m.w.layers);
    close_model(&m);
    gguf_writer_fini(&w);
}

static void test_every_tensor_but_the_optional_ones_is_needed(void **state)
{
    static const char *const needed[] = {
        "output_norm.weight",    "blk.0.attn_norm.weight", "blk.0.attn_q.weight",
        "blk.0.attn_k.weight",   "blk.0.attn_v.weight",    "blk.0.attn_output.weight",
        "blk.0.ffn_norm.weight", "blk.0.ffn_gate.weight",  "blk.0.ffn_up.weight",
        "blk.0.ffn_down.weight",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
        char says[80];

        snprintf(says, sizeof(says), "tensor \"%s\" is missing", needed[i]);
        refuses(needed[i], 0, 0, 0, ERR_FORMAT, says);
    }
    refuses("output.weight", 0, 0, 0, 0, "");
}

static void test_every_shape_is_checked(void **state)
{
    static const struct {
        const char *name;
        uint64_t n_in, n_out;
    } wrong[] = {
        {"output_norm.weight", 9, 0},
        {"output_norm.weight", 8, 2},
        {"output.weight", 8, 6},
        {"output.weight", 5, 8},
        {"blk.0.attn_norm.weight", 7, 0},
        {"blk.0.attn_q.weight", 8, 7},
        {"blk.0.attn_k.weight", 8, 8},
        {"blk.0.attn_v.weight", 8, 5},
        {"blk.0.attn_output.weight", 4, 8},
        {"blk.0.ffn_norm.weight", 1, 0},
        {"blk.0.ffn_gate.weight", 6, 8},
        {"blk.0.ffn_up.weight", 8, 7},
        {"blk.0.ffn_down.weight", 8, 6},
        {"rope_freqs.weight", 4, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        refuses(wrong[i].name, DTYPE_F32, wrong[i].n_in, wrong[i].n_out, ERR_FORMAT,
                ", the metadata say ");
    refuses("blk.0.attn_k.weight", DTYPE_F32, 8, 6, ERR_FORMAT,
            "tensor \"blk.0.attn_k.weight\" is 8 x 6 x 1 x 1, the metadata say 8 x 4 x 1 x 1");
}

static void test_types_that_do_not_run_are_refused_by_name(void **state)
{
    (void)state;
    refuses("blk.0.attn_q.weight", 21, 256, 1, ERR_UNSUPPORTED,
            "tensor \"blk.0.attn_q.weight\" is IQ3_S; the types that run are F32, F16, Q4_0, "
            "Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, BF16, TQ1_0, TQ2_0, "
            "I2_S, MXFP4");
    for (uint32_t type = 0; type < DTYPE_LIMIT; type++) {
        const struct dtype_info *d = dtype_info(type);
        char says[96];

        if (!d || d->supported || !d->block_elems)
            continue;
        snprintf(says, sizeof(says),
                 "tensor \"blk.0.ffn_up.weight\" is %s; the types that run are F32, ", d->name);
        refuses("blk.0.ffn_up.weight", type, 256, 1, ERR_UNSUPPORTED, says);
    }
    refuses("blk.0.ffn_up.weight", 26, 8, 6, ERR_UNSUPPORTED, "is I32; the");
    refuses("output_norm.weight", DTYPE_F16, 8, 0, ERR_UNSUPPORTED,
            "is F16, this one has to be F32");
    refuses("blk.0.attn_norm.weight", DTYPE_BF16, 8, 0, ERR_UNSUPPORTED, "has to be F32");
}

static void test_a_tensor_we_do_not_know_is_refused(void **state)
{
    (void)state;
    refuses("blk.0.attn_q.bias", DTYPE_F32, 8, 0, ERR_UNSUPPORTED,
            "tensor \"blk.0.attn_q.bias\" is unknown in a llama model of 1 layers");
    refuses("blk.1.attn_q.weight", DTYPE_F32, 8, 8, ERR_UNSUPPORTED, "\"blk.1.attn_q.weight\"");
    refuses("blk.00.attn_q.weight", DTYPE_F32, 8, 8, ERR_UNSUPPORTED, "\"blk.00.attn_q.weight\"");
    refuses("blk.0.ffn_gate_inp.weight", DTYPE_F32, 8, 4, ERR_UNSUPPORTED, "is unknown");
}

static void test_rope_freqs_are_finite_and_positive(void **state)
{
    static const float wrong[] = {0, -1, NAN, INFINITY};
    const uint64_t ne[1] = {2};
    float f[2] = {1, 4};

    (void)state;
    for (size_t i = 0; i <= ARRAY_LEN(wrong); i++) {
        bool good = i == ARRAY_LEN(wrong);
        struct gguf_writer w;
        struct model m;
        struct err e;
        int rc;

        f[1] = good ? 4 : wrong[i];
        gguf_writer_init(&w);
        gguf_writer_llama(&w, NULL);
        gguf_writer_tensor(&w, "rope_freqs.weight", DTYPE_F32, 1, ne, f, sizeof(f));
        rc = open_model(&m, &w, &e);
        assert_int_equal(rc, good ? 0 : ERR_FORMAT);
        if (good)
            assert_memory_equal(m.w.rope_freqs->data, f, sizeof(f));
        else
            assert_non_null(strstr(e.text, "\"rope_freqs.weight\" has "));
        close_model(&m);
        gguf_writer_fini(&w);
    }
}

/* 256 x 128 weights and the scale behind them. */
static void test_the_scale_of_an_i2_s_tensor_is_checked(void **state)
{
    static const float scales[] = {0.5f, 0, -1, INFINITY, NAN};
    const struct gguf_llama s = {.n_vocab = 8, .n_ctx = 16, .n_embd = 256, .n_layer = 1,
                                 .n_head = 2, .n_head_kv = 1, .n_ff = 256};
    uint64_t ne[2] = {256, 128};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(scales); i++) {
        static uint8_t data[256 * 128 / 4 + 32];
        struct err e = {0};
        struct gguf_writer w;
        struct model m;
        int rc;

        memcpy(data + sizeof(data) - 32, &scales[i], 4);
        gguf_writer_init(&w);
        gguf_writer_tensor(&w, "blk.0.attn_k.weight", DTYPE_I2_S, 2, ne, data, sizeof(data));
        w.skip = "blk.0.attn_k.weight";
        gguf_writer_llama(&w, &s);
        rc = open_model(&m, &w, &e);
        assert_int_equal(rc, isfinite(scales[i]) ? 0 : ERR_FORMAT);
        if (rc)
            assert_non_null(strstr(e.text, "tensor \"blk.0.attn_k.weight\" is I2_S and has a scale of "));
        close_model(&m);
        gguf_writer_fini(&w);
    }
}

static const struct gguf_llama shape = {
    .n_vocab = 40,
    .n_ctx = 128,
    .n_embd = 64,
    .n_layer = 3,
    .n_head = 4,
    .n_head_kv = 2,
    .n_ff = 96,
};

static void test_dense_models_of_each_type_load(void **state)
{
    static const uint32_t types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q4_0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct gguf_llama s = shape;
        struct gguf_writer w;
        struct model m;
        struct err e;

        s.type = types[i];
        s.tied = i % 2;
        gguf_writer_init(&w);
        gguf_writer_llama(&w, &s);
        if (open_model(&m, &w, &e))
            fail_msg("%s", e.text);
        assert_true((m.w.output == m.w.token_embd) == s.tied);
        assert_null(m.w.rope_freqs);
        assert_int_equal(m.w.token_embd->type, types[i]);
        assert_string_equal(m.w.layers[2].down->name, "blk.2.ffn_down.weight");
        assert_int_equal(m.w.layers[2].down->ne[0], 96);
        assert_string_equal(m.w.layers[1].wv->name, "blk.1.attn_v.weight");
        assert_null(m.w.layers[0].router);
        close_model(&m);
        gguf_writer_fini(&w);
    }
}

static void test_models_with_experts_load(void **state)
{
    struct gguf_llama s = shape;
    struct gguf_writer w;
    struct model m;
    struct err e;

    (void)state;
    s.type = DTYPE_Q8_0;
    s.n_expert = 4;
    s.n_expert_used = 2;
    gguf_writer_init(&w);
    gguf_writer_llama(&w, &s);
    if (open_model(&m, &w, &e))
        fail_msg("%s", e.text);
    assert_string_equal(m.w.layers[1].router->name, "blk.1.ffn_gate_inp.weight");
    assert_int_equal(m.w.layers[1].gate_exps->ne[2], 4);
    assert_int_equal(m.w.layers[1].down_exps->ne[0], 96);
    assert_null(m.w.layers[1].gate);
    close_model(&m);
    gguf_writer_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_tensor_but_the_optional_ones_is_needed),
        cmocka_unit_test(test_every_shape_is_checked),
        cmocka_unit_test(test_types_that_do_not_run_are_refused_by_name),
        cmocka_unit_test(test_the_scale_of_an_i2_s_tensor_is_checked),
        cmocka_unit_test(test_a_tensor_we_do_not_know_is_refused),
        cmocka_unit_test(test_rope_freqs_are_finite_and_positive),
        cmocka_unit_test(test_dense_models_of_each_type_load),
        cmocka_unit_test(test_models_with_experts_load),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
