#include "tests/lib/test.h"

#include "bench/shortage.h"

static struct figures figures;
static struct result result;
static char why[400];

/* Figures of 100 requests of which so many missed, and of a mean of ms in each stage. */
static void missed(uint64_t ttft, uint64_t tpot, double router, double queue, double prefill)
{
    memset(&figures, 0, sizeof(figures));
    figures.judged = 100;
    figures.good = 100 - (ttft > tpot ? ttft : tpot);
    figures.attainment = (double)figures.good / 100;
    figures.missed[METRIC_TTFT] = ttft;
    figures.missed[METRIC_TPOT] = tpot;
    figures.stages[STAGE_ROUTER] = (struct stats){.n = 100, .mean = router};
    figures.stages[STAGE_PREFILL_QUEUE] = (struct stats){.n = 100, .mean = queue};
    figures.stages[STAGE_PREFILL] = (struct stats){.n = 100, .mean = prefill};
}

static enum shortage found(void)
{
    return shortage_find(why, sizeof(why), &figures, &result, 0.9);
}

/* What waits for prefill lacks prefill; in the router it lacks decode if KV pages or slots there are
 * full. */
static void the_stage_with_the_time_names_the_pool(void **state)
{
    static struct monitor_sample sample = {
        .values = {[MONITOR_PAGES_USED] = 95, [MONITOR_RUNNING] = 8}};

    (void)state;
    missed(5, 5, 1, 1, 1);
    assert_int_equal(found(), SHORT_NOTHING);
    missed(40, 2, 1, 300, 50);
    assert_int_equal(found(), SHORT_PREFILL);
    assert_non_null(strstr(why, "86 % was waiting"));
    missed(40, 2, 1, 3, 500);
    assert_int_equal(found(), SHORT_PREFILL);
    assert_non_null(strstr(why, "slow for this target"));
    missed(2, 40, 1, 3, 5);
    assert_int_equal(found(), SHORT_DECODE);
    missed(40, 2, 500, 3, 5);
    assert_int_equal(found(), SHORT_PREFILL);
    result.nodes.n = 1;
    strcpy(result.nodes.list[0].role, "decode");
    result.nodes.list[0].last[MONITOR_PAGES_TOTAL] = 100;
    result.nodes.list[0].samples = &sample;
    result.nodes.list[0].n = 1;
    assert_int_equal(found(), SHORT_DECODE);
    assert_non_null(strstr(why, "95 % of their KV pages"));
    sample.values[MONITOR_PAGES_USED] = 5;
    assert_int_equal(found(), SHORT_PREFILL);
    result.nodes.list[0].peaks.slots = 8;
    assert_int_equal(found(), SHORT_DECODE);
    assert_non_null(strstr(why, "100 % of their slots in use: add decode nodes or slots"));
}

static void a_server_that_says_nothing_is_not_guessed_at(void **state)
{
    (void)state;
    memset(&result, 0, sizeof(result));
    missed(40, 2, 0, 0, 0);
    figures.stages[STAGE_PREFILL].n = 0;
    assert_int_equal(found(), SHORT_UNKNOWN);
    missed(0, 0, 1, 1, 1);
    result.saturated = true; /* all failed otherwise */
    figures.attainment = 0;
    assert_int_equal(found(), SHORT_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stage_with_the_time_names_the_pool),
        cmocka_unit_test(a_server_that_says_nothing_is_not_guessed_at),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
