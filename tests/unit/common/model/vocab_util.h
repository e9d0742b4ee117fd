/* vocab_util: small vocabularies for tests. Each test program is one file, so these are static. */
#ifndef TANDEM_TESTS_VOCAB_UTIL_H
#define TANDEM_TESTS_VOCAB_UTIL_H

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/vocab.h"

struct toy {
    struct vocab_entry *entries;
    uint32_t n;
};

static inline uint32_t toy_add(struct toy *t, const char *text, float score, enum token_type type)
{
    t->entries = mem_realloc(t->entries, (t->n + 1) * sizeof(*t->entries));
    t->entries[t->n] = (struct vocab_entry){mem_strdup(text), strlen(text), score, type};
    return t->n++;
}

/* <unk>, <s>, </s>, then the 256 byte tokens: ids 0 to 258. */
static inline struct toy toy_new(void)
{
    struct toy t = {0};
    char name[8];

    toy_add(&t, "<unk>", 0, TOKEN_UNKNOWN);
    toy_add(&t, "<s>", 0, TOKEN_CONTROL);
    toy_add(&t, "</s>", 0, TOKEN_CONTROL);
    for (unsigned b = 0; b < 256; b++) {
        snprintf(name, sizeof(name), "<0x%02X>", b);
        toy_add(&t, name, 0, TOKEN_BYTE);
    }
    return t;
}

static inline struct vocab_spec toy_spec(const struct toy *t)
{
    return (struct vocab_spec){.entries = t->entries,
                               .n = t->n,
                               .bos = 1,
                               .eos = 2,
                               .eot = -1,
                               .unk = 0,
                               .add_bos = true,
                               .add_space_prefix = true};
}

static inline void toy_fini(struct toy *t)
{
    for (uint32_t i = 0; i < t->n; i++)
        mem_free((char *)t->entries[i].text);
    mem_free(t->entries);
    *t = (struct toy){0};
}

/* A vocabulary from the toy, which is freed. */
static inline struct vocab *toy_vocab(struct toy *t)
{
    struct vocab_spec spec = toy_spec(t);
    struct vocab *v;

    ASSERT(vocab_new(&v, &spec, NULL) == 0);
    toy_fini(t);
    return v;
}

#endif
