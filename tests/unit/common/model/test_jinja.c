/* The template engine against Jinja itself, and its limits. */
#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "model/jinja_priv.h"

#define NOW      1700000000 /* as in generate.py */
#define FIXTURES "tests/fixtures/chat/"

/* A run with the variables of a JSON object, all text in them a user's. */
static struct jinja_run *run_new(const struct jinja *t, json_t *vars)
{
    struct jinja_run *r = jinja_run_new(t, NOW);
    const char *key;
    json_t *v;

    json_object_foreach(vars, key, v)
    {
        char *text = json_dumps(v, JSON_ENCODE_ANY);

        jinja_set(r, key, jinja_from_json(r, text, strlen(text), true));
        free(text);
    }
    return r;
}

/* One case of generate.py; says what differs. */
static bool case_holds(json_t *doc, json_t *c)
{
    json_t *template = json_object_get(c, "template"), *vars = json_object_get(c, "vars");
    json_t *want = json_object_get(c, "text");
    const char *name = json_string_value(json_object_get(c, "name"));
    struct jinja_output out = {0};
    struct jinja_run *r = NULL;
    struct jinja *t = NULL;
    struct err e = {0};
    bool good;
    int rc = jinja_open(&t, "case", json_string_value(template), json_string_length(template), &e);

    if (json_is_string(vars))
        vars = json_object_get(doc, json_string_value(vars));
    if (!rc) {
        r = run_new(t, vars);
        rc = jinja_render(r, &out, &e);
    }
    if (want)
        good = !rc && out.n == json_string_length(want) &&
               memcmp(out.text, json_string_value(want), out.n) == 0;
    else
        good = rc != 0;
    if (!good)
        printf("%s: %s\n gives %.*s%s\n must  %s\n", name, json_string_value(template), (int)out.n,
               rc ? "" : out.text, e.text, want ? json_string_value(want) : "fail");
    jinja_run_free(&r);
    jinja_free(&t);
    return good;
}

static void all_cases_hold(json_t *doc, size_t at_least)
{
    size_t i, bad = 0;
    json_t *c;

    setenv("TZ", "UTC", 1);
    json_array_foreach(json_object_get(doc, "cases"), i, c) bad += !case_holds(doc, c);
    assert_true(i >= at_least);
    assert_int_equal(bad, 0);
}

static void templates_give_what_jinja_gave(void **state)
{
    json_t *doc = json_load_file(FIXTURES "expected.json", 0, NULL);

    (void)state;
    assert_non_null(doc);
    all_cases_hold(doc, 500);
    json_decref(doc);
}

/* The same with cases made now, by another seed. */
static void templates_give_what_jinja_gives(void **state)
{
    json_t *doc;
    FILE *f;

    (void)state;
    if (system("python3 -c 'import jinja2' >/dev/null 2>&1") != 0) {
        printf("skipped: %s: no python3-jinja2\n", __func__);
        skip();
    }
    f = popen("python3 " FIXTURES "generate.py --seed 2 --random 500", "r");
    assert_non_null(f);
    doc = json_loadf(f, 0, NULL);
    assert_int_equal(pclose(f), 0);
    assert_non_null(doc);
    all_cases_hold(doc, 700);
    json_decref(doc);
}

static int open_and_render(const char *text, struct str *out, struct err *e)
{
    struct jinja_output o;
    struct jinja_run *r;
    struct jinja *t;
    int rc = jinja_open(&t, "t", text, strlen(text), e);

    if (rc)
        return rc;
    r = jinja_run_new(t, NOW);
    rc = jinja_render(r, &o, e);
    if (out && !rc)
        str_add(out, o.text, o.n);
    jinja_run_free(&r);
    jinja_free(&t);
    return rc;
}

static void what_is_not_known_is_refused_when_opened(void **state)
{
    static const struct {
        const char *text, *says;
        int code;
    } cases[] = {
        {"a\n b{% include 'x' %}", "t:2:6: statement \"include\" is not supported",
         ERR_UNSUPPORTED},
        {"{% call f() %}{% endcall %}", "t:1:4: statement \"call\"", ERR_UNSUPPORTED},
        {"{{ x|nosuch }}", "t:1:6: filter \"nosuch\"", ERR_UNSUPPORTED},
        {"{{ x is nosuch }}", "t:1:9: test \"nosuch\"", ERR_UNSUPPORTED},
        {"{{ x.nosuch() }}", "t:1:6: method \"nosuch\"", ERR_UNSUPPORTED},
        {"\n{{ nosuch() }}", "t:2:4: function \"nosuch\"", ERR_UNSUPPORTED},
        {"{{ l|map('nosuch') }}", "t:1:10: filter \"nosuch\"", ERR_UNSUPPORTED},
        {"{{ l|selectattr('a', 'nosuch') }}", "t:1:22: test \"nosuch\"", ERR_UNSUPPORTED},
        {"{{ f(*x) }}", "unpacked arguments", ERR_UNSUPPORTED},
        {"{% for x in y recursive %}{% endfor %}", "recursive loops", ERR_UNSUPPORTED},
        {"{{ x|join(1, 2, 3) }}", "\"join\" takes at most 2 arguments", ERR_FORMAT},
        {"{{ x|replace('a') }}", "\"replace\" takes at least 2 arguments", ERR_FORMAT},
        {"{{ x|trim(z=1) }}", "\"trim\" has no argument \"z\"", ERR_FORMAT},
        {"{{ range() }}", "\"range\" takes at least 1", ERR_FORMAT},
        {"{% if x %}", "{% elif %} is missing", ERR_FORMAT},
        {"{% for x in y %}{% endif %}", "statement \"endif\"", ERR_UNSUPPORTED},
        {"{% break %}", "outside of a loop", ERR_FORMAT},
        {"{% for a in b %}{% set x %}{% break %}{% endset %}{% endfor %}", "outside", ERR_FORMAT},
        {"{{ x", "{{ without }}", ERR_FORMAT},
        {"{% x", "{% without %}", ERR_FORMAT},
        {"{# x", "comment without #}", ERR_FORMAT},
        {"{{ 'x }}", "without its closing quote", ERR_FORMAT},
        {"{{ (1 }}", "closing bracket", ERR_FORMAT},
        {"{{ 1 2 }}", "}} must be here, not a number", ERR_FORMAT},
        {"{{ }}", "an expression must be here, not }}", ERR_FORMAT},
        {"{{ a ? b }}", "a character that means nothing", ERR_FORMAT},
        {"{{ 0x10 }}", "a number of a form", ERR_FORMAT},
        {"{{ '\\ud800' }}", "no character", ERR_FORMAT},
        {"{% set if = 1 %}", "a name must be here, not \"if\"", ERR_FORMAT},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct jinja *t;
        struct err e = {0};

        assert_int_equal(jinja_open(&t, "t", cases[i].text, strlen(cases[i].text), &e),
                         cases[i].code);
        assert_null(t);
        if (!strstr(e.text, cases[i].says))
            fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].text, e.text, cases[i].says);
    }
}

static void raise_exception_speaks_for_itself(void **state)
{
    struct err e = {0};

    (void)state;
    assert_int_equal(open_and_render("{{ raise_exception('roles ' ~ 'alternate') }}", NULL, &e),
                     ERR_ARG);
    assert_string_equal(e.text, "roles alternate");
    assert_int_equal(open_and_render("a\n{{ 1 + none }}", NULL, &e), ERR_FORMAT);
    assert_string_equal(e.text, "t:2:6: an integer + none: not possible");
}

static char *repeated(const char *head, const char *unit, size_t n, const char *tail)
{
    struct str s = {0};

    str_adds(&s, head);
    for (size_t i = 0; i < n; i++)
        str_adds(&s, unit);
    str_adds(&s, tail);
    return str_steal(&s);
}

static void everything_has_a_limit(void **state)
{
    static const struct {
        const char *head, *unit;
        size_t n;
        const char *tail;
        int code;
    } cases[] = {
        {"{{ ", "(", 65, "1", ERR_LIMIT},
        {"{{ ", "[", 6000, "1", ERR_LIMIT},
        {"{{ ", "-", 6000, "1 }}", ERR_LIMIT},
        {"", "{% if 1 %}", 6000, "", ERR_LIMIT},
        {"{{ 1", " + 1", 20000, " }}", 0},
        {"{{ '", "a", JINJA_TEMPLATE_BYTES_MAX, "' }}", ERR_LIMIT},
        {"{{ x", ".a", 20000, " if x else 1 }}", 0}, /* not evaluated */
        {"{{ 'a'", "|trim", 20000, " }}", ERR_LIMIT},
        {"{{ 1", " if 1 else 1", 10000, " }}", 0},
        {"{{ 1", " if 0 else 1", 10000, " }}", ERR_LIMIT},
        {"{% if 0 %}", "{% elif 0 %}", 10000, "{% else %}x{% endif %}", 0},
        {"{% for i in range(100000000) %}", "", 0, "{% endfor %}", ERR_LIMIT},
        {"{% for i in range(9999) %}{% for j in range(9999) %}", "", 0, "{% endfor %}{% endfor %}",
         ERR_LIMIT},
        {"{% set n = namespace(x='ab') %}{% for i in range(40) %}{% set n.x = n.x + n.x %}", "", 0,
         "{% endfor %}", ERR_LIMIT},
        {"{% set l = [1] %}{% for i in l %}{{ l.append(i) }}", "", 0, "{% endfor %}", ERR_LIMIT},
        {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "", 0, "", ERR_LIMIT},
        {"{{ 'abc' * 10000000 }}", "", 0, "", ERR_LIMIT},
        {"{{ ([0] * 9999999) | length }}", "", 0, "", ERR_LIMIT},
        {"{% set n = namespace(x=[]) %}{% for i in range(5000) %}{% set n.x = [n.x] %}{% endfor %}",
         "", 0, "{{ n.x }}", ERR_LIMIT},
        {"{% set n = namespace(x=[]) %}{% for i in range(5000) %}{% set n.x = [n.x] %}{% endfor %}",
         "", 0, "{{ n.x | tojson }}", ERR_LIMIT},
        {"{% set l = [] %}{{ l.append(l) }}{{ l == [l] }}{{ l }}", "", 0, "", ERR_LIMIT},
        {"{{ 9223372036854775 * 9223372036854775 }}", "", 0, "", ERR_FORMAT},
        {"{{ 2 ** 63 }}", "", 0, "", ERR_FORMAT},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *text = repeated(cases[i].head, cases[i].unit, cases[i].n, cases[i].tail);
        struct err e = {0};
        int rc = open_and_render(text, NULL, &e);

        if (rc != cases[i].code)
            fail_msg("case %zu, %.60s: %d, %s", i, text, rc, e.text);
        mem_free(text);
    }
}

/* Each character of the private area in the output is a user's, and nothing else is. */
static void marks_are_exact(const struct jinja_output *o, const char *text)
{
    size_t k = 0, marked = 0;

    for (size_t i = 0; i < o->n; i++) {
        const char *s = o->text + i;
        bool private, user;

        while (k < o->n_user && o->user[k].end <= i)
            k++;
        user = k < o->n_user && o->user[k].begin <= i;
        /* U+E000 to U+EFFF: EE xx xx */
        private = (uint8_t)s[0] == 0xEE || (i >= 1 && (uint8_t)s[-1] == 0xEE) ||
                  (i >= 2 && (uint8_t)s[-2] == 0xEE);
        if (user != private)
            fail_msg("%s: byte %zu of \"%.*s\"", text, i, (int)o->n, o->text);
        marked += user;
    }
    if (marked == 0)
        fail_msg("%s: nothing is left of the user's text", text);
}

static void a_users_bytes_stay_marked_through_everything(void **state)
{
    static const char *const templates[] = {
        "{{ x }}",
        "a{{ x }}b{{ x }}",
        "{{ 'a' + x + 'b' ~ x ~ 1 }}",
        "{{ (' ' + x + ' ') | trim }}",
        "{{ ('a' + x + 'b').strip('ab') }}",
        "{{ ('a,' + x + ',b').split(',') | join('-') }}",
        "{{ ('a ' + x + ' b').split()[1] }}",
        "{{ [x, 'a', x] | join(x) }}",
        "{{ x | replace('a', 'b') }}{{ ('aa' + x).replace('a', 'b') }}",
        "{{ 'abc' | replace('b', x) }}",
        "{{ ('ab' + x)[1:] }}{{ ('ab' + x)[::-1] }}{{ ('ab' + x)[2] }}",
        "{{ x | upper }}{{ x | lower }}{{ x | capitalize }}{{ x | title }}{{ ('q' + x).upper() }}",
        "{{ ('a\n' + x + '\nb') | indent(2) }}",
        "{{ '[{}]'.format(x) }}{{ '{a}'.format(a=x) }}",
        "{% set y %}a{{ x }}b{% endset %}{{ y }}{{ y | length }}",
        "{% filter upper | trim %} a{{ x }}b {% endfilter %}",
        "{% macro m(a, b='z') %}<{{ a }}{{ b }}>{% endmacro %}{{ m(x) }}{{ m('q', b=x) }}",
        "{% set n = namespace(t='') %}{% for c in x %}{% set n.t = n.t + c + '.' %}{% endfor %}{{ "
        "n.t }}",
        "{% for k, v in {'a': x}.items() %}{{ k }}{{ v }}{% endfor %}",
        "{{ [x] | map('upper') | list | first }}{{ [{'a': x}] | map(attribute='a') | join }}",
        "{{ [x, 'b'] | sort | join }}{{ [x] | max }}{{ ['', x] | select | join }}",
        "{{ x if x else 'a' }}{{ x or 'a' }}{{ nope | default(x) }}",
        "{{ (x + '\n\nb') | string | safe }}{{ x | list | reverse | join }}{{ x | reverse }}",
        "{{ messages[0].content.split('a')[-1].lstrip('\\n') }}{{ messages[0]['content'] | trim }}",
    };
    json_t *vars = json_pack("{s:s, s:[{s:s}]}", "x", "\xEE\x80\x80\xEE\x81\x81", "messages",
                             "content", "\xEE\x80\x82");

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(templates); i++) {
        struct jinja_output o;
        struct jinja_run *r;
        struct jinja *t;
        struct err e = {0};

        if (jinja_open(&t, "t", templates[i], strlen(templates[i]), &e))
            fail_msg("%s", e.text);
        r = run_new(t, vars);
        if (jinja_render(r, &o, &e))
            fail_msg("%s", e.text);
        marks_are_exact(&o, templates[i]);
        jinja_run_free(&r);
        jinja_free(&t);
    }
    json_decref(vars);
}

/* What is written around a user's string by its own operation counts as the user's. */
static void quotes_of_a_users_string_are_marked_too(void **state)
{
    static const char text[] = "{{ {'k': x} | tojson }}{{ [x] }}";
    json_t *vars = json_pack("{s:s}", "x", "a");
    struct jinja_output o;
    struct jinja_run *r;
    struct jinja *t;

    (void)state;
    assert_int_equal(jinja_open(&t, "t", text, strlen(text), NULL), 0);
    r = run_new(t, vars);
    assert_int_equal(jinja_render(r, &o, NULL), 0);
    assert_int_equal(o.n, strlen("{\"k\": \"a\"}['a']"));
    assert_int_equal(o.n_user, 2);
    assert_int_equal(o.user[0].begin, 6);
    assert_int_equal(o.user[0].end, 9);
    assert_int_equal(o.user[1].begin, 11);
    jinja_run_free(&r);
    jinja_free(&t);
    json_decref(vars);
}

/* Templates with bytes changed, cut out and doubled: any result, but no crash and no sanitizer. */
static void damaged_templates_do_no_harm(void **state)
{
    json_t *doc = json_load_file(FIXTURES "expected.json", 0, NULL), *c;
    size_t i;

    (void)state;
    assert_non_null(doc);
    json_array_foreach(json_object_get(doc, "cases"), i, c)
    {
        json_t *template = json_object_get(c, "template");
        size_t n = json_string_length(template), at;
        char *text = mem_alloc(n * 2 + 1);
        struct jinja_output o;
        struct jinja *t;

        for (uint64_t k = 0; k < 4 && n > 2; k++) {
            size_t len = n;

            memcpy(text, json_string_value(template), n);
            for (uint64_t m = 0; m <= k; m++) {
                uint64_t x = rng_u64(i * 8 + k, m);

                at = x % (len - 1);
                if (x >> 40 & 1) {
                    text[at] = "{}%#()[]'\"|.:,-+ \n\\x0\xFF"[(x >> 32) % 23];
                } else {
                    memmove(text + at, text + at + 1, len - at - 1);
                    len = len > 2 ? len - 1 : len;
                }
            }
            if (jinja_open(&t, "t", text, len, NULL) == 0) {
                struct jinja_run *r = run_new(t, json_object_get(doc, "base"));

                jinja_render(r, &o, NULL);
                jinja_run_free(&r);
                jinja_free(&t);
            }
        }
        mem_free(text);
    }
    json_decref(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(templates_give_what_jinja_gave),
        cmocka_unit_test(templates_give_what_jinja_gives),
        cmocka_unit_test(what_is_not_known_is_refused_when_opened),
        cmocka_unit_test(raise_exception_speaks_for_itself),
        cmocka_unit_test(everything_has_a_limit),
        cmocka_unit_test(a_users_bytes_stay_marked_through_everything),
        cmocka_unit_test(quotes_of_a_users_string_are_marked_too),
        cmocka_unit_test(damaged_templates_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
