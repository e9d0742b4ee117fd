#include "model/gguf_parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/hparams.h"
#include "model/weights.h"
#include "tests/lib/gguf_writer.h"

/* Files in the language of gguf_assemble: header of (tensors, keys), keys, a tensor's entry. */
#define HEADER(tensors, keys) "'GGUF' u32:3 u64:" #tensors " u64:" #keys " "
#define KEY(text, type) "\"" text "\" u32:" #type " "
#define ARRAY(type, n) "\"k\" u32:9 u32:" #type " u64:" #n " "
#define ALIGNMENT(n) KEY("general.alignment", 4) "u32:" #n " "
#define TENSOR(text, ne0, type, offset)                                                            \
    "\"" text "\" u32:1 u64:" #ne0 " u32:" #type " u64:" #offset " "
#define TENSOR_2D(text, ne0, ne1, type, offset)                                                    \
    "\"" text "\" u32:2 u64:" #ne0 " u64:" #ne1 " u32:" #type " u64:" #offset " "
#define DATA(bytes) "align:32 zero:" #bytes

#define NAME_32 "abcdefghabcdefghabcdefghabcdefgh"
#define NAME_256 NAME_32 NAME_32 NAME_32 NAME_32 NAME_32 NAME_32 NAME_32 NAME_32

static const struct bad {
    const char *file; /* for gguf_assemble */
    int code;
    const char *says; /* a part of the sentence */
} bad_files[] = {
    /* header */
    {"", ERR_FORMAT, "has 0 bytes, the header of a GGUF file has 24"},
    {"'G'", ERR_FORMAT, "has 1 bytes"},
    {"'GGUF' u32:3 u64:0 zero:7", ERR_FORMAT, "has 23 bytes"},
    {"'GGML' u32:3 u64:0 u64:0", ERR_FORMAT, "starts with bytes 47 47 4d 4c"},
    {"'FUGG' u32:3 u64:0 u64:0", ERR_FORMAT, "starts with bytes 46 55 47 47"},
    {"zero:24", ERR_FORMAT, "starts with bytes 00 00 00 00"},
    {"'GGUF' u32:0x03000000 zero:16", ERR_UNSUPPORTED, "big-endian"},
    {"'GGUF' u32:0x02000000 zero:16", ERR_UNSUPPORTED, "big-endian"},
    {"'GGUF' u32:0 zero:16", ERR_UNSUPPORTED, "version 0; versions 2 and 3"},
    {"'GGUF' u32:1 zero:16", ERR_UNSUPPORTED, "version 1;"},
    {"'GGUF' u32:4 zero:16", ERR_UNSUPPORTED, "version 4;"},
    {"'GGUF' u32:0x80000000 zero:16", ERR_UNSUPPORTED, "version 2147483648;"},
    {HEADER(-1, 0), ERR_LIMIT, "18446744073709551615 tensors, the limit is 65536"},
    {HEADER(0x2000000000000000, 0), ERR_LIMIT, "2305843009213693952 tensors"},
    {HEADER(0x8000000000000000, 0), ERR_LIMIT, "9223372036854775808 tensors"},
    {HEADER(65537, 0), ERR_LIMIT, "65537 tensors, the limit is 65536"},
    {HEADER(65536, 0), ERR_FORMAT, "65536 tensors, the file has room for 0"},
    {HEADER(1, 0), ERR_FORMAT, "1 tensors, the file has room for 0"},
    {HEADER(0, -1), ERR_LIMIT, "18446744073709551615 keys, the limit is 65536"},
    {HEADER(0, 0x2000000000000000), ERR_LIMIT, "2305843009213693952 keys"},
    {HEADER(0, 0x8000000000000000), ERR_LIMIT, "9223372036854775808 keys"},
    {HEADER(0, 3) "zero:28", ERR_FORMAT, "3 keys, the file has room for 2"},
    /* keys */
    {HEADER(0, 1) KEY("", 4) "u32:1", ERR_FORMAT, "key 0 has an empty name"},
    {HEADER(0, 1) "u64:-1 zero:64", ERR_LIMIT, "string of 18446744073709551615 bytes"},
    {HEADER(0, 1) "u64:65 zero:64", ERR_FORMAT, "key 0 needs 65 bytes at byte 32, the file has 96"},
    {HEADER(0, 1) KEY(NAME_256 "x", 4) "u32:1", ERR_LIMIT, "257 bytes, the limit is 256"},
    {HEADER(0, 1) "u64:3 'a' u8:0 'b' u32:4 u32:1", ERR_FORMAT, "byte 0x00 in its name"},
    {HEADER(0, 1) "u64:3 'a' u8:27 'b' u32:4 u32:1", ERR_FORMAT, "byte 0x1b in its name"},
    {HEADER(0, 1) "u64:3 'a' u8:0xc3 u8:0xbc u32:4 u32:1", ERR_FORMAT, "byte 0xc3"},
    {HEADER(0, 1) "\"abcdef\" u8:4", ERR_FORMAT, "key \"abcdef\" needs 4 bytes at byte 38"},
    {HEADER(0, 1) KEY("k", 8) "u64:-1 zero:64", ERR_LIMIT, "string of 18446744073709551615 bytes"},
    {HEADER(0, 1) KEY("k", 8) "u64:0x40000000 zero:119", ERR_LIMIT, "the limit is 1048576"},
    {HEADER(0, 1) KEY("k", 8) "u64:0x100000 zero:64", ERR_FORMAT, "needs 1048576 bytes at byte 45"},
    {HEADER(0, 1) KEY("k", 13) "u32:0", ERR_FORMAT, "\"k\" has value type 13, the largest is 12"},
    {HEADER(0, 1) KEY("k", -1) "u32:0", ERR_FORMAT, "value type 4294967295"},
    {HEADER(0, 1) KEY("k", 10) "u32:0", ERR_FORMAT, "key \"k\" needs 8 bytes at byte 37"},
    {HEADER(0, 1) KEY("k", 7) "u8:2", ERR_FORMAT, "key \"k\" holds a bool of value 2"},
    {HEADER(0, 1) ARRAY(9, 1) ARRAY(4, 1) "u32:0", ERR_LIMIT, "array of arrays"},
    {HEADER(0, 1) ARRAY(13, 1) "zero:64", ERR_FORMAT, "value type 13"},
    {HEADER(0, 1) ARRAY(10, 0x2000000000000000) "zero:64", ERR_LIMIT, "2305843009213693952 values"},
    {HEADER(0, 1) ARRAY(4, -1) "zero:64", ERR_LIMIT, "the limit is 2097152"},
    {HEADER(0, 1) ARRAY(4, 2097153) "zero:64", ERR_LIMIT, "array of 2097153 values"},
    {HEADER(0, 1) ARRAY(4, 17) "zero:64", ERR_FORMAT, "needs 68 bytes"},
    {HEADER(0, 1) ARRAY(8, 2097152) "zero:64", ERR_FORMAT, "array of 2097152 strings"},
    {HEADER(0, 1) ARRAY(8, 2) "\"abc\" u64:9 zero:8", ERR_FORMAT, "needs 9 bytes"},
    {HEADER(0, 1) ARRAY(8, 2) "\"abc\" u64:-1", ERR_LIMIT, "string of 18446744073709551615"},
    {HEADER(0, 1) ARRAY(8, 2) "\"abcdefgh\"", ERR_FORMAT, "needs 8 bytes"},
    {HEADER(0, 1) ARRAY(7, 3) "u8:0 u8:1 u8:9", ERR_FORMAT, "bool of value 9"},
    {HEADER(0, 2) KEY("k", 0) "u8:1 " KEY("k", 0) "u8:1", ERR_FORMAT, "\"k\" occurs twice"},
    {HEADER(0, 1) ALIGNMENT(0), ERR_FORMAT, "\"general.alignment\" is 0, it has to be a power"},
    {HEADER(0, 1) ALIGNMENT(1), ERR_FORMAT, "is 1,"},
    {HEADER(0, 1) ALIGNMENT(3), ERR_FORMAT, "is 3,"},
    {HEADER(0, 1) ALIGNMENT(4), ERR_FORMAT, "from 8 to 4096"},
    {HEADER(0, 1) ALIGNMENT(48), ERR_FORMAT, "is 48,"},
    {HEADER(0, 1) ALIGNMENT(8192), ERR_FORMAT, "is 8192,"},
    {HEADER(0, 1) ALIGNMENT(0x80000000), ERR_FORMAT, "is 2147483648,"},
    {HEADER(0, 1) KEY("general.alignment", 5) "u32:32", ERR_FORMAT, "is i32, it has to be u32"},
    {HEADER(0, 1) "\"general.alignment\" u32:9 u32:4 u64:1 u32:32", ERR_FORMAT, "an array of u32"},
    /* tensors */
    {HEADER(1, 0) TENSOR("", 8, 0, 0) DATA(32), ERR_FORMAT, "tensor 0 has an empty name"},
    {HEADER(1, 0) TENSOR(NAME_32 NAME_32, 8, 0, 0) DATA(32), ERR_LIMIT,
     "64 bytes, the limit is 63"},
    {HEADER(1, 0) "u64:2 'a' u8:10 u32:1 u64:8 u32:0 u64:0 " DATA(32), ERR_FORMAT, "byte 0x0a"},
    {HEADER(1, 0) "u64:-1 zero:64", ERR_LIMIT, "tensor 0 holds a string of 18446744073709551615"},
    {HEADER(1, 0) "\"t\" u32:0 u32:0 u64:0 zero:64", ERR_FORMAT, "\"t\" has 0 dimensions, 1 to 4"},
    {HEADER(1, 0) "\"t\" u32:5 zero:64", ERR_FORMAT, "has 5 dimensions"},
    {HEADER(1, 0) "\"t\" u32:9 zero:99", ERR_FORMAT, "has 9 dimensions"},
    {HEADER(1, 0) "\"t\" u32:-1 zero:99", ERR_FORMAT, "has 4294967295 dimensions"},
    {HEADER(1, 0) "\"t\" u32:4 u64:1 u64:1 u64:1", ERR_FORMAT, "tensor \"t\" needs 8 bytes"},
    {HEADER(1, 0) TENSOR("t", 0, 0, 0) DATA(32), ERR_FORMAT, "has 0 elements in dimension 0"},
    {HEADER(1, 0) TENSOR_2D("t", 8, 0, 0, 0) DATA(32), ERR_FORMAT, "0 elements in dimension 1"},
    {HEADER(1, 0) TENSOR("t", -1, 0, 0) DATA(32), ERR_FORMAT, "more than any file holds"},
    {HEADER(1, 0) "\"t\" u32:4 u64:-1 u64:2 u64:1 u64:1 u32:0 u64:0 " DATA(32), ERR_FORMAT,
     "18446744073709551615 x 2 x 1 x 1 elements"},
    {HEADER(1, 0) TENSOR_2D("t", 0x100000000, 0x100000000, 0, 0) DATA(32), ERR_FORMAT,
     "4294967296 x 4294967296 x 1 x 1 elements"},
    {HEADER(1, 0) TENSOR("t", 0x40000000001, 0, 0) DATA(32), ERR_FORMAT,
     "\"t\" ends at byte 17592186044484, the file has 96"},
    {HEADER(1, 0) TENSOR("t", 0x3fffffffffffffff, 0, 0) DATA(32), ERR_FORMAT, "more than any file"},
    {HEADER(1, 0) TENSOR_2D("t", 0x8000000000000000, 2, 0, 0) DATA(32), ERR_FORMAT,
     "more than any"},
    /* of Q8_0 only the bytes overflow: 2^63 elements are 2^58 blocks of 34 bytes; 2^64 - 32 more so
     */
    {HEADER(1, 0) TENSOR_2D("t", 0x8000000000000000, 4, 8, 0) DATA(32), ERR_FORMAT,
     "more than any"},
    {HEADER(1, 0) TENSOR("t", 0xffffffffffffffe0, 8, 0) DATA(32), ERR_FORMAT, "more than any file"},
    {HEADER(1, 0) TENSOR("t", 33, 8, 0) DATA(64), ERR_FORMAT, "rows of 33 elements, Q8_0 needs"},
    {HEADER(1, 0) TENSOR_2D("t", 16, 2, 2, 0) DATA(64), ERR_FORMAT, "a multiple of 32"},
    {HEADER(1, 0) TENSOR("t", 128, 14, 0) DATA(256), ERR_FORMAT, "Q6_K needs a multiple of 256"},
    {HEADER(1, 0) TENSOR("t", 8, 43, 0) DATA(32), ERR_FORMAT, "\"t\" has type 43"},
    {HEADER(1, 0) TENSOR("t", 8, 63, 0) DATA(32), ERR_FORMAT, "has type 63"},
    {HEADER(1, 0) TENSOR("t", 8, -1, 0) DATA(32), ERR_FORMAT, "has type 4294967295"},
    {HEADER(1, 0) TENSOR("t", 32, 4, 0) DATA(32), ERR_UNSUPPORTED,
     "\"t\" is Q4_2, a type that was"},
    {HEADER(1, 0) TENSOR("t", 32, 31, 0) DATA(32), ERR_UNSUPPORTED, "is Q4_0_4_4"},
    {HEADER(1, 0) TENSOR("t", 32, 38, 0) DATA(32), ERR_UNSUPPORTED, "is IQ4_NL_8_8"},
    {HEADER(1, 0) TENSOR("t", 8, 0, 16) DATA(64), ERR_FORMAT,
     "offset 16, which is no multiple of 32"},
    {HEADER(1, 1) ALIGNMENT(64) TENSOR("t", 8, 0, 32) "align:64 zero:64", ERR_FORMAT,
     "multiple of 64"},
    {HEADER(1, 0) TENSOR("t", 8, 0, 0) DATA(31), ERR_FORMAT, "ends at byte 96, the file has 95"},
    {HEADER(1, 0) TENSOR("t", 8, 0, 0), ERR_FORMAT, "\"t\" ends at byte 96, the file has 57"},
    {HEADER(1, 0) TENSOR("t", 8, 0, 32) DATA(32), ERR_FORMAT, "ends at byte"},
    {HEADER(1, 0) TENSOR("t", 8, 0, 0x7fffffffffffffe0) DATA(32), ERR_FORMAT, "ends at byte"},
    {HEADER(1, 0) TENSOR("t", 8, 0, 0xffffffffffffffe0) DATA(32), ERR_FORMAT,
     "32 bytes at offset 18446744073709551584, more than any file holds"},
    {HEADER(2, 0) TENSOR("a", 8, 0, 0) TENSOR("a", 8, 0, 32) DATA(64), ERR_FORMAT,
     "tensor \"a\" occurs twice"},
    {HEADER(2, 0) TENSOR("a", 8, 0, 0) TENSOR("b", 8, 0, 0) DATA(32), ERR_FORMAT, "overlap"},
    {HEADER(2, 0) TENSOR("b", 8, 0, 32) TENSOR("a", 16, 0, 0) DATA(64), ERR_FORMAT,
     "tensors \"a\" and \"b\" overlap"},
};

/* Opens a copy that is exactly n bytes long, so that ASan sees a read past its end. */
static int open_exact(struct gguf **g, uint8_t **copy, const void *bytes, size_t n, struct err *e)
{
    *e = (struct err){0};
    *copy = mem_aligned(n, 64);
    if (n)
        memcpy(*copy, bytes, n);
    return gguf_open_bytes(g, *copy, n, "/some/where/model.gguf", e);
}

static void test_malformed_files_are_refused_with_a_sentence(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad_files); i++) {
        const struct bad *b = &bad_files[i];
        struct str bytes = {0};
        struct gguf *g;
        struct err e;
        uint8_t *copy;
        int rc;

        gguf_assemble(&bytes, b->file);
        rc = open_exact(&g, &copy, bytes.data, bytes.len, &e);
        if (rc != b->code || !strstr(e.text, b->says) || strncmp(e.text, "model.gguf: ", 12) != 0)
            fail_msg("%s\n gave %d \"%s\",\n want %d \"%s\"", b->file, rc, e.text, b->code,
                     b->says);
        assert_null(g);
        assert_int_equal(e.code, rc);
        mem_free(copy);
        str_fini(&bytes);
    }
}

/* Reads all that an opened file offers. */
static void read_everything(const struct gguf *g)
{
    volatile uint64_t sum = gguf_hash(g);
    struct hparams h;
    struct weights w;
    struct err e;

    for (uint32_t i = 0; i < gguf_n_kv(g); i++) {
        const struct gguf_kv *kv = gguf_kv_at(g, i);

        assert_ptr_equal(gguf_kv(g, kv->key), kv);
        for (uint64_t k = 0; k < kv->values.n && kv->values.type == GGUF_STR; k++) {
            const char *s;
            size_t n;

            gguf_array_str(&kv->values, k, &s, &n);
            sum += n ? (uint64_t)s[n - 1] : 0;
        }
    }
    for (uint32_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);

        assert_ptr_equal(gguf_tensor(g, t->name), t);
        assert_int_equal((uintptr_t)t->data % GGUF_ALIGN_MIN, 0);
        for (size_t k = 0; k < t->bytes; k++)
            sum += ((const uint8_t *)t->data)[k];
    }
    e = (struct err){0};
    if (hparams_load(&h, g, &e) == 0 && weights_load(&w, g, &h, &e) == 0)
        weights_fini(&w);
    else
        assert_non_null(strstr(e.text, "model.gguf: "));
}

/* Either loads, or refuses with a printable sentence. Returns whether it opened. */
static bool survives(const uint8_t *bytes, size_t n)
{
    struct gguf *g;
    struct err e;
    uint8_t *copy;
    int rc = open_exact(&g, &copy, bytes, n, &e);

    if (rc) {
        assert_true(rc < 0 && e.code == rc && strlen(e.text) > 12);
        for (const char *c = e.text; *c; c++)
            assert_true(*c >= 0x20 && *c < 0x7f);
    } else {
        read_everything(g);
    }
    gguf_close(&g);
    mem_free(copy);
    return rc == 0;
}

/* A small valid model with every kind of key. */
static uint8_t *small_file(size_t *n, size_t *header_bytes)
{
    static const char *const tokens[] = {"<unk>", "", "a", "bc", "def"};
    const float scores[5] = {0, -1, -2, -3, -4};
    struct gguf_writer w;
    uint8_t *file;

    gguf_writer_init(&w);
    gguf_writer_u32(&w, "general.alignment", 32);
    gguf_writer_bool(&w, "flag", true);
    gguf_writer_u64(&w, "long", 1);
    gguf_writer_i32(&w, "int", -1);
    gguf_writer_strs(&w, "tokenizer.ggml.tokens", tokens, ARRAY_LEN(tokens));
    gguf_writer_array(&w, "tokenizer.ggml.scores", GGUF_F32, scores, ARRAY_LEN(scores));
    gguf_writer_array(&w, "empty", GGUF_U32, NULL, 0);
    gguf_writer_llama(&w, NULL);
    *header_bytes = 24 + w.kv.len + w.directory.len;
    file = gguf_writer_finish(&w, n);
    gguf_writer_fini(&w);
    return file;
}

static void test_every_truncation_is_refused(void **state)
{
    size_t n, header;
    uint8_t *file = small_file(&n, &header);

    (void)state;
    assert_true(survives(file, n));
    for (size_t len = 0; len < n; len++)
        assert_false(survives(file, len));
    mem_free(file);
}

static void test_every_flipped_bit_of_the_header_is_survived(void **state)
{
    size_t n, header;
    uint8_t *file = small_file(&n, &header);

    (void)state;
    for (size_t bit = 0; bit < header * 8; bit++) {
        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
        survives(file, n);
        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    mem_free(file);
}

static void test_every_byte_of_the_header_set_to_extremes_is_survived(void **state)
{
    static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
    size_t n, header;
    uint8_t *file = small_file(&n, &header);

    (void)state;
    for (size_t i = 0; i < header; i++) {
        uint8_t old = file[i];

        for (size_t v = 0; v < ARRAY_LEN(values); v++) {
            file[i] = values[v];
            survives(file, n);
        }
        file[i] = old;
    }
    mem_free(file);
}

static void test_limits_themselves_are_accepted(void **state)
{
    static const char *const good[] = {
        HEADER(0, 0),
        "'GGUF' u32:2 u64:0 u64:0",
        HEADER(0, 1) KEY(NAME_256, 0) "u8:0",
        HEADER(0, 1) KEY("k", 8) "u64:0x100000 zero:0x100000",
        HEADER(0, 1) ARRAY(0, 2097152) "zero:2097152",
        HEADER(0, 1) ARRAY(8, 2097152) "zero:0x1000000",
        HEADER(0, 1) ALIGNMENT(8),
        HEADER(1, 1) ALIGNMENT(4096) TENSOR("t", 8, 0, 0) "align:4096 zero:32",
        HEADER(1, 0) "\"" NAME_32 "abcdefghabcdefghabcdefghabcdefg\" u32:4 u64:2 u64:2 u64:2 u64:1 "
                     "u32:0 u64:0 " DATA(32),
        HEADER(2, 0) TENSOR("b", 8, 0, 32) TENSOR("a", 8, 0, 0) DATA(64),
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct str bytes = {0};

        gguf_assemble(&bytes, good[i]);
        if (!survives((const uint8_t *)bytes.data, bytes.len))
            fail_msg("refused: %s", good[i]);
        str_fini(&bytes);
    }
}

static void test_65536_keys_open_and_are_found(void **state)
{
    struct gguf_writer w;
    struct gguf *g;
    struct err e;
    char key[32];
    size_t n;
    uint8_t *file;
    uint32_t v;

    (void)state;
    gguf_writer_init(&w);
    for (uint32_t i = 0; i < GGUF_KV_MAX; i++) {
        snprintf(key, sizeof(key), "key.%u", i * 7919 % GGUF_KV_MAX);
        gguf_writer_u32(&w, key, i);
    }
    file = gguf_writer_finish(&w, &n);
    assert_int_equal(gguf_open_bytes(&g, file, n, "model.gguf", &e), 0);
    for (uint32_t i = 0; i < GGUF_KV_MAX; i += 97) {
        snprintf(key, sizeof(key), "key.%u", i * 7919 % GGUF_KV_MAX);
        assert_int_equal(gguf_u32(g, key, &v, &e), 0);
        assert_int_equal(v, i);
    }
    gguf_close(&g);
    mem_free(file);
    gguf_writer_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed_files_are_refused_with_a_sentence),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_every_flipped_bit_of_the_header_is_survived),
        cmocka_unit_test(test_every_byte_of_the_header_set_to_extremes_is_survived),
        cmocka_unit_test(test_limits_themselves_are_accepted),
        cmocka_unit_test(test_65536_keys_open_and_are_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
