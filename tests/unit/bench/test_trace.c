#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/trace.h"

static int load(struct trace *t, enum trace_kind kind, const char *text, struct err *e)
{
    char path[] = "/tmp/tandem-bench-XXXXXX";
    int fd = mkstemp(path), rc;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    rc = trace_load(t, kind, path, e);
    unlink(path);
    return rc;
}

static void mooncake_has_shared_blocks(void **state)
{
    struct trace t;

    (void)state;
    assert_int_equal(load(&t, TRACE_MOONCAKE,
                          "{\"timestamp\": 27000, \"input_length\": 513, \"output_length\": 7, "
                          "\"hash_ids\": [0, 9]}\n"
                          "{\"timestamp\": 30500, \"input_length\": 512, \"output_length\": 1, "
                          "\"hash_ids\": [0]}\n"
                          "{\"timestamp\": 30400, \"input_length\": 5, \"output_length\": 2}\n",
                          NULL),
                     ERR_OK);
    assert_int_equal(t.n, 3);
    assert_int_equal(t.entries[0].at_ns, 0); /* times count from the first */
    assert_int_equal(t.entries[1].at_ns, 3500 * CLOCK_MS);
    assert_int_equal(t.entries[2].at_ns, 3500 * CLOCK_MS); /* and never go back */
    assert_int_equal(t.entries[0].n_hashes, 2);
    assert_int_equal(t.hashes[t.entries[0].first_hash + 1], 9);
    assert_int_equal(t.hashes[t.entries[1].first_hash], 0);
    assert_int_equal(t.entries[2].n_hashes, 0);
    trace_fini(&t);
}

static void csv_columns_are_found_by_name(void **state)
{
    struct trace t;

    (void)state;
    assert_int_equal(load(&t, TRACE_AZURE,
                          "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
                          "2023-11-16 18:15:46.6805900,374,44\r\n"
                          "2023-11-17 00:00:00.0,396,109\r\n",
                          NULL),
                     ERR_OK);
    assert_int_equal(t.n, 2);
    assert_int_equal(t.entries[0].input, 374);
    assert_int_equal(t.entries[0].output, 44);
    /* 5 h 44 min 13.31941 s to midnight; a double of seconds since 1970 holds it to 0.3 us */
    assert_true(llabs(t.entries[1].at_ns - 20653319410000) < CLOCK_US);
    trace_fini(&t);
    assert_int_equal(
        load(&t, TRACE_BURSTGPT,
             "Timestamp,Session ID,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
             "5,a,GPT-4,472,18,490,Conversation log\n"
             "45,a,ChatGPT,1087,0,1087,Conversation log\n"
             "118,a,GPT-4,417,276,693,API log\n",
             NULL),
        ERR_OK);
    assert_int_equal(t.n, 2);
    assert_int_equal(t.left_out, 1);
    assert_int_equal(t.entries[1].at_ns, 113 * CLOCK_S);
    assert_int_equal(t.entries[1].output, 276);
    trace_fini(&t);
}

static void a_broken_line_is_named(void **state)
{
    static const struct {
        enum trace_kind kind;
        const char *text, *says;
    } cases[] = {
        {TRACE_MOONCAKE, "{\"timestamp\": 0,\n", ":1: column"},
        {TRACE_MOONCAKE, "\n{\"timestamp\": 0, \"input_length\": 4}\n",
         ":2: no number \"output_length\""},
        {TRACE_MOONCAKE, "{\"timestamp\": 0, \"input_length\": 0, \"output_length\": 4}\n",
         ":1: 0 tokens in"},
        {TRACE_MOONCAKE,
         "{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 4, \"hash_ids\": [1]}\n",
         ":1: 1 hash_ids for 600 tokens"},
        {TRACE_MOONCAKE,
         "{\"timestamp\": 0, \"input_length\": 6, \"output_length\": 4, \"hash_ids\": [\"x\"]}\n",
         ":1: hash_ids[0] is not an integer"},
        {TRACE_AZURE, "TIMESTAMP,ContextTokens\n",
         ":1: the first line names no column \"GeneratedTokens\""},
        {TRACE_AZURE, "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,12,1x\n",
         ":2: column 3 holds \"1x\", which is no number of tokens"},
        {TRACE_AZURE, "TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,12,1\n",
         ":2: column 1 holds \"yesterday\", which is no time"},
        {TRACE_AZURE, "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68\n",
         ":2: column 2 holds"},
        {TRACE_AZURE, "TIMESTAMP,ContextTokens,GeneratedTokens\n1e300,1,1\n",
         ":2: 1e+300 s is no time"},
        {TRACE_BURSTGPT, "Timestamp,Request tokens,Response tokens\n", "holds no request"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err e = {0};
        struct trace t;

        assert_int_equal(load(&t, cases[i].kind, cases[i].text, &e), ERR_FORMAT);
        if (!strstr(e.text, cases[i].says))
            fail_msg("case %zu: %s", i, e.text);
    }
}

static void recorded_traces_are_read_whole(void **state)
{
    static const struct {
        enum trace_kind kind;
        const char *name;
        size_t n;
        int64_t seconds;
    } cases[] = {{TRACE_MOONCAKE, "traces/mooncake-conversation.jsonl", 12031, 3537},
                 {TRACE_AZURE, "traces/azure-conv.csv", 19366, 3502}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const char *path = data_path(__func__, cases[i].name);
        struct err e = {0};
        struct trace t;

        if (!path)
            skip();
        if (trace_load(&t, cases[i].kind, path, &e) != ERR_OK)
            fail_msg("%s", e.text);
        assert_int_equal(t.n, cases[i].n);
        assert_int_equal((t.entries[t.n - 1].at_ns + CLOCK_S / 2) / CLOCK_S, cases[i].seconds);
        trace_fini(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mooncake_has_shared_blocks),
        cmocka_unit_test(csv_columns_are_found_by_name),
        cmocka_unit_test(a_broken_line_is_named),
        cmocka_unit_test(recorded_traces_are_read_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
