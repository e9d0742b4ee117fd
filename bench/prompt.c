#include "bench/prompt.h"

#include <string.h>

#include "base/mem.h"

void prompt_add(struct prompt *p, const char *text, size_t n)
{
    p->texts = mem_realloc(p->texts, (p->n_texts + 1) * sizeof(*p->texts));
    p->texts[p->n_texts] = (struct str){0};
    str_add(&p->texts[p->n_texts++], text, n);
}

void prompt_join(const struct prompt *p, struct str *out)
{
    for (uint32_t i = 0; i < p->n_texts; i++) {
        if (i > 0)
            str_addc(out, '\n');
        str_add(out, str_text(&p->texts[i]), p->texts[i].len);
    }
}

void prompt_fini(struct prompt *p)
{
    for (uint32_t i = 0; i < p->n_texts; i++)
        str_fini(&p->texts[i]);
    mem_free(p->texts);
    mem_free(p->tokens);
    memset(p, 0, sizeof(*p));
}
