#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "router/generation.h"

/* Ids: 0 <unk>, 1 <s>, 2 </s> (ends a generation), 3 "ab", 4 "c", 5 and 6 the two bytes of U+00E9,
 * 7 a word with its space. */
enum { UNK, BOS, EOS, AB, C, BYTE_C3, BYTE_A9, WORD };

static struct vocab *vocab_make(void)
{
    static const struct vocab_entry entries[] = {
        {"<unk>", 5, 0, TOKEN_UNKNOWN}, {"<s>", 3, 0, TOKEN_CONTROL},
        {"</s>", 4, 0, TOKEN_CONTROL},  {"ab", 2, -1, TOKEN_NORMAL},
        {"c", 1, -2, TOKEN_NORMAL},     {"<0xC3>", 6, 0, TOKEN_BYTE},
        {"<0xA9>", 6, 0, TOKEN_BYTE},   {"\xe2\x96\x81word", 7, -3, TOKEN_NORMAL},
    };
    const struct vocab_spec spec = {.entries = entries, .n = ARRAY_LEN(entries), .bos = BOS,
                                    .eos = EOS, .eot = -1, .unk = UNK, .add_bos = true};
    struct vocab *v = NULL;
    struct err e = {0};

    if (vocab_new(&v, &spec, &e) != 0)
        fail_msg("%s", e.text);
    return v;
}

/* What a client would have seen. */
struct client {
    struct generation gen; /* first */
    struct str text;
    uint32_t ids[32], n_ids, texts;
    struct generation_end end;
    bool ended;
};

static void on_text(struct generation *g, const struct str *text, uint32_t index,
                    const uint32_t *ids, uint32_t n_ids)
{
    struct client *c = (struct client *)g;

    assert_int_equal(index, c->n_ids);
    str_add(&c->text, str_text(text), text->len);
    for (uint32_t i = 0; i < n_ids; i++)
        c->ids[c->n_ids++] = ids[i];
    c->texts++;
}

static void on_end(struct generation *g, const struct generation_end *end)
{
    struct client *c = (struct client *)g;

    c->end = *end;
    c->ended = true;
}

static const struct generation_ops ops = {on_text, on_end};

struct rig {
    struct vocab *vocab;
    struct metrics *metrics;
    struct client c;
};

static void rig_init(struct rig *r, const char *stop, bool ignore_eos)
{
    char stops[1][MSG_STOP_BYTES_MAX] = {0};

    *r = (struct rig){.vocab = vocab_make(), .metrics = mem_zalloc(sizeof(*r->metrics))};
    if (stop)
        strcpy(stops[0], stop);
    log_level_max = LOG_ERROR; /* no request lines among the test's own */
    generation_init(&r->c.gen, &ops, METRICS_COMPLETIONS, r->vocab, ignore_eos, stops, stop != NULL,
                    CLOCK_S);
    r->c.gen.n_prompt = 5;
}

static void rig_fini(struct rig *r)
{
    generation_fini(&r->c.gen);
    str_fini(&r->c.text);
    vocab_free(&r->vocab);
    mem_free(r->metrics);
}

static bool feed(struct rig *r, const uint32_t *tokens, uint32_t n, int64_t ms)
{
    return generation_tokens(&r->c.gen, r->metrics, tokens, n, CLOCK_S + ms * CLOCK_MS);
}

static void finish(struct rig *r, enum finish why)
{
    static const struct router_stats stats;
    struct generation_end end = {.status = 200, .finish = why, .stats = &stats};

    generation_end(&r->c.gen, r->metrics, &end, 2 * CLOCK_S);
    assert_true(r->c.ended);
}

static void test_tokens_become_text_and_figures(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, NULL, false);
    assert_false(feed(&r, (uint32_t[]){WORD}, 1, 10));
    assert_false(feed(&r, (uint32_t[]){AB, C}, 2, 30));
    finish(&r, FINISH_LENGTH);
    assert_string_equal(str_text(&r.c.text), " wordabc");
    assert_int_equal(r.c.gen.n_tokens, 3);
    assert_int_equal(r.c.end.finish, FINISH_LENGTH);
    assert_true(generation_ttft_ms(&r.c.gen) == 10);
    assert_true(generation_tpot_ms(&r.c.gen) == 10);
    assert_int_equal(r.metrics->prompt_tokens, 5);
    assert_int_equal(r.metrics->output_tokens, 3);
    assert_int_equal(r.metrics->itl.count, 2);
    rig_fini(&r);
}

static void test_an_empty_answer_was_served_too(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, NULL, false);
    finish(&r, FINISH_STOP);
    assert_int_equal(r.c.texts, 0);
    assert_int_equal(r.c.gen.n_tokens, 0);
    assert_int_equal(r.metrics->prompt_tokens, 5);
    assert_int_equal(r.metrics->output_tokens, 0);
    assert_int_equal(r.metrics->ttft.count, 0);
    rig_fini(&r);
}

static void test_end_token_is_counted_but_not_shown(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, NULL, false);
    assert_false(feed(&r, (uint32_t[]){AB, EOS}, 2, 10));
    finish(&r, FINISH_STOP);
    assert_string_equal(str_text(&r.c.text), "ab");
    assert_int_equal(r.c.gen.n_tokens, 2);
    assert_int_equal(r.c.ids[1], EOS);
    rig_fini(&r);
}

static void test_characters_are_whole(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, NULL, false);
    feed(&r, (uint32_t[]){AB, BYTE_C3}, 2, 10);
    assert_string_equal(str_text(&r.c.text), "ab");
    feed(&r, (uint32_t[]){BYTE_A9}, 1, 20);
    assert_string_equal(str_text(&r.c.text), "ab\xc3\xa9");
    feed(&r, (uint32_t[]){BYTE_C3}, 1, 30);
    finish(&r, FINISH_LENGTH);
    assert_string_equal(str_text(&r.c.text), "ab\xc3\xa9\xef\xbf\xbd"); /* never completed */
    rig_fini(&r);
}

static void test_stop_string_ends_it_whatever_the_batches(void **state)
{
    const uint32_t tokens[] = {AB, C, AB, AB, C, C};

    (void)state;
    for (uint32_t batch = 1; batch <= 6; batch++) {
        struct rig r;
        bool hit = false;

        rig_init(&r, "bcc", false); /* in abcababcc */
        for (uint32_t i = 0; i < 6 && !hit; i += batch)
            hit = feed(&r, tokens + i, u32_min(batch, 6 - i), 10 + i);
        assert_true(hit);
        assert_false(feed(&r, tokens, 6, 90)); /* still under way: dropped */
        finish(&r, FINISH_CANCELLED);
        assert_int_equal(r.c.end.finish, FINISH_STOP);
        assert_string_equal(str_text(&r.c.text), "abcaba");
        assert_int_equal(r.c.gen.n_tokens, 6);
        rig_fini(&r);
    }
}

static void test_tokens_behind_a_stop_string_do_not_count(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, "abc", false);
    assert_true(feed(&r, (uint32_t[]){WORD, AB, C, AB, AB}, 5, 10));
    finish(&r, FINISH_CANCELLED);
    assert_string_equal(str_text(&r.c.text), " word");
    assert_int_equal(r.c.gen.n_tokens, 3);
    assert_int_equal(r.c.n_ids, 3);
    rig_fini(&r);
}

static void test_what_was_held_for_a_stop_is_shown_at_the_end(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, "abcd", false);
    assert_false(feed(&r, (uint32_t[]){AB, C}, 2, 10));
    assert_string_equal(str_text(&r.c.text), "");
    assert_int_equal(r.c.texts, 1); /* its ids are told all the same */
    finish(&r, FINISH_LENGTH);
    assert_string_equal(str_text(&r.c.text), "abc");
    assert_int_equal(r.c.end.finish, FINISH_LENGTH);
    rig_fini(&r);
}

static void test_client_that_left_is_shown_nothing(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, NULL, false);
    r.c.gen.gone = true;
    assert_false(feed(&r, (uint32_t[]){AB}, 1, 10));
    finish(&r, FINISH_CANCELLED);
    assert_int_equal(r.c.texts, 0);
    assert_int_equal(r.c.end.status, 499);
    assert_int_equal(r.metrics->requests[METRICS_COMPLETIONS][5], 1);
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens_become_text_and_figures),
        cmocka_unit_test(test_an_empty_answer_was_served_too),
        cmocka_unit_test(test_end_token_is_counted_but_not_shown),
        cmocka_unit_test(test_characters_are_whole),
        cmocka_unit_test(test_stop_string_ends_it_whatever_the_batches),
        cmocka_unit_test(test_tokens_behind_a_stop_string_do_not_count),
        cmocka_unit_test(test_what_was_held_for_a_stop_is_shown_at_the_end),
        cmocka_unit_test(test_client_that_left_is_shown_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
