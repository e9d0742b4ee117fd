#include "model/hparams.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/gguf.h"
#include "tests/lib/gguf_writer.h"

/* One key that replaces or joins those of the tiny model: 8 wide, 1 layer, 2 heads, 1 KV head. */
struct change {
    const char *key;
    enum { ABSENT, U32, I32, F32, STR, BOOL, HEADS } type;
    double number;
    const char *text;
};

static void write_change(struct gguf_writer *w, const struct change *c)
{
    const uint32_t heads[2] = {2, 2};

    switch (c->type) {
    case ABSENT:
        break;
    case U32:
        gguf_writer_u32(w, c->key, (uint32_t)c->number);
        break;
    case I32:
        gguf_writer_i32(w, c->key, (int32_t)c->number);
        break;
    case F32:
        gguf_writer_f32(w, c->key, (float)c->number);
        break;
    case STR:
        gguf_writer_str(w, c->key, c->text);
        break;
    case BOOL:
        gguf_writer_bool(w, c->key, c->number != 0);
        break;
    case HEADS:
        gguf_writer_array(w, c->key, GGUF_U32, heads, 2);
        break;
    }
}

/* hparams of the tiny model with n changes; the first one's key is left out of the model itself. */
static int load(struct hparams *h, const struct change *c, size_t n, struct err *e)
{
    struct gguf_writer w;
    struct gguf *g;
    uint8_t *file;
    size_t bytes;
    int rc;

    gguf_writer_init(&w);
    for (size_t i = 0; i < n; i++)
        write_change(&w, &c[i]);
    w.skip = n ? c[0].key : NULL;
    gguf_writer_llama(&w, NULL);
    file = gguf_writer_finish(&w, &bytes);
    assert_int_equal(gguf_open_bytes(&g, file, bytes, "model.gguf", e), 0);
    rc = hparams_load(h, g, e);
    gguf_close(&g);
    mem_free(file);
    gguf_writer_fini(&w);
    return rc;
}

static void load_ok(struct hparams *h, const struct change *c, size_t n)
{
    struct err e = {0};

    if (load(h, c, n, &e))
        fail_msg("%s", e.text);
}

static const struct bad {
    struct change change;
    int code;
    const char *says;
} bad[] = {
    {{"general.architecture", ABSENT, 0, 0}, ERR_FORMAT, "\"general.architecture\" is missing"},
    {{"general.architecture", U32, 1, 0}, ERR_FORMAT, "is of type u32, a string is needed"},
    {{"general.architecture", STR, 0, "gpt2"},
     ERR_UNSUPPORTED,
     "model.gguf: architecture \"gpt2\" is not supported; llama is"},
    {{"general.architecture", STR, 0, "llama4"}, ERR_UNSUPPORTED, "architecture \"llama4\""},
    {{"general.architecture", STR, 0, "llam"}, ERR_UNSUPPORTED, "architecture \"llam\""},
    {{"general.architecture", STR, 0, "a\033[2J"}, ERR_UNSUPPORTED, "architecture \"a?[2J\""},
    {{"general.type", STR, 0, "adapter"}, ERR_UNSUPPORTED, "holds a \"adapter\", not a model"},
    {{"split.count", U32, 3, 0}, ERR_UNSUPPORTED, "\"split.count\" is 3"},
    {{"llama.block_count", ABSENT, 0, 0}, ERR_FORMAT, "key \"llama.block_count\" is missing"},
    {{"llama.block_count", U32, 0, 0}, ERR_FORMAT, "is 0, it has to be from 1 to 1024"},
    {{"llama.block_count", U32, 2147483648.0, 0}, ERR_FORMAT, "is 2147483648, it has to be"},
    {{"llama.block_count", F32, 1, 0}, ERR_FORMAT, "is of type f32, an integer is needed"},
    {{"llama.context_length", U32, 0, 0}, ERR_FORMAT, "from 1 to 16777216"},
    {{"llama.context_length", U32, 4294967295.0, 0}, ERR_FORMAT, "is 4294967295"},
    {{"llama.embedding_length", U32, 0, 0}, ERR_FORMAT, "from 1 to 65536"},
    {{"llama.embedding_length", U32, 65538, 0}, ERR_FORMAT, "is 65538"},
    {{"llama.embedding_length", U32, 9, 0}, ERR_FORMAT, "embeddings of 9 values, no multiple"},
    {{"llama.embedding_length", U32, 2, 0}, ERR_FORMAT, "has heads of 1 values"},
    {{"llama.embedding_length", U32, 4096, 0}, ERR_FORMAT, "has heads of 2048 values"},
    {{"llama.feed_forward_length", ABSENT, 0, 0}, ERR_FORMAT, "is missing"},
    {{"llama.feed_forward_length", U32, 1048577, 0}, ERR_FORMAT, "from 1 to 1048576"},
    {{"llama.feed_forward_length", HEADS, 0, 0}, ERR_FORMAT, "is an array, one value is needed"},
    {{"llama.attention.head_count", ABSENT, 0, 0}, ERR_FORMAT, "is missing"},
    {{"llama.attention.head_count", U32, 0, 0}, ERR_FORMAT, "from 1 to 1024"},
    {{"llama.attention.head_count", I32, -2, 0}, ERR_FORMAT, "is -2"},
    {{"llama.attention.head_count", U32, 1025, 0}, ERR_FORMAT, "is 1025"},
    {{"llama.attention.head_count", U32, 3, 0}, ERR_FORMAT, "no multiple of its 3 attention heads"},
    {{"llama.attention.head_count_kv", U32, 0, 0}, ERR_FORMAT, "from 1 to 1024"},
    {{"llama.attention.head_count_kv", U32, 3, 0}, ERR_FORMAT, "2 attention heads, no multiple"},
    {{"llama.attention.head_count_kv", U32, 4, 0}, ERR_FORMAT, "its 4 KV heads"},
    {{"llama.attention.head_count_kv", HEADS, 0, 0}, ERR_FORMAT, "is an array"},
    {{"llama.attention.key_length", U32, 0, 0}, ERR_FORMAT, "from 2 to 1024"},
    {{"llama.attention.key_length", U32, 2000, 0}, ERR_FORMAT, "is 2000"},
    {{"llama.attention.value_length", U32, 6, 0},
     ERR_UNSUPPORTED,
     "k heads of 4 values and v heads of 6"},
    {{"llama.attention.layer_norm_rms_epsilon", ABSENT, 0, 0}, ERR_FORMAT, "epsilon\" is missing"},
    {{"llama.attention.layer_norm_rms_epsilon", F32, 0, 0}, ERR_FORMAT, "is 0, it has to be"},
    {{"llama.attention.layer_norm_rms_epsilon", F32, -1e-5, 0}, ERR_FORMAT, "is -1e-05"},
    {{"llama.attention.layer_norm_rms_epsilon", F32, (double)NAN, 0},
     ERR_FORMAT,
     "nan, it has to be"},
    {{"llama.attention.layer_norm_rms_epsilon", F32, (double)INFINITY, 0}, ERR_FORMAT, "is inf"},
    {{"llama.attention.layer_norm_rms_epsilon", U32, 1, 0}, ERR_FORMAT, "a float is needed"},
    {{"llama.rope.dimension_count", U32, 0, 0}, ERR_FORMAT, "is 0, it has to be from 2 to 4"},
    {{"llama.rope.dimension_count", U32, 3, 0}, ERR_FORMAT, "rotates 3 values"},
    {{"llama.rope.dimension_count", U32, 6, 0}, ERR_FORMAT, "from 2 to 4"},
    {{"llama.rope.freq_base", F32, 0, 0}, ERR_FORMAT, "is 0, it has to be from 1"},
    {{"llama.rope.freq_base", F32, (double)NAN, 0}, ERR_FORMAT, "nan"},
    {{"llama.rope.scaling.type", STR, 0, "longrope"}, ERR_UNSUPPORTED, "rope scaling \"longrope\""},
    {{"llama.rope.scaling.factor", F32, -4, 0}, ERR_FORMAT, "is -4"},
    {{"llama.rope.scaling.factor", F32, (double)INFINITY, 0}, ERR_FORMAT, "is inf"},
    {{"llama.rope.scaling.original_context_length", U32, 0, 0}, ERR_FORMAT, "is 0"},
    {{"llama.rope.scaling.yarn_beta_fast", F32, (double)NAN, 0}, ERR_FORMAT, "nan"},
    {{"llama.rope.scaling.yarn_log_multiplier", F32, 0.1, 0}, ERR_UNSUPPORTED, "cannot run"},
    {{"llama.expert_count", U32, 257, 0}, ERR_FORMAT, "from 0 to 256"},
    {{"llama.expert_count", U32, 4, 0}, ERR_FORMAT, "\"llama.expert_used_count\" is missing"},
    {{"llama.expert_gating_func", U32, 2, 0}, ERR_UNSUPPORTED, "is 2, which this build cannot run"},
    {{"llama.logit_scale", F32, 0.5, 0}, ERR_UNSUPPORTED, "\"llama.logit_scale\" is 0.5"},
    {{"llama.attention.causal", BOOL, 0, 0}, ERR_UNSUPPORTED, "embedding model"},
    {{"token_embd.weight", ABSENT, 0, 0}, ERR_FORMAT, "\"token_embd.weight\" is missing"},
};

static void test_bad_metadata_are_refused_with_a_sentence(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err e = {0};
        struct hparams h;
        int rc = load(&h, &bad[i].change, 1, &e);

        if (rc != bad[i].code || !strstr(e.text, bad[i].says) ||
            strncmp(e.text, "model.gguf: ", 12))
            fail_msg("%s %g gave %d \"%s\", want %d \"%s\"", bad[i].change.key,
                     bad[i].change.number, rc, e.text, bad[i].code, bad[i].says);
    }
}

static void test_a_plain_model_and_its_defaults(void **state)
{
    const struct change none[] = {{"llama.rope.dimension_count", ABSENT, 0, 0}};
    const struct change heads[] = {{"llama.attention.head_count_kv", ABSENT, 0, 0}};
    const struct change base[] = {{"llama.rope.freq_base", ABSENT, 0, 0}};
    struct hparams h;

    (void)state;
    load_ok(&h, none, 1);
    assert_string_equal(h.arch, "llama");
    assert_string_equal(h.name, "test");
    assert_int_equal(h.n_vocab, 5);
    assert_int_equal(h.n_ctx, 64);
    assert_int_equal(h.n_embd, 8);
    assert_int_equal(h.n_layer, 1);
    assert_int_equal(h.n_head, 2);
    assert_int_equal(h.n_head_kv, 1);
    assert_int_equal(h.head_dim, 4);
    assert_int_equal(h.n_rot, 4);
    assert_int_equal(h.n_ff, 6);
    assert_int_equal(h.n_expert + h.n_expert_used, 0);
    assert_true(h.rms_eps == 1e-5f);
    assert_int_equal(h.rope_scaling, ROPE_NONE);
    assert_true(h.rope_factor == 1);
    assert_int_equal(h.rope_ctx_orig, 64);
    load_ok(&h, heads, 1);
    assert_int_equal(h.n_head_kv, 2);
    load_ok(&h, base, 1);
    assert_true(h.rope_base == 10000);
}

static void test_heads_may_be_wider_than_their_share(void **state)
{
    const struct change c[] = {{"llama.attention.key_length", U32, 24, 0},
                               {"llama.attention.value_length", U32, 24, 0}};
    struct hparams h;

    (void)state;
    load_ok(&h, c, 2);
    assert_int_equal(h.head_dim, 24);
    assert_int_equal(h.n_rot, 4); /* the key says so */
}

static void test_rope_scaling_by_the_rules_of_the_format(void **state)
{
    const struct change linear[] = {{"llama.rope.scaling.type", STR, 0, "linear"},
                                    {"llama.rope.scaling.factor", F32, 4, 0}};
    const struct change untyped[] = {{"llama.rope.scaling.factor", F32, 2, 0}};
    const struct change old[] = {{"llama.rope.scale_linear", F32, 8, 0}};
    const struct change zero[] = {{"llama.rope.scaling.factor", F32, 0, 0}};
    const struct change none[] = {{"llama.rope.scaling.type", STR, 0, "none"},
                                  {"llama.rope.scaling.factor", F32, 4, 0}};
    const struct change yarn[] = {{"llama.rope.scaling.type", STR, 0, "yarn"},
                                  {"llama.rope.scaling.factor", F32, 4, 0},
                                  {"llama.rope.scaling.original_context_length", U32, 16, 0}};
    const struct change tuned[] = {{"llama.rope.scaling.type", STR, 0, "yarn"},
                                   {"llama.rope.scaling.yarn_ext_factor", F32, 0.5, 0},
                                   {"llama.rope.scaling.yarn_attn_factor", F32, 2, 0},
                                   {"llama.rope.scaling.attn_factor", F32, 3, 0},
                                   {"llama.rope.scaling.yarn_beta_fast", F32, 16, 0},
                                   {"llama.rope.scaling.yarn_beta_slow", F32, 2, 0}};
    struct hparams h;

    (void)state;
    load_ok(&h, linear, 2);
    assert_true(h.rope_scaling == ROPE_LINEAR && h.rope_factor == 4);
    load_ok(&h, untyped, 1);
    assert_true(h.rope_scaling == ROPE_LINEAR && h.rope_factor == 2);
    load_ok(&h, old, 1);
    assert_true(h.rope_scaling == ROPE_LINEAR && h.rope_factor == 8);
    load_ok(&h, zero, 1);
    assert_true(h.rope_scaling == ROPE_NONE && h.rope_factor == 1);
    load_ok(&h, none, 2);
    assert_true(h.rope_scaling == ROPE_NONE && h.rope_factor == 1);
    load_ok(&h, yarn, 3);
    assert_true(h.rope_scaling == ROPE_YARN && h.rope_factor == 4 && h.rope_ctx_orig == 16);
    assert_true(h.yarn_ext_factor == 1 && h.yarn_attn_factor == 1);
    assert_true(h.yarn_beta_fast == 32 && h.yarn_beta_slow == 1);
    load_ok(&h, tuned, 6);
    assert_true(h.yarn_ext_factor == 0.5f && h.yarn_attn_factor == 6);
    assert_true(h.yarn_beta_fast == 16 && h.yarn_beta_slow == 2);
}

static void test_experts(void **state)
{
    struct change c[] = {{"llama.expert_used_count", U32, 2, 0}, {"llama.expert_count", U32, 4, 0}};
    struct err e;
    struct hparams h;

    (void)state;
    load_ok(&h, c, 2);
    assert_int_equal(h.n_expert, 4);
    assert_int_equal(h.n_expert_used, 2);
    c[0].number = 5;
    assert_int_equal(load(&h, c, 2, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "is 5, it has to be from 1 to 4"));
    c[0].number = 0;
    assert_int_equal(load(&h, c, 2, &e), ERR_FORMAT);
}

static void test_neutral_values_of_foreign_keys_are_fine(void **state)
{
    const struct change c[] = {
        {"llama.logit_scale", F32, 1, 0},        {"llama.attention.scale", F32, 0, 0},
        {"llama.expert_gating_func", U32, 1, 0}, {"llama.attention.causal", BOOL, 1, 0},
        {"general.type", STR, 0, "model"},       {"split.count", U32, 1, 0}};
    struct hparams h;

    (void)state;
    load_ok(&h, c, ARRAY_LEN(c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_metadata_are_refused_with_a_sentence),
        cmocka_unit_test(test_a_plain_model_and_its_defaults),
        cmocka_unit_test(test_heads_may_be_wider_than_their_share),
        cmocka_unit_test(test_rope_scaling_by_the_rules_of_the_format),
        cmocka_unit_test(test_experts),
        cmocka_unit_test(test_neutral_values_of_foreign_keys_are_fine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
