#include "router/model.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/options.h"
#include "model/gguf.h"

_Static_assert(VOCAB_EOG_MAX == MSG_STOP_TOKENS_MAX, "every end token can be told to a node");

int model_open(struct model *m, const char *path, const char *chat_template, struct err *e)
{
    struct gguf *g = NULL;
    struct stat st;
    int rc;

    *m = (struct model){0};
    options_model_name(m->name, sizeof(m->name), path);
    m->created = stat(path, &st) == 0 ? (int64_t)st.st_mtime : 0;
    if ((rc = gguf_open(&g, path, e)))
        return rc;
    if ((rc = hparams_load(&m->hparams, g, e)) == 0) {
        m->hash = gguf_hash(g);
        if ((rc = vocab_load(&m->vocab, g, e)))
            err_wrap(e, "%s", gguf_name(g));
    }
    if (!rc) {
        m->n_stop_tokens = vocab_eog_list(m->vocab, m->stop_tokens);
        rc = chat_open(&m->chat, m->vocab, g, chat_template, e);
    }
    gguf_close(&g);
    if (rc)
        model_close(m);
    return rc;
}

void model_close(struct model *m)
{
    chat_free(&m->chat);
    vocab_free(&m->vocab);
}

bool model_is(const struct model *m, const char *name)
{
    size_t n = strlen(m->name);

    return !strncmp(name, m->name, n) && (!name[n] || !strcmp(name + n, ".gguf"));
}
