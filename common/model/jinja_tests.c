/* jinja_tests: `x is name`. */
#include <math.h>
#include <string.h>

#include "model/jinja_priv.h"

#define TEST(name)                                                            \
    static struct jinja_value name(struct jinja_run *r, struct jinja_value v, \
                                   const struct jinja_value *a)
#define UNUSED ((void)r, (void)a)

TEST(is_defined)
{
    UNUSED;
    return jinja_bool(v.kind != JINJA_UNDEFINED);
}
TEST(is_undefined)
{
    UNUSED;
    return jinja_bool(v.kind == JINJA_UNDEFINED);
}
TEST(is_none)
{
    UNUSED;
    return jinja_bool(v.kind == JINJA_NONE);
}
TEST(is_string)
{
    UNUSED;
    return jinja_bool(v.kind == JINJA_STRING);
}
TEST(is_mapping)
{
    UNUSED;
    return jinja_bool(v.kind == JINJA_DICT);
}
/* Python's Undefined has a length and items, so it counts, here and below. */
TEST(is_sequence)
{
    UNUSED;
    return jinja_bool(v.kind == JINJA_STRING || v.kind == JINJA_LIST || v.kind == JINJA_TUPLE ||
                      v.kind == JINJA_DICT || v.kind == JINJA_UNDEFINED);
}
TEST(is_iterable)
{
    UNUSED;
    return jinja_bool(is_sequence(r, v, a).u.b || v.kind == JINJA_LOOP);
}
TEST(is_boolean)
{
    UNUSED;
    return jinja_bool(v.kind == JINJA_BOOL);
}
TEST(is_true)
{
    UNUSED;
    return jinja_bool(v.kind == JINJA_BOOL && v.u.b);
}
TEST(is_false)
{
    UNUSED;
    return jinja_bool(v.kind == JINJA_BOOL && !v.u.b);
}
TEST(is_number)
{
    UNUSED;
    return jinja_bool(jinja_is_number(v));
}
TEST(is_integer)
{
    UNUSED;
    return jinja_bool(v.kind == JINJA_INT);
}
TEST(is_float)
{
    UNUSED;
    return jinja_bool(v.kind == JINJA_FLOAT);
}
TEST(is_callable)
{
    UNUSED;
    return jinja_bool(v.kind == JINJA_MACRO || v.kind == JINJA_FUNCTION || v.kind == JINJA_METHOD);
}

/* v % by == 0 */
static bool divides(struct jinja_run *r, struct jinja_value v, int64_t by)
{
    if (!jinja_is_number(v))
        jinja_error(r, "%s is not divided", jinja_kind_name(v));
    if (by == 0)
        jinja_error(r, "division by zero");
    if (v.kind == JINJA_INT)
        return by == -1 || v.u.i % by == 0;
    return fmod(jinja_number(v), (double)by) == 0;
}
TEST(is_odd)
{
    UNUSED;
    return jinja_bool(v.kind == JINJA_FLOAT ? fabs(fmod(v.u.f, 2)) == 1 : !divides(r, v, 2));
}
TEST(is_even)
{
    UNUSED;
    return jinja_bool(divides(r, v, 2));
}
TEST(is_divisible)
{
    if (a[0].kind != JINJA_INT)
        jinja_error(r, "divisibleby takes an integer");
    return jinja_bool(divides(r, v, a[0].u.i));
}
TEST(is_in) { return jinja_bool(jinja_contains(r, v, a[0])); }
TEST(is_equal) { return jinja_bool(jinja_equal(r, v, a[0])); }
TEST(is_unequal) { return jinja_bool(!jinja_equal(r, v, a[0])); }
TEST(is_less) { return jinja_bool(jinja_order(r, v, a[0]) < 0); }
TEST(is_at_most) { return jinja_bool(jinja_order(r, v, a[0]) <= 0); }
TEST(is_greater) { return jinja_bool(jinja_order(r, v, a[0]) > 0); }
TEST(is_at_least) { return jinja_bool(jinja_order(r, v, a[0]) >= 0); }

static const struct jinja_builtin tests[] = {
    {"defined", "", 0, is_defined},
    {"undefined", "", 0, is_undefined},
    {"none", "", 0, is_none},
    {"string", "", 0, is_string},
    {"mapping", "", 0, is_mapping},
    {"sequence", "", 0, is_sequence},
    {"iterable", "", 0, is_iterable},
    {"boolean", "", 0, is_boolean},
    {"true", "", 0, is_true},
    {"false", "", 0, is_false},
    {"number", "", 0, is_number},
    {"integer", "", 0, is_integer},
    {"float", "", 0, is_float},
    {"callable", "", 0, is_callable},
    {"odd", "", 0, is_odd},
    {"even", "", 0, is_even},
    {"divisibleby", "num", 1, is_divisible},
    {"in", "seq", 1, is_in},
    {"equalto", "b", 1, is_equal},
    {"eq", "b", 1, is_equal},
    {"ne", "b", 1, is_unequal},
    {"lt", "b", 1, is_less},
    {"lessthan", "b", 1, is_less},
    {"le", "b", 1, is_at_most},
    {"gt", "b", 1, is_greater},
    {"greaterthan", "b", 1, is_greater},
    {"ge", "b", 1, is_at_least},
};

const struct jinja_builtin *jinja_test(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(tests); i++)
        if (strcmp(tests[i].name, name) == 0)
            return &tests[i];
    return NULL;
}
