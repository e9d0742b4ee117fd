/* What the type of KV costs in quality: the perplexity of a text that the demo model knows well. */
#include <math.h>

#include "base/check.h"
#include "engine/eval.h"
#include "model/gguf.h"
#include "model/vocab.h"
#include "tests/lib/test.h"

#define MODEL "deploy/demo/austen-5m-q8_0.gguf"

/* Jane Austen, Pride and Prejudice, chapter 1 (1813, public domain). */
static const char text[] =
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must "
    "be in want of a wife.\n\nHowever little known the feelings or views of such a man may be on his "
    "first entering a neighbourhood, this truth is so well fixed in the minds of the surrounding "
    "families, that he is considered the rightful property of some one or other of their "
    "daughters.\n\n\"My dear Mr. Bennet,\" said his lady to him one day, \"have you heard that "
    "Netherfield Park is let at last?\"\n\nMr. Bennet replied that he had not.\n\n\"But it is,\" "
    "returned she; \"for Mrs. Long has just been here, and she told me all about it.\"\n\nMr. Bennet "
    "made no answer.\n\n\"Do you not want to know who has taken it?\" cried his wife "
    "impatiently.\n\n\"You want to tell me, and I have no objection to hearing it.\"\n\nThis was "
    "invitation enough.\n\n\"Why, my dear, you must know, Mrs. Long says that Netherfield is taken by "
    "a young man of large fortune from the north of England; that he came down on Monday in a chaise "
    "and four to see the place, and was so much delighted with it that he agreed with Mr. Morris "
    "immediately; that he is to take possession before Michaelmas, and some of his servants are to be "
    "in the house by the end of next week.\"";

static void tokens_of(struct token_list *out)
{
    struct gguf *g;
    struct vocab *v;

    assert_int_equal(gguf_open(&g, MODEL, NULL), 0);
    assert_int_equal(vocab_load(&v, g, NULL), 0);
    assert_int_equal(vocab_tokenize(v, out, text, strlen(text), true, false, NULL), 0);
    vocab_free(&v);
    gguf_close(&g);
}

static double perplexity(const struct token_list *t, enum cpu_tier tier, enum kv_type kv)
{
    struct engine_options o = {.model = MODEL, .tier = tier, .n_threads = 1, .rows_max = 128,
                               .kv_type = kv};
    struct eval *ev;
    struct err e;
    double nll;

    if (eval_open(&ev, &o, &e))
        fail_msg("%s", e.text);
    assert_int_equal(eval_nll(ev, t->ids, (uint32_t)t->n, &nll, &e), 0);
    eval_close(&ev);
    return exp(nll / (double)(t->n - 1));
}

/* Against f32 in the same tier: f16 within 0.05 %, bf16, of 8 bits, and q8 within 0.5 %. */
static void each_type_of_kv_keeps_the_perplexity(void **state)
{
    static const double bounds[] = {[KV_F16] = 5e-4, [KV_BF16] = 5e-3, [KV_Q8] = 5e-3};
    enum cpu_tier tier = CPU_REF;
    struct token_list t = {0};
    double exact;

    (void)state;
    tokens_of(&t);
    assert_int_equal(cpu_tier_choose(&tier, "auto", NULL), 0);
    exact = perplexity(&t, tier, KV_F32);
    print_message("f32 %.4f over %zu tokens\n", exact, t.n - 1);
    assert_true(exact > 1 && exact < 40); /* the model writes such sentences; others give hundreds */
    for (int kv = 0; kv < KV_TYPE_COUNT; kv++) {
        double p;

        if (kv == KV_F32 || (kv == KV_BF16 && tier != CPU_AMX))
            continue;
        p = perplexity(&t, tier, (enum kv_type)kv);
        print_message("%s %.4f, %+.3f %%\n", kv_type_name((enum kv_type)kv), p, 100 * (p / exact - 1));
        assert_true(fabs(p / exact - 1) < bounds[kv]);
    }
    token_list_fini(&t);
}

/* The sum is that of the rows' own: a model that has seen half of a text is no wiser about it. */
static void nll_of_a_text_does_not_depend_on_chunks(void **state)
{
    struct engine_options o = {.model = MODEL, .tier = CPU_REF, .n_threads = 1, .kv_type = KV_F16};
    struct token_list t = {0};
    double nll[2];
    struct err e;

    (void)state;
    tokens_of(&t);
    for (int i = 0; i < 2; i++) {
        struct eval *ev;

        o.rows_max = i ? 7 : 64;
        if (eval_open(&ev, &o, &e))
            fail_msg("%s", e.text);
        assert_int_equal(eval_nll(ev, t.ids, 40, &nll[i], &e), 0);
        eval_close(&ev);
    }
    assert_true(nll[0] == nll[1] && nll[0] > 0);
    token_list_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_of_kv_keeps_the_perplexity),
        cmocka_unit_test(nll_of_a_text_does_not_depend_on_chunks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
