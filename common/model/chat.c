#include "model/chat.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/gguf.h"
#include "model/jinja_value.h"

#define KEY_TEMPLATE "tokenizer.chat_template"

struct chat {
    const struct vocab *vocab;
    struct jinja *template;
    char *name;
    struct str bos, eos; /* their names, "" if there is none */
};

/* The turn formats of model families, in our own words; for files that bring no template. */
static const struct {
    const char *name, *text;
} families[] = {
    {"chatml", "{% for m in messages %}"
               "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
               "{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"},
    {"gemma", "{{ bos_token }}{% set ns = namespace(system='') %}"
              "{% for m in messages %}"
              "{% if m.role == 'system' %}{% set ns.system = m.content | trim + '\\n\\n' %}"
              "{% else %}"
              "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + "
              "ns.system + m.content | trim + '<end_of_turn>\\n' }}{% set ns.system = '' %}"
              "{% endif %}{% endfor %}"
              "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"},
    {"llama2", "{% set ns = namespace(system='') %}"
               "{% for m in messages %}"
               "{% if m.role == 'system' %}"
               "{% set ns.system = '<<SYS>>\\n' + m.content | trim + '\\n<</SYS>>\\n\\n' %}"
               "{% elif m.role == 'assistant' %}{{ ' ' + m.content | trim + ' ' + eos_token }}"
               "{% else %}{{ bos_token + '[INST] ' + ns.system + m.content | trim + ' [/INST]' }}"
               "{% set ns.system = '' %}"
               "{% endif %}{% endfor %}"},
    {"llama3", "{{ bos_token }}{% for m in messages %}"
               "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + "
               "'<|eot_id|>' }}{% endfor %}"
               "{% if add_generation_prompt %}"
               "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"},
    {"phi3", "{% for m in messages %}"
             "{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}"
             "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"},
    /* An answer stands where it was generated, right behind what it answers: its KV is used again. */
    {"plain", "{% for m in messages %}"
              "{{ '\\n\\n' if not loop.first and m.role != 'assistant' }}{{ m.content }}{% endfor %}"},
    {"zephyr", "{% for m in messages %}"
               "{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"},
};

const char *const *chat_families(void)
{
    static const char *const names[] = {"chatml", "gemma", "llama2", "llama3",
                                        "phi3",   "plain", "zephyr", NULL};

    return names;
}

const char *chat_family_text(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        if (strcmp(families[i].name, name) == 0)
            return families[i].text;
    return NULL;
}

/* The text of a file, one byte past the limit at most: jinja_open says if it is too long. */
static int read_template(struct str *out, const char *path, struct err *e)
{
    char buf[4096];
    FILE *f = fopen(path, "rb");
    size_t n;

    if (!f)
        return err_set(e, ERR_IO,
                       "chat template \"%s\" is neither \"auto\", a family (chatml, gemma, llama2, "
                       "llama3, phi3, plain, zephyr) nor a file that can be read: %s",
                       path, strerror(errno));
    while (out->len <= JINJA_TEMPLATE_BYTES_MAX && (n = fread(buf, 1, sizeof(buf), f)) > 0)
        str_add(out, buf, n);
    n = (size_t)ferror(f);
    fclose(f);
    return n ? err_set(e, ERR_IO, "chat template \"%s\" cannot be read", path) : 0;
}

/* Where the template comes from: its name for errors and chat_name, and its text. */
static int find_template(struct str *text, const char **name, const struct gguf *g,
                         const char *choice, struct err *e)
{
    bool automatic = strcmp(choice, "auto") == 0;
    const char *s = chat_family_text(choice);
    size_t n;

    *name = choice;
    if (automatic && g && gguf_kv(g, KEY_TEMPLATE)) {
        int rc = gguf_str(g, KEY_TEMPLATE, &s, &n, e);

        *name = "model";
        if (!rc)
            str_add(text, s, n);
        return rc;
    }
    if (automatic) {
        *name = "plain";
        s = chat_family_text("plain");
    }
    if (!s)
        return read_template(text, choice, e);
    str_adds(text, s);
    return 0;
}

int chat_open(struct chat **out, const struct vocab *v, const struct gguf *g, const char *choice,
              struct err *e)
{
    struct chat *c = mem_zalloc(sizeof(*c));
    struct str text = {0};
    const char *name;
    char title[280];
    int rc = find_template(&text, &name, g, choice, e);

    *out = NULL;
    c->vocab = v;
    c->name = mem_strdup(name);
    if (vocab_bos(v) >= 0)
        vocab_piece(v, (uint32_t)vocab_bos(v), &c->bos);
    if (vocab_eos(v) >= 0)
        vocab_piece(v, (uint32_t)vocab_eos(v), &c->eos);
    snprintf(title, sizeof(title), "chat template %s", name);
    if (!rc)
        rc = jinja_open(&c->template, title, str_text(&text), text.len, e);
    str_fini(&text);
    if (rc)
        chat_free(&c);
    *out = c;
    return rc;
}

void chat_free(struct chat **pc)
{
    struct chat *c = *pc;

    if (!c)
        return;
    jinja_free(&c->template);
    mem_free(c->name);
    str_fini(&c->bos);
    str_fini(&c->eos);
    mem_free(c);
    *pc = NULL;
}

const char *chat_name(const struct chat *c) { return c->name; }

static void put(struct jinja_run *r, struct jinja_value dict, const char *key, struct jinja_value v)
{
    jinja_dict_add(r, dict.u.dict, jinja_text(r, key, strlen(key), false), v);
}

/* Templates build markers of roles, '<|' + role + '|>'. That is safe for words that stand for a
 * turn; another role could name any control token, and is a user's text. */
static bool role_known(const char *role)
{
    static const char *const known[] = {"system", "user",      "assistant", "tool",
                                        "model",  "developer", "function"};

    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(role, known[i]) == 0)
            return true;
    return false;
}

/* Runs the template; *r, which out points into, is the caller's to free. */
static int render(const struct chat *c, struct jinja_run **pr, struct jinja_output *out,
                  const struct chat_message *messages, size_t n, bool add_generation_prompt,
                  struct err *e)
{
    struct jinja_run *r = *pr = jinja_run_new(c->template, (int64_t)time(NULL));
    struct jinja_value list = jinja_list(r, JINJA_LIST);
    size_t bytes = 0;

    for (size_t i = 0; i < n; i++)
        bytes += messages[i].content_bytes;
    if (bytes > JINJA_OUTPUT_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "messages of %zu bytes, the limit is %zu", bytes,
                       JINJA_OUTPUT_BYTES_MAX);
    for (size_t i = 0; i < n; i++) {
        const struct chat_message *m = &messages[i];
        struct jinja_value d = jinja_dict(r, JINJA_DICT);

        put(r, d, "role", jinja_text(r, m->role, strlen(m->role), !role_known(m->role)));
        put(r, d, "content", jinja_text(r, m->content, m->content_bytes, true));
        jinja_list_add(r, list.u.list, d);
    }
    jinja_set(r, "messages", list);
    jinja_set(r, "add_generation_prompt", jinja_bool(add_generation_prompt));
    jinja_set(r, "bos_token", jinja_text(r, str_text(&c->bos), c->bos.len, false));
    jinja_set(r, "eos_token", jinja_text(r, str_text(&c->eos), c->eos.len, false));
    jinja_set(r, "tools", jinja_none()); /* as transformers has them where none are given */
    jinja_set(r, "documents", jinja_none());
    return jinja_render(r, out, e);
}

int chat_tokenize(const struct chat *c, struct token_list *out, const struct chat_message *messages,
                  size_t n, bool add_generation_prompt, struct err *e)
{
    struct jinja_run *r;
    struct jinja_output text = {0};
    int rc = render(c, &r, &text, messages, n, add_generation_prompt, e);

    if (!rc) {
        size_t own = text.n_user ? text.user[0].begin : text.n; /* bytes before a user's */
        bool has_bos =
            c->bos.len && own >= c->bos.len && memcmp(text.text, c->bos.data, c->bos.len) == 0;

        rc = vocab_tokenize_mixed(c->vocab, out, text.text, text.n, text.user, text.n_user,
                                  !has_bos, e);
    }
    jinja_run_free(&r);
    return rc;
}

int chat_render(const struct chat *c, struct str *out, const struct chat_message *messages,
                size_t n, bool add_generation_prompt, struct err *e)
{
    struct jinja_run *r;
    struct jinja_output text = {0};
    int rc = render(c, &r, &text, messages, n, add_generation_prompt, e);

    if (!rc)
        str_add(out, text.text, text.n);
    jinja_run_free(&r);
    return rc;
}
