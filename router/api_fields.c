#include "router/api_fields.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

int api_prompt(struct api_request *r, const char *name, const json_t *v, struct api_error *e)
{
    const json_t *first = json_array_get(v, 0);

    /* an array of prompts is a batch; one is a prompt */
    if (json_is_string(first) || json_is_array(first)) {
        if (json_array_size(v) > 1)
            return api_refuse(e, name, "prompt holds %zu prompts, and a request takes one",
                              json_array_size(v));
        v = first;
    }
    if (json_is_string(v))
        return api_json_text(&r->prompt, &r->prompt_bytes, name, v, e);
    if (!json_is_array(v))
        return api_json_refuse(e, name, v, "a string or an array of token ids");
    return api_json_ids(&r->tokens, &r->n_tokens, name, v, false, e);
}

static int api_content_part(struct str *text, const char *name, const json_t *part,
                            struct api_error *e)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    const json_t *piece = json_object_get(part, "text");
    const char *key;
    json_t *v;

    if (!type)
        return api_refuse(e, name, "%s: a part must be an object with a type", name);
    if (strcmp(type, "text") != 0)
        return api_refuse(e, name, "%s: parts of type \"%.64s\" are not supported, only \"text\"",
                          name, type);
    if (!json_is_string(piece))
        return api_refuse(e, name, "%s: a part of type \"text\" must have a string text", name);
    json_object_foreach((json_t *)part, key, v) {
        if (strcmp(key, "type") != 0 && strcmp(key, "text") != 0 && !json_is_null(v))
            return api_refuse(e, name, "%s: a part has an unknown field \"%.64s\"", name, key);
    }
    if (text->data)
        str_addc(text, '\n');
    str_add(text, json_string_value(piece), json_string_length(piece));
    return 0;
}

static int api_content(struct api_message *m, const char *name, const json_t *v,
                       struct api_error *e)
{
    struct str text = {0};
    int rc = 0;

    if (!json_is_array(v)) {
        if (!json_is_string(v))
            return api_json_refuse(e, name, v, "a string or an array of parts");
        return api_json_text(&m->content, &m->content_bytes, name, v, e);
    }
    for (size_t i = 0; i < json_array_size(v) && !rc; i++)
        rc = api_content_part(&text, name, json_array_get(v, i), e);
    if (!rc) {
        m->content_bytes = text.len;
        m->content = mem_strndup(str_text(&text), text.len);
    }
    str_fini(&text);
    return rc;
}

static int api_role(struct api_message *m, const char *name, const json_t *v, struct api_error *e)
{
    static const char *const roles[] = {"system", "developer", "user", "assistant"};
    const char *role = json_string_value(v);

    for (size_t i = 0; role && i < ARRAY_LEN(roles); i++) {
        if (!strcmp(role, roles[i])) {
            /* "developer" is what OpenAI calls the system role of its newer models */
            m->role = mem_strdup(i == 1 ? "system" : role);
            return 0;
        }
    }
    return api_json_refuse(e, name, v, "system, developer, user or assistant");
}

/* Off, as a client has it that sends back an answer of ours: null, or empty. */
static bool api_is_nothing(const json_t *v)
{
    return json_is_null(v) || (json_is_array(v) && !json_array_size(v)) ||
           (json_is_string(v) && !json_string_length(v));
}

static int api_message(struct api_message *m, size_t index, const json_t *v, struct api_error *e)
{
    char name[64];
    const char *key;
    json_t *value;
    int rc = 0;

    snprintf(name, sizeof(name), "messages[%zu]", index);
    if (!json_is_object(v))
        return api_json_refuse(e, name, v, "an object");
    json_object_foreach((json_t *)v, key, value) {
        snprintf(name, sizeof(name), "messages[%zu].%.32s", index, key);
        if (!strcmp(key, "role"))
            rc = api_role(m, name, value, e);
        else if (!strcmp(key, "content"))
            rc = api_content(m, name, value, e);
        else if (!api_is_nothing(value))
            rc = api_refuse(e, name, "%s is not supported", name);
        if (rc)
            return rc;
    }
    if (!m->role || !m->content) {
        snprintf(name, sizeof(name), "messages[%zu].%s", index, m->role ? "content" : "role");
        return api_refuse(e, name, "%s is missing", name);
    }
    return 0;
}

int api_messages(struct api_request *r, const char *name, const json_t *v, struct api_error *e)
{
    size_t n = json_array_size(v), bytes = 0;
    int rc = 0;

    if (!json_is_array(v) || !n || n > API_MESSAGES_MAX)
        return api_refuse(e, name, "messages must be an array of 1 to %d messages",
                          API_MESSAGES_MAX);
    r->messages = mem_calloc(n, sizeof(*r->messages));
    r->n_messages = n;
    for (size_t i = 0; i < n && !rc; i++) {
        rc = api_message(&r->messages[i], i, json_array_get(v, i), e);
        bytes += r->messages[i].content_bytes;
    }
    if (!rc && bytes > MSG_PROMPT_MAX)
        return api_refuse(e, name, "the messages have %zu bytes, and at most %u are taken", bytes,
                          MSG_PROMPT_MAX);
    return rc;
}
