/* vocab_gguf: a vocabulary from the tokenizer.ggml.* keys of a file. */
#include <string.h>

#include "base/mem.h"
#include "model/gguf.h"
#include "model/vocab.h"

#define KEY(name) "tokenizer.ggml." name

/* An optional value: absent leaves *out alone. */
static int optional(int rc) { return rc == ERR_NOT_FOUND ? 0 : rc; }

static int read_model(const struct gguf *g, struct err *e)
{
    const char *s;
    size_t n;
    int rc = gguf_str(g, KEY("model"), &s, &n, e);

    if (rc)
        return rc;
    if (n == 5 && memcmp(s, "llama", 5) == 0)
        return 0;
    return err_set(e, ERR_UNSUPPORTED,
                   "tokenizer model \"%.*s\" is not supported, only \"llama\" is",
                   (int)(n < 64 ? n : 64), s);
}

/* The array under key with one value a token. */
static int read_array(const struct gguf *g, struct gguf_array *a, const char *key, uint32_t type,
                      uint64_t n, struct err *e)
{
    int rc = gguf_array(g, key, a, e);

    if (rc)
        return rc;
    if (a->type != type)
        return err_set(e, ERR_FORMAT, "%s: an array of %s, must be of %s", key,
                       gguf_type_name(a->type), gguf_type_name(type));
    if (a->n != n)
        return err_set(e, ERR_FORMAT, "%s: %llu values for %llu tokens", key,
                       (unsigned long long)a->n, (unsigned long long)n);
    return 0;
}

static uint32_t type_by_name(const char *s, size_t n)
{
    return n == 6 && memcmp(s, "<0x", 3) == 0 && s[5] == '>' ? TOKEN_BYTE : TOKEN_NORMAL;
}

static int read_entries(const struct gguf *g, struct vocab_spec *spec, struct vocab_entry **out,
                        struct err *e)
{
    struct gguf_array texts, scores, types;
    struct vocab_entry *t;
    bool typed;
    int rc = gguf_array(g, KEY("tokens"), &texts, e);

    if (rc)
        return rc;
    if (texts.type != GGUF_STR || texts.n == 0 || texts.n > VOCAB_TOKENS_MAX)
        return err_set(e, ERR_FORMAT, KEY("tokens") ": %llu values of %s, must be 1 to %u strings",
                       (unsigned long long)texts.n, gguf_type_name(texts.type), VOCAB_TOKENS_MAX);
    if ((rc = read_array(g, &scores, KEY("scores"), GGUF_F32, texts.n, e)))
        return rc;
    rc = read_array(g, &types, KEY("token_type"), GGUF_I32, texts.n, e);
    typed = rc == 0;
    if (optional(rc))
        return rc;
    *out = t = mem_calloc(texts.n, sizeof(*t));
    for (uint32_t i = 0; i < texts.n; i++) {
        gguf_array_str(&texts, i, &t[i].text, &t[i].n);
        t[i].score = gguf_array_f32(&scores, i);
        t[i].type = typed ? gguf_array_u32(&types, i) : type_by_name(t[i].text, t[i].n);
    }
    spec->entries = t;
    spec->n = (uint32_t)texts.n;
    return 0;
}

/* A special id; absent: SentencePiece's own, where the token there is of that type. */
static int read_id(const struct gguf *g, const struct vocab_spec *spec, const char *key,
                   int32_t *out, int32_t usual, uint32_t type, struct err *e)
{
    uint32_t id;
    int rc = gguf_u32(g, key, &id, e);

    *out = -1;
    if (rc == ERR_NOT_FOUND) {
        if (usual >= 0 && (uint32_t)usual < spec->n && spec->entries[usual].type == type)
            *out = usual;
        return 0;
    }
    if (rc)
        return rc;
    if (id >= spec->n)
        return err_set(e, ERR_FORMAT, "%s: %u is out of range, there are %u tokens", key, id,
                       spec->n);
    *out = (int32_t)id;
    return 0;
}

/* Where the file has no types, the special ids are what can be told. */
static void mark_special(const struct gguf *g, const struct vocab_spec *s, struct vocab_entry *t)
{
    if (!t || gguf_kv(g, KEY("token_type")))
        return;
    if (s->bos >= 0)
        t[s->bos].type = TOKEN_CONTROL;
    if (s->eos >= 0)
        t[s->eos].type = TOKEN_CONTROL;
    if (s->eot >= 0)
        t[s->eot].type = TOKEN_CONTROL;
    if (s->unk >= 0)
        t[s->unk].type = TOKEN_UNKNOWN;
}

int vocab_load(struct vocab **out, const struct gguf *g, struct err *e)
{
    struct vocab_spec s = {.add_bos = true, .add_space_prefix = true};
    struct vocab_entry *t = NULL;
    int rc;

    *out = NULL;
    if ((rc = read_model(g, e)) || (rc = read_entries(g, &s, &t, e)) ||
        (rc = read_id(g, &s, KEY("bos_token_id"), &s.bos, 1, TOKEN_CONTROL, e)) ||
        (rc = read_id(g, &s, KEY("eos_token_id"), &s.eos, 2, TOKEN_CONTROL, e)) ||
        (rc = read_id(g, &s, KEY("eot_token_id"), &s.eot, -1, TOKEN_CONTROL, e)) ||
        (rc = read_id(g, &s, KEY("unknown_token_id"), &s.unk, 0, TOKEN_UNKNOWN, e)) ||
        (rc = optional(gguf_bool(g, KEY("add_bos_token"), &s.add_bos, e))) ||
        (rc = optional(gguf_bool(g, KEY("add_eos_token"), &s.add_eos, e))) ||
        (rc = optional(gguf_bool(g, KEY("add_space_prefix"), &s.add_space_prefix, e))))
        goto done;
    mark_special(g, &s, t);
    rc = vocab_new(out, &s, e);
done:
    mem_free(t);
    return rc;
}
