#include "model/chat.h"

#include <string.h>

#include "base/mem.h"

struct chat {
    const struct vocab *vocab;
    const char *name;
};

static const char *const families[] = {"plain", NULL};

int chat_open(struct chat **out, const struct vocab *v, const struct gguf *g, const char *choice,
              struct err *e)
{
    struct chat *c;

    (void)g;
    *out = NULL;
    if (strcmp(choice, "auto") != 0 && strcmp(choice, "plain") != 0)
        return err_set(e, ERR_UNSUPPORTED, "chat template \"%s\" is not known", choice);
    c = mem_zalloc(sizeof(*c));
    c->vocab = v;
    c->name = families[0];
    *out = c;
    return 0;
}

void chat_free(struct chat **c)
{
    mem_free(*c);
    *c = NULL;
}

const char *chat_name(const struct chat *c) { return c->name; }

const char *const *chat_families(void) { return families; }

int chat_render(const struct chat *c, struct str *out, const struct chat_message *messages,
                size_t n, bool add_generation_prompt, struct err *e)
{
    (void)c;
    (void)e;
    for (size_t i = 0; i < n; i++) {
        str_adds(out, i ? "\n\n" : "");
        str_add(out, messages[i].content, messages[i].content_bytes);
    }
    if (add_generation_prompt && n)
        str_adds(out, "\n\n");
    return 0;
}

int chat_tokenize(const struct chat *c, struct token_list *out, const struct chat_message *messages,
                  size_t n, bool add_generation_prompt, struct err *e)
{
    struct str text = {0};
    int rc = chat_render(c, &text, messages, n, add_generation_prompt, e);

    if (!rc)
        rc = vocab_tokenize(c->vocab, out, str_text(&text), text.len, true, false, e);
    str_fini(&text);
    return rc;
}
