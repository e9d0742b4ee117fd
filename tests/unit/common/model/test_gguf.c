#include "model/gguf.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/dtype.h"
#include "model/hparams.h"
#include "model/weights.h"
#include "tests/lib/data.h"
#include "tests/lib/gguf_writer.h"

static void test_getters_return_values_and_refuse_other_types(void **state)
{
    static const char *const words[] = {"one", "", "three"};
    const int32_t ints[] = {-1, 0, INT32_MAX};
    struct gguf_writer w;
    struct gguf *g;
    struct err e;
    uint8_t *file;
    const char *s;
    size_t n;
    uint32_t u = 7;
    float f;
    bool b;

    (void)state;
    gguf_writer_init(&w);
    gguf_writer_u32(&w, "u32", 4000000000u);
    gguf_writer_i32(&w, "i32", -5);
    gguf_writer_u64(&w, "u64", 123);
    gguf_writer_u64(&w, "huge", UINT64_MAX);
    gguf_writer_f32(&w, "f32", 0.5f);
    gguf_writer_bool(&w, "bool", true);
    gguf_writer_str(&w, "str", "text");
    gguf_writer_strs(&w, "strs", words, ARRAY_LEN(words));
    gguf_writer_array(&w, "ints", GGUF_I32, ints, ARRAY_LEN(ints));
    file = gguf_writer_finish(&w, &n);
    assert_int_equal(gguf_open_bytes(&g, file, n, "model.gguf", &e), 0);

    assert_int_equal(gguf_u32(g, "none", &u, &e), ERR_NOT_FOUND);
    assert_string_equal(e.text, "key \"none\" is missing");
    assert_int_equal(gguf_u32(g, "i32", &u, &e), ERR_FORMAT);
    assert_string_equal(e.text, "key \"i32\" is -5, it has to be from 0 to 4294967295");
    assert_int_equal(gguf_u32(g, "huge", &u, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "18446744073709551615"));
    assert_int_equal(gguf_u32(g, "f32", &u, &e), ERR_FORMAT);
    assert_string_equal(e.text, "key \"f32\" is of type f32, an integer is needed");
    assert_int_equal(gguf_u32(g, "ints", &u, &e), ERR_FORMAT);
    assert_int_equal(u, 7); /* untouched by failures */
    assert_int_equal(gguf_u32(g, "u32", &u, &e), 0);
    assert_true(u == 4000000000u);
    assert_int_equal(gguf_u32(g, "u64", &u, &e), 0);
    assert_int_equal(u, 123);
    assert_int_equal(gguf_f32(g, "f32", &f, &e), 0);
    assert_true(f == 0.5f);
    assert_int_equal(gguf_f32(g, "u32", &f, &e), ERR_FORMAT);
    assert_int_equal(gguf_bool(g, "bool", &b, &e), 0);
    assert_true(b);
    assert_int_equal(gguf_bool(g, "u32", &b, &e), ERR_FORMAT);
    assert_int_equal(gguf_str(g, "str", &s, &n, &e), 0);
    assert_int_equal(n, 4);
    assert_memory_equal(s, "text", 4);
    assert_int_equal(gguf_str(g, "strs", &s, &n, &e), ERR_FORMAT);
    gguf_close(&g);
    mem_free(file);
    gguf_writer_fini(&w);
}

static void test_arrays_of_each_kind(void **state)
{
    static const char *const words[] = {"one", "", "three"};
    const int32_t ints[] = {-1, 0, INT32_MAX};
    const uint8_t bytes[] = {0xff};
    struct gguf_writer w;
    struct gguf_array a;
    struct gguf *g;
    struct err e;
    uint8_t *file;
    const char *s;
    size_t n;

    (void)state;
    gguf_writer_init(&w);
    gguf_writer_strs(&w, "strs", words, ARRAY_LEN(words));
    gguf_writer_array(&w, "ints", GGUF_I32, ints, ARRAY_LEN(ints));
    gguf_writer_array(&w, "i8s", GGUF_I8, bytes, 1);
    gguf_writer_array(&w, "u8s", GGUF_U8, bytes, 1);
    gguf_writer_u32(&w, "u32", 1);
    file = gguf_writer_finish(&w, &n);
    assert_int_equal(gguf_open_bytes(&g, file, n, "model.gguf", &e), 0);
    assert_int_equal(gguf_array(g, "u32", &a, &e), ERR_FORMAT);
    assert_string_equal(e.text, "key \"u32\" is of type u32, an array is needed");
    assert_int_equal(gguf_array(g, "none", &a, NULL), ERR_NOT_FOUND);
    assert_int_equal(gguf_array(g, "strs", &a, &e), 0);
    assert_int_equal(a.n, 3);
    gguf_array_str(&a, 2, &s, &n);
    assert_int_equal(n, 5);
    assert_memory_equal(s, "three", 5);
    gguf_array_str(&a, 1, &s, &n);
    assert_int_equal(n, 0);
    assert_int_equal(gguf_array(g, "ints", &a, &e), 0);
    assert_int_equal(gguf_array_u32(&a, 0), UINT32_MAX);
    assert_int_equal(gguf_array_i64(&a, 0), -1);
    assert_int_equal(gguf_array_i64(&a, 2), INT32_MAX);
    assert_int_equal(gguf_array(g, "i8s", &a, &e), 0);
    assert_int_equal(gguf_array_i64(&a, 0), -1);
    assert_int_equal(gguf_array(g, "u8s", &a, &e), 0);
    assert_int_equal(gguf_array_i64(&a, 0), 255);
    gguf_close(&g);
    mem_free(file);
    gguf_writer_fini(&w);
}

static void test_tensors_are_where_the_writer_put_them(void **state)
{
    const uint64_t ne[2] = {32, 3};
    uint8_t q8[102], f32[128];
    const struct gguf_tensor *t;
    struct gguf_writer w;
    struct gguf *g;
    struct err e;
    uint8_t *file;
    size_t n;

    (void)state;
    for (size_t i = 0; i < sizeof(q8); i++)
        q8[i] = (uint8_t)i;
    memset(f32, 42, sizeof(f32));
    gguf_writer_init(&w);
    gguf_writer_u32(&w, "general.alignment", 64);
    w.alignment = 64;
    gguf_writer_tensor(&w, "q8", DTYPE_Q8_0, 2, ne, q8, sizeof(q8));
    gguf_writer_tensor(&w, "f32", DTYPE_F32, 1, ne, f32, sizeof(f32));
    file = gguf_writer_finish(&w, &n);
    assert_int_equal(gguf_open_bytes(&g, file, n, "model.gguf", &e), 0);
    assert_int_equal(gguf_alignment(g), 64);
    assert_int_equal(gguf_file_bytes(g), n);
    assert_int_equal(gguf_n_tensors(g), 2);
    t = gguf_tensor(g, "q8");
    assert_ptr_equal(t, gguf_tensor_at(g, 0));
    assert_int_equal(t->bytes, sizeof(q8));
    assert_memory_equal(t->data, q8, sizeof(q8));
    assert_int_equal(t->ne[1], 3);
    assert_int_equal(t->ne[2], 1);
    t = gguf_tensor(g, "f32");
    assert_int_equal((uintptr_t)t->data % 64, 0);
    assert_memory_equal(t->data, f32, sizeof(f32));
    assert_null(gguf_tensor(g, "f3"));
    gguf_close(&g);
    mem_free(file);
    gguf_writer_fini(&w);
}

/* The hash of a file with one tensor, after adding `add` to byte `at` counted from the data's
 * start. */
static uint64_t hash_of(size_t tensor_bytes, uint32_t value, size_t at, uint8_t add)
{
    const uint64_t ne[1] = {tensor_bytes};
    struct gguf_writer w;
    struct gguf *g;
    uint8_t *file;
    uint64_t hash;
    size_t n;

    gguf_writer_init(&w);
    gguf_writer_u32(&w, "key", value);
    gguf_writer_tensor(&w, "t", 24 /* I8 */, 1, ne, NULL, tensor_bytes);
    file = gguf_writer_finish(&w, &n);
    file[n - tensor_bytes + at] += add;
    assert_int_equal(gguf_open_bytes(&g, file, n, "model.gguf", NULL), 0);
    hash = gguf_hash(g);
    gguf_close(&g);
    mem_free(file);
    gguf_writer_fini(&w);
    return hash;
}

static void test_the_hash_sees_metadata_and_both_ends_of_tensors(void **state)
{
    const uint64_t hash = hash_of(20000, 1, 0, 0);

    (void)state;
    assert_true(hash == hash_of(20000, 1, 0, 0));
    assert_true(hash != hash_of(20000, 2, 0, 0));
    assert_true(hash != hash_of(20001, 1, 0, 0));
    assert_true(hash != hash_of(20000, 1, 0, 1));
    assert_true(hash != hash_of(20000, 1, 4095, 1));
    assert_true(hash != hash_of(20000, 1, 20000 - 4096, 1));
    assert_true(hash != hash_of(20000, 1, 19999, 1));
}

/* A fresh directory for the file tests; removed by leave_tmp. */
static int enter_tmp(void **state)
{
    static char dir[64];

    snprintf(dir, sizeof(dir), "/tmp/tandem-gguf-XXXXXX");
    *state = mkdtemp(dir);
    return *state ? 0 : -1;
}

static int leave_tmp(void **state)
{
    static const char *const names[] = {"empty", "fifo", "loop", "model.gguf", "new", "sparse"};
    char path[128];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", (const char *)*state, names[i]);
        unlink(path);
    }
    return rmdir(*state);
}

static const char *in_tmp(void **state, const char *name)
{
    static char path[128];

    snprintf(path, sizeof(path), "%s/%s", (const char *)*state, name);
    return path;
}

static void refuses(const char *path, int code, const char *says)
{
    struct err e = {0};
    struct gguf *g;
    int rc = gguf_open(&g, path, &e);

    if (rc != code || !strstr(e.text, says))
        fail_msg("%s gave %d \"%s\", want %d \"%s\"", path, rc, e.text, code, says);
    assert_null(g);
}

/* Creates a file of `bytes`, sparse; false if the file system has no such files. */
static bool create(const char *path, off_t bytes)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    bool done = fd >= 0 && ftruncate(fd, bytes) == 0;

    assert_true(fd >= 0);
    close(fd);
    return done;
}

static void test_only_regular_files_are_opened(void **state)
{
    const char *path;

    refuses(in_tmp(state, "absent"), ERR_IO, "/absent: cannot open: No such file");
    refuses(*state, ERR_IO, "is not a regular file");
    refuses("/dev/zero", ERR_IO, "/dev/zero: is not a regular file");
    refuses("/dev/null", ERR_IO, "is not a regular file");
    path = in_tmp(state, "fifo");
    assert_int_equal(mkfifo(path, 0600), 0);
    refuses(path, ERR_IO, "is not a regular file"); /* and does not wait for a writer */
    path = in_tmp(state, "loop");
    assert_int_equal(symlink(path, path), 0);
    refuses(path, ERR_IO, "cannot open: Too many levels");
}

static void test_empty_and_sparse_files_are_refused(void **state)
{
    const char *path = in_tmp(state, "empty");

    assert_true(create(path, 0));
    refuses(path, ERR_FORMAT, "empty: has 0 bytes");
    path = in_tmp(state, "sparse");
    if (create(path, (off_t)1 << 40))
        refuses(path, ERR_FORMAT, "starts with bytes 00 00 00 00");
    if (create(path, INT64_MAX)) /* tmpfs has them */
        refuses(path, ERR_MEMORY, "cannot map 9223372036854775807 bytes");
}

static void write_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void test_an_open_model_survives_its_replacement(void **state)
{
    const struct gguf_tensor *t;
    char path[128], other[128];
    struct gguf_writer w;
    struct gguf *g;
    struct err e;
    uint8_t *file;
    uint64_t hash;
    size_t n;

    snprintf(path, sizeof(path), "%s", in_tmp(state, "model.gguf"));
    snprintf(other, sizeof(other), "%s", in_tmp(state, "new"));
    gguf_writer_init(&w);
    gguf_writer_llama(&w, NULL);
    file = gguf_writer_finish(&w, &n);
    write_file(path, file, n);
    assert_int_equal(gguf_open(&g, path, &e), 0);
    assert_string_equal(gguf_name(g), "model.gguf");
    hash = gguf_hash(g);
    write_file(other, "short", 5);
    assert_int_equal(rename(other, path), 0);
    assert_true(gguf_hash(g) == hash);
    t = gguf_tensor(g, "output.weight");
    assert_memory_equal(
        t->data,
        file + ((const uint8_t *)t->data - (const uint8_t *)gguf_tensor_at(g, 0)->data) +
            (n - w.data.len),
        t->bytes);
    gguf_close(&g);
    refuses(path, ERR_FORMAT, "model.gguf: has 5 bytes");
    mem_free(file);
    gguf_writer_fini(&w);
}

/* Every public model opens; those of our architecture and types load as well. */
static void test_golden_models_open(void **state)
{
    const char *kinds[] = {"golden", "vocab"};
    size_t opened = 0, loaded = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        DATA_OR_SKIP(path, kinds[i]);
        struct dirent *entry;
        DIR *dir = opendir(path);

        assert_non_null(dir);
        while ((entry = readdir(dir)) != NULL) {
            size_t len = strlen(entry->d_name);
            struct weights w;
            struct hparams h;
            struct gguf *g;
            char file[1024];
            struct err e;
            int rc;

            if (len < 5 || strcmp(entry->d_name + len - 5, ".gguf") != 0)
                continue;
            snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
            if (gguf_open(&g, file, &e))
                fail_msg("%s", e.text);
            opened++;
            rc = hparams_load(&h, g, &e);
            if (!rc)
                rc = weights_load(&w, g, &h, &e);
            if (!rc) {
                weights_fini(&w);
                loaded++;
            } else if (!strstr(e.text, "cannot run") && !strstr(e.text, "architecture") && i == 0) {
                fail_msg("%s", e.text);
            }
            gguf_close(&g);
        }
        closedir(dir);
    }
    assert_true(opened >= 49);
    assert_true(loaded >= 24); /* the llama models of index.tsv in types we run */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_getters_return_values_and_refuse_other_types),
        cmocka_unit_test(test_arrays_of_each_kind),
        cmocka_unit_test(test_tensors_are_where_the_writer_put_them),
        cmocka_unit_test(test_the_hash_sees_metadata_and_both_ends_of_tensors),
        cmocka_unit_test_setup_teardown(test_only_regular_files_are_opened, enter_tmp, leave_tmp),
        cmocka_unit_test_setup_teardown(test_empty_and_sparse_files_are_refused, enter_tmp,
                                        leave_tmp),
        cmocka_unit_test_setup_teardown(test_an_open_model_survives_its_replacement, enter_tmp,
                                        leave_tmp),
        cmocka_unit_test(test_golden_models_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
