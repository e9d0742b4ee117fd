#include "deploy/wire.h"

#include <stdio.h>

#include "base/mem.h"
#include "tests/lib/test.h"

static void feed(struct wire *w, const char *text) { wire_feed(w, text, strlen(text)); }

static void assert_object(struct wire *w, const char *key)
{
    struct wire_item item = wire_next(w);

    assert_int_equal(item.kind, WIRE_OBJECT);
    assert_non_null(json_object_get(item.object, key));
    json_decref(item.object);
}

static void assert_bytes(struct wire *w, const char *bytes)
{
    struct wire_item item = wire_next(w);

    assert_int_equal(item.kind, WIRE_BYTES);
    assert_int_equal(item.n, strlen(bytes));
    assert_memory_equal(item.data, bytes, item.n);
}

static void test_objects_come_out_wherever_the_stream_is_cut(void **state)
{
    static const char stream[] = "{\"a\": 1}\n{\"b\": \"x\\ny\"}\n";

    (void)state;
    for (size_t cut = 0; cut < sizeof(stream); cut++) {
        struct wire w = {0};
        size_t objects = 0;

        for (size_t part = 0; part < 2; part++) {
            struct wire_item item;

            wire_feed(&w, stream + part * cut, part ? sizeof(stream) - 1 - cut : cut);
            while ((item = wire_next(&w)).kind == WIRE_OBJECT) {
                objects++;
                json_decref(item.object);
            }
            assert_int_equal(item.kind, WIRE_NOTHING);
            if (cut == sizeof(stream) - 1)
                break;
        }
        assert_int_equal(objects, 2);
        wire_fini(&w);
    }
}

static void test_raw_bytes_are_no_lines(void **state)
{
    struct wire w = {0};

    (void)state;
    feed(&w, "{\"a\": 1}\nnot {json}\n\n{\"b\"");
    assert_object(&w, "a");
    wire_raw(&w, 12);
    assert_bytes(&w, "not {json}\n\n");
    assert_int_equal(wire_next(&w).kind, WIRE_NOTHING);
    feed(&w, ": 2}\n");
    assert_object(&w, "b");
    wire_raw(&w, 5);
    feed(&w, "12");
    assert_bytes(&w, "12");
    feed(&w, "345{\"c\": 3}\n");
    assert_bytes(&w, "345");
    assert_object(&w, "c");
    wire_fini(&w);
}

static void test_what_is_no_object_is_told_and_skipped(void **state)
{
    static const char *const broken[] = {"", "hello", "[1]", "{\"a\": }", "{\"a\": 1, \"a\": 2}", "\xff\xfe",
                                         "{\"a\": \"\xff\"}", "{} {}", "1e999"};
    struct wire w = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(broken) / sizeof(*broken); i++) {
        struct wire_item item;

        feed(&w, broken[i]);
        feed(&w, "\n{\"next\": 1}\n");
        item = wire_next(&w);
        assert_int_equal(item.kind, WIRE_BROKEN);
        assert_int_equal(item.n, strlen(broken[i]));
        assert_object(&w, "next");
    }
    wire_fini(&w);
}

static void test_a_line_without_end_is_a_flood(void **state)
{
    char *much = mem_zalloc(WIRE_LINE_MAX);
    struct wire w = {0};

    (void)state;
    memset(much, 'x', WIRE_LINE_MAX);
    wire_feed(&w, much, WIRE_LINE_MAX);
    assert_int_equal(wire_next(&w).kind, WIRE_NOTHING);
    feed(&w, "x");
    assert_int_equal(wire_next(&w).kind, WIRE_FLOOD);
    wire_fini(&w);
    mem_free(much);
}

static void test_the_rest_is_somebody_elses(void **state)
{
    struct wire w = {0};
    size_t n;

    (void)state;
    feed(&w, "{\"a\": 1}\nGET / HTTP/1.1\r\n");
    assert_object(&w, "a");
    assert_string_equal(wire_rest(&w, &n), "GET / HTTP/1.1\r\n");
    assert_int_equal(n, 16);
    wire_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_objects_come_out_wherever_the_stream_is_cut),
        cmocka_unit_test(test_raw_bytes_are_no_lines),
        cmocka_unit_test(test_what_is_no_object_is_told_and_skipped),
        cmocka_unit_test(test_a_line_without_end_is_a_flood),
        cmocka_unit_test(test_the_rest_is_somebody_elses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
