#include "router/api_json.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

int api_refuse(struct api_error *e, const char *param, const char *fmt, ...)
{
    va_list ap;

    *e = (struct api_error){.status = 400, .type = "invalid_request_error"};
    if (param)
        snprintf(e->param, sizeof(e->param), "%s", param);
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof(e->text), fmt, ap);
    va_end(ap);
    return ERR_ARG;
}

int api_json_refuse(struct api_error *e, const char *name, const json_t *value, const char *what)
{
    char shown[64];
    size_t n;

    if (json_is_object(value) || json_is_array(value))
        return api_refuse(e, name, "%s is an %s, but must be %s", name,
                          json_is_object(value) ? "object" : "array", what);
    /* cut at a character; JSON_ENSURE_ASCII makes that any byte */
    n = json_dumpb(value, shown, sizeof(shown), JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    if (n >= sizeof(shown))
        snprintf(shown, sizeof(shown), "a string of %zu bytes", json_string_length(value));
    else
        shown[n] = '\0';
    return api_refuse(e, name, "%s is %s, but must be %s", name, shown, what);
}

/* Nesting and number of values of any text, without parsing it: only strings are understood. */
static int api_json_bounds(const char *s, size_t n, struct api_error *e)
{
    size_t depth = 0, values = 0;
    bool quoted = false;

    for (size_t i = 0; i < n; i++) {
        if (quoted) {
            if (s[i] == '\\')
                i++;
            else if (s[i] == '"')
                quoted = false;
            continue;
        }
        quoted = s[i] == '"';
        values += s[i] == ',' || s[i] == '[' || s[i] == '{';
        depth += s[i] == '[' || s[i] == '{';
        depth -= (s[i] == ']' || s[i] == '}') && depth;
        if (depth > API_DEPTH_MAX)
            return api_refuse(e, NULL, "the body's JSON is nested deeper than %d", API_DEPTH_MAX);
        if (values > API_VALUES_MAX)
            return api_refuse(e, NULL, "the body's JSON has more than %u values", API_VALUES_MAX);
    }
    return 0;
}

json_t *api_json_load(const char *body, size_t n, struct api_error *e)
{
    json_error_t where;
    json_t *root;

    if (api_json_bounds(body, n, e) != 0)
        return NULL;
    root = json_loadb(body, n, JSON_REJECT_DUPLICATES, &where);
    if (!root && json_error_code(&where) == json_error_numeric_overflow) {
        api_refuse(e, NULL, "a number is too large (line %d, column %d): integers, seed too, go "
                   "from -2^63 to 2^63 - 1, which is %lld", where.line, where.column,
                   (long long)INT64_MAX);
    } else if (!root) {
        api_refuse(e, NULL, "the body is not valid JSON: line %d, column %d: %s", where.line,
                   where.column, where.text);
    } else if (!json_is_object(root)) {
        json_decref(root);
        root = NULL;
        api_refuse(e, NULL, "the body must be a JSON object");
    }
    return root;
}

int api_json_int(int64_t *out, const char *name, const json_t *v, int64_t min, int64_t max,
                 struct api_error *e)
{
    char what[80];

    snprintf(what, sizeof(what), "an integer from %lld to %lld", (long long)min, (long long)max);
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
        return api_json_refuse(e, name, v, what);
    *out = json_integer_value(v);
    return 0;
}

int api_json_number(double *out, const char *name, const json_t *v, double min, double max,
                    struct api_error *e)
{
    char what[80];
    double x = json_number_value(v);

    snprintf(what, sizeof(what), "a number from %g to %g", min, max);
    if (!json_is_number(v) || !isfinite(x) || x < min || x > max)
        return api_json_refuse(e, name, v, what);
    *out = x;
    return 0;
}

int api_json_bool(bool *out, const char *name, const json_t *v, struct api_error *e)
{
    if (!json_is_boolean(v))
        return api_json_refuse(e, name, v, "true or false");
    *out = json_is_true(v);
    return 0;
}

int api_json_text(char **out, size_t *bytes, const char *name, const json_t *v, struct api_error *e)
{
    if (!json_is_string(v))
        return api_json_refuse(e, name, v, "a string");
    if (json_string_length(v) > MSG_PROMPT_MAX)
        return api_refuse(e, name, "%s has %zu bytes, and at most %u are taken", name,
                          json_string_length(v), MSG_PROMPT_MAX);
    mem_free(*out);
    *bytes = json_string_length(v);
    *out = mem_strndup(json_string_value(v), *bytes);
    return 0;
}

int api_json_ids(uint32_t **out, uint32_t *n, const char *name, const json_t *v, bool may_be_empty,
                 struct api_error *e)
{
    size_t count = json_array_size(v);
    int64_t id = 0;
    int rc = 0;

    if (!json_is_array(v) || (!count && !may_be_empty) || count > MSG_TOKENS_MAX)
        return api_refuse(e, name, "%s must be an array of %d to %u token ids", name, !may_be_empty,
                          MSG_TOKENS_MAX);
    mem_free(*out);
    *out = mem_calloc(count, sizeof(**out));
    *n = 0;
    for (size_t i = 0; i < count && !rc; i++) {
        rc = api_json_int(&id, name, json_array_get(v, i), 0, UINT32_MAX, e);
        if (!rc)
            (*out)[(*n)++] = (uint32_t)id;
    }
    return rc;
}
