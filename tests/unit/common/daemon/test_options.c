#include "daemon/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/log.h"
#include "host/cpu.h"
#include "kv/kv_layout.h"
#include "net/msg.h"

static void test_tables_have_good_defaults(void **state)
{
    struct router_options r = {0};
    struct node_options p = {0};
    struct node_options d = {0};

    (void)state;
    option_defaults(&router_option_table, &r);
    option_defaults(&prefill_option_table, &p);
    option_defaults(&decode_option_table, &d);
    assert_string_equal(r.http, "127.0.0.1:8000");
    assert_string_equal(p.router, r.nodes);
    assert_int_equal(p.chunk_tokens % KV_PAGE_TOKENS, 0);
    assert_int_equal(d.credit_bytes, 2 << 20);
    assert_int_equal(p.common.log_level, LOG_INFO);
    assert_int_equal(d.kv_type, KV_AUTO);
    assert_int_equal(d.kv_wire, KV_AUTO);
    option_free(&router_option_table, &r);
    option_free(&prefill_option_table, &p);
    option_free(&decode_option_table, &d);
}

/* Two KV_PAGE messages: with less, one on its way would hold up the next. */
static void test_credit_is_at_least_two_messages(void **state)
{
    struct node_options d = {0};
    struct err e = {0};
    const struct option *o = option_find(&decode_option_table, "credit_bytes");

    (void)state;
    option_defaults(&decode_option_table, &d);
    assert_int_equal(option_set(o, &d, "524287", NULL, &e), ERR_CONFIG);
    assert_int_equal(option_set(o, &d, "512KiB", NULL, &e), 0);
    assert_int_equal(d.credit_bytes, 2 * MSG_BULK_MAX);
    option_free(&decode_option_table, &d);
}

static void test_names_stand_in_the_order_of_their_enums(void **state)
{
    (void)state;
    for (int i = 0; i < LOG_LEVEL_COUNT; i++)
        assert_string_equal(options_log_levels[i], log_level_names[i]);
    assert_null(options_log_levels[LOG_LEVEL_COUNT]);
    for (int i = 0; i < LOG_FORMAT_COUNT; i++)
        assert_string_equal(options_log_formats[i], log_format_names[i]);
    assert_null(options_log_formats[LOG_FORMAT_COUNT]);
    for (int i = 0; i < KV_TYPE_COUNT; i++)
        assert_string_equal(options_kv_types[i], kv_type_name((enum kv_type)i));
    assert_string_equal(options_kv_types[KV_AUTO], "auto");
    assert_string_equal(options_huge_pages[MEM_HUGE_AUTO], "auto");
    assert_string_equal(options_huge_pages[MEM_HUGE_ON], "on");
    assert_string_equal(options_huge_pages[MEM_HUGE_OFF], "off");
    assert_null(options_kv_types[KV_AUTO + 1]);
    for (int i = 0; i < CPU_TIER_COUNT; i++)
        assert_non_null(strstr(OPTIONS_CPU_TIERS, cpu_tier_name((enum cpu_tier)i)));
}

static void test_what_is_a_name_an_address_an_endpoint(void **state)
{
    char path[6 + OPTIONS_IPC_MAX + 2];

    (void)state;
    assert_null(options_name_wrong("decode-1.b_c"));
    assert_non_null(options_name_wrong(""));
    assert_non_null(options_name_wrong("../x"));
    assert_non_null(options_name_wrong("-x"));
    assert_non_null(options_name_wrong("a#b"));
    assert_null(options_address_wrong("0.0.0.0:80"));
    assert_null(options_address_wrong("[::1]:8000"));
    assert_non_null(options_address_wrong("8000"));
    assert_non_null(options_address_wrong("::1:8000"));
    assert_non_null(options_address_wrong("h:"));
    assert_non_null(options_address_wrong("h:65536"));
    assert_non_null(options_address_wrong("h:80x"));
    assert_null(options_endpoint_wrong("tcp://10.0.0.1:8100"));
    assert_non_null(options_endpoint_wrong("inproc://x"));
    assert_non_null(options_endpoint_wrong("ipc://"));
    memset(path, 'p', sizeof(path));
    memcpy(path, "ipc://", 6);
    path[sizeof(path) - 1] = '\0';
    assert_non_null(options_endpoint_wrong(path));
    path[sizeof(path) - 2] = '\0';
    assert_null(options_endpoint_wrong(path));
    assert_null(options_cpu_wrong("auto"));
    assert_null(options_cpu_wrong("ref"));
    assert_string_equal(options_cpu_wrong("z80"),
                        "is not a kernel tier: auto, ref, avx2, avx512vnni, amx, "
                        "neon-dotprod, neon-i8mm");
    assert_null(options_cores_wrong(""));
    assert_null(options_cores_wrong("0,2-5"));
    assert_non_null(options_cores_wrong("0;1"));
}

static void test_checks_involve_several_options(void **state)
{
    struct router_options r = {0};
    struct err e = {0};

    (void)state;
    option_defaults(&router_option_table, &r);
    assert_int_equal(router_option_table.check(&r, &e), ERR_CONFIG);
    assert_string_equal(e.text, "model: none was given, use --model=FILE");
    r.dead_ms = 300;
    assert_int_equal(router_option_table.check(&r, &e), ERR_CONFIG);
    assert_string_equal(e.text, "dead_ms: 300 is less than twice heartbeat_ms, 250");
    option_free(&router_option_table, &r);
}

static void test_the_help_of_queue_max_names_the_status(void **state)
{
    (void)state;
    assert_non_null(strstr(option_find(&router_option_table, "queue_max")->help, "503"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables_have_good_defaults),
        cmocka_unit_test(test_credit_is_at_least_two_messages),
        cmocka_unit_test(test_names_stand_in_the_order_of_their_enums),
        cmocka_unit_test(test_what_is_a_name_an_address_an_endpoint),
        cmocka_unit_test(test_checks_involve_several_options),
        cmocka_unit_test(test_the_help_of_queue_max_names_the_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
