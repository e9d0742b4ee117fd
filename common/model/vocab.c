#include "model/vocab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "model/vocab_priv.h"

#define META_SPACE "\xE2\x96\x81" /* U+2581, SentencePiece's visible space */

/* Names by which the model families mark the end of a turn or of a text. */
static const char *const eog_names[] = {
    "</s>",          "<|im_end|>",        "<|eot_id|>", "<|eom_id|>", "<end_of_turn>",   "<|end|>",
    "<|endoftext|>", "<|end_of_text|>",   "<eos>",      "<EOT>",      "<|end_of_turn|>", "[EOS]",
    "<|return|>",    "<end_of_utterance>"};

void token_list_add(struct token_list *t, uint32_t id)
{
    if (t->n == t->cap) {
        t->cap = size_max(64, t->cap * 2);
        t->ids = mem_realloc(t->ids, t->cap * sizeof(*t->ids));
    }
    t->ids[t->n++] = id;
}

void token_list_fini(struct token_list *t)
{
    mem_free(t->ids);
    *t = (struct token_list){0};
}

size_t vocab_symbol(const char *s, size_t n, uint32_t *sym)
{
    size_t len;

    if (utf8_step(s, n, &len, sym) == UTF8_OK)
        return len;
    *sym = 0x110000 + (uint8_t)s[0];
    return 1;
}

static bool name_ends_generation(const char *s, size_t n)
{
    for (size_t i = 0; i < ARRAY_LEN(eog_names); i++)
        if (strlen(eog_names[i]) == n && memcmp(eog_names[i], s, n) == 0)
            return true;
    return false;
}

/* Some converters wrote turn markers as user-defined tokens. Those are found in any text, a user's
 * too, so a marker by its form is held to be what its name says. */
static uint8_t type_of(const struct vocab_entry *t)
{
    bool bars =
        t->n > 4 && memcmp(t->text, "<|", 2) == 0 && memcmp(t->text + t->n - 2, "|>", 2) == 0;

    if (t->type == TOKEN_USER_DEFINED && (bars || name_ends_generation(t->text, t->n)))
        return TOKEN_CONTROL;
    return (uint8_t)t->type;
}

static int check_id(const char *what, int32_t id, uint32_t n, struct err *e)
{
    if (id >= -1 && (id < 0 || (uint32_t)id < n))
        return 0;
    return err_set(e, ERR_FORMAT, "vocabulary: %s token %d is out of range, there are %u tokens",
                   what, id, n);
}

static int check_spec(const struct vocab_spec *s, struct err *e)
{
    int rc;

    if (s->n == 0 || s->n > VOCAB_TOKENS_MAX)
        return err_set(e, ERR_LIMIT, "vocabulary: %u tokens, must be 1 to %u", s->n,
                       VOCAB_TOKENS_MAX);
    if ((rc = check_id("bos", s->bos, s->n, e)) || (rc = check_id("eos", s->eos, s->n, e)) ||
        (rc = check_id("eot", s->eot, s->n, e)) || (rc = check_id("unknown", s->unk, s->n, e)))
        return rc;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct vocab_entry *t = &s->entries[i];

        if (t->n > VOCAB_TOKEN_BYTES_MAX)
            return err_set(e, ERR_LIMIT, "vocabulary: token %u has %zu bytes, the limit is %d", i,
                           t->n, VOCAB_TOKEN_BYTES_MAX);
        if (isnan(t->score))
            return err_set(e, ERR_FORMAT, "vocabulary: the score of token %u is not a number", i);
        if (t->type < TOKEN_NORMAL || t->type > TOKEN_BYTE)
            return err_set(e, ERR_FORMAT, "vocabulary: token %u has type %u, known are 1 to %d", i,
                           t->type, TOKEN_BYTE);
    }
    return 0;
}

static size_t copy_spaced(char *out, const char *s, size_t n)
{
    size_t k = 0;

    for (size_t i = 0; i < n;) {
        if (n - i >= 3 && memcmp(s + i, META_SPACE, 3) == 0) {
            out[k++] = ' ';
            i += 3;
        } else {
            out[k++] = s[i++];
        }
    }
    return k;
}

/* Texts, scores and types. */
static int fill_tokens(struct vocab *v, const struct vocab_spec *s, struct err *e)
{
    size_t bytes = 0, at = 0;

    for (uint32_t i = 0; i < s->n; i++)
        bytes += s->entries[i].n;
    if (bytes > UINT32_MAX)
        return err_set(e, ERR_LIMIT, "vocabulary: %zu bytes of token texts, the limit is %u", bytes,
                       UINT32_MAX);
    v->text = mem_alloc(bytes);
    v->start = mem_calloc((size_t)s->n + 1, sizeof(*v->start));
    v->score = mem_calloc(s->n, sizeof(*v->score));
    v->type = mem_calloc(s->n, 1);
    v->eog = mem_calloc(s->n, 1);
    v->n = s->n;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct vocab_entry *t = &s->entries[i];

        v->score[i] = t->score;
        v->type[i] = type_of(t);
        v->start[i] = (uint32_t)at;
        if (v->type[i] == TOKEN_CONTROL || v->type[i] == TOKEN_BYTE) {
            memcpy(v->text + at, t->text, t->n);
            at += t->n;
        } else {
            at += copy_spaced(v->text + at, t->text, t->n);
        }
        v->eog[i] = v->type[i] == TOKEN_CONTROL && name_ends_generation(t->text, t->n);
    }
    v->start[s->n] = (uint32_t)at;
    return 0;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Byte tokens are named <0x00> to <0xFF>. */
static int fill_bytes(struct vocab *v, struct err *e)
{
    uint32_t have = 0;

    memset(v->bytes, 0xFF, sizeof(v->bytes));
    for (uint32_t i = 0; i < v->n; i++) {
        size_t n;
        const char *s = vocab_text(v, i, &n);
        int hi, lo;

        if (v->type[i] != TOKEN_BYTE)
            continue;
        hi = n == 6 && memcmp(s, "<0x", 3) == 0 && s[5] == '>' ? hex_digit(s[3]) : -1;
        lo = hi < 0 ? -1 : hex_digit(s[4]);
        if (lo < 0)
            return err_set(e, ERR_FORMAT, "vocabulary: byte token %u is not named <0x00> to <0xFF>",
                           i);
        have += v->bytes[hi * 16 + lo] == VOCAB_NONE;
        v->bytes[hi * 16 + lo] = i;
    }
    if (have < 256 && v->unk < 0)
        return err_set(
            e, ERR_FORMAT,
            "vocabulary: %u of 256 byte tokens and no unknown token: some text has no ids", have);
    return 0;
}

static bool mergeable(const struct vocab *v, const struct vocab_spec *s, uint32_t id)
{
    const struct vocab_entry *t = &s->entries[id];

    /* A text with a real space never matches: text is looked up with U+2581 in its place. */
    return (v->type[id] == TOKEN_NORMAL || v->type[id] == TOKEN_UNUSED) && t->n > 0 &&
           !memchr(t->text, ' ', t->n);
}

static void add_pairs(struct vocab *v, const char *s, size_t n)
{
    uint32_t a, b;

    for (size_t i = vocab_symbol(s, n, &a); i < n; a = b) {
        size_t bit;

        i += vocab_symbol(s + i, n - i, &b);
        bit = vocab_pair_bit(v, a, b);
        v->pairs[bit / 64] |= UINT64_C(1) << bit % 64;
    }
}

/* The tables for merging. Of tokens with equal texts the last counts, as in the reference. */
static void fill_merges(struct vocab *v, const struct vocab_spec *s)
{
    size_t bits = 1 << 16;

    /* 8 bits for each character keep false positives near one in ten. */
    while (bits < (size_t)v->start[v->n] * 8 && bits < 1 << 24)
        bits *= 2;
    v->pair_mask = bits - 1;
    v->pairs = mem_calloc(bits / 64, sizeof(*v->pairs));
    v->slot_mask = 1;
    while (v->slot_mask < (size_t)v->n * 2)
        v->slot_mask *= 2;
    v->slots = mem_alloc(v->slot_mask * sizeof(*v->slots));
    memset(v->slots, 0xFF, v->slot_mask * sizeof(*v->slots));
    v->slot_mask--;
    for (uint32_t id = 0; id < v->n; id++) {
        size_t n, i;
        const char *text = vocab_text(v, id, &n);

        if (!mergeable(v, s, id))
            continue;
        add_pairs(v, text, n);
        v->token_bytes = u32_max(v->token_bytes, (uint32_t)n);
        for (i = hash64(text, n, 0) & v->slot_mask; v->slots[i] != VOCAB_NONE;
             i = (i + 1) & v->slot_mask) {
            size_t m;
            const char *other = vocab_text(v, v->slots[i], &m);

            if (m == n && memcmp(other, text, n) == 0)
                break;
        }
        v->slots[i] = id;
    }
}

uint32_t vocab_find(const struct vocab *v, const char *s, size_t n)
{
    if (n > v->token_bytes)
        return VOCAB_NONE;
    for (size_t i = hash64(s, n, 0) & v->slot_mask;; i = (i + 1) & v->slot_mask) {
        uint32_t id = v->slots[i];
        size_t m;
        const char *text;

        if (id == VOCAB_NONE)
            return id;
        text = vocab_text(v, id, &m);
        if (m == n && memcmp(text, s, n) == 0)
            return id;
    }
}

/* qsort has no context argument in C11, so what is sorted carries its text along. */
struct special_key {
    const char *s;
    size_t n;
    uint32_t id;
};

static int special_order(const void *pa, const void *pb)
{
    const struct special_key *a = pa, *b = pb;
    int c = memcmp(a->s, b->s, size_min(a->n, b->n));

    if (c || a->n != b->n)
        return c ? c : a->n < b->n ? -1 : 1;
    return a->id < b->id ? -1 : 1;
}

static void fill_special(struct vocab *v)
{
    struct special_key *keys = mem_calloc(v->n, sizeof(*keys));
    uint32_t n = 0, at = 0;

    for (uint32_t id = 0; id < v->n; id++) {
        struct special_key k = {.id = id};

        k.s = vocab_text(v, id, &k.n);
        if (k.n > 0 && (v->type[id] == TOKEN_CONTROL || v->type[id] == TOKEN_USER_DEFINED ||
                        v->type[id] == TOKEN_UNKNOWN))
            keys[n++] = k;
    }
    qsort(keys, n, sizeof(*keys), special_order);
    v->special = mem_calloc(n, sizeof(*v->special));
    v->n_special = n;
    for (uint32_t i = 0; i < n; i++)
        v->special[i] = keys[i].id;
    for (uint32_t b = 0; b < 256; b++) {
        while (at < n && (uint8_t)keys[at].s[0] < b)
            at++;
        v->special_at[b] = at;
    }
    v->special_at[256] = n;
    mem_free(keys);
}

int vocab_new(struct vocab **out, const struct vocab_spec *spec, struct err *e)
{
    struct vocab *v = NULL;
    int rc = check_spec(spec, e);

    *out = NULL;
    if (rc)
        return rc;
    v = mem_zalloc(sizeof(*v));
    v->bos = spec->bos;
    v->eos = spec->eos;
    v->unk = spec->unk;
    v->add_bos = spec->add_bos && spec->bos >= 0;
    v->add_eos = spec->add_eos && spec->eos >= 0;
    v->add_space_prefix = spec->add_space_prefix;
    if ((rc = fill_tokens(v, spec, e)) || (rc = fill_bytes(v, e)))
        goto fail;
    fill_merges(v, spec);
    fill_special(v);
    if (spec->eos >= 0)
        v->eog[spec->eos] = 1;
    if (spec->eot >= 0)
        v->eog[spec->eot] = 1;
    *out = v;
    return 0;
fail:
    vocab_free(&v);
    return rc;
}

void vocab_free(struct vocab **pv)
{
    struct vocab *v = *pv;

    if (!v)
        return;
    mem_free(v->text);
    mem_free(v->start);
    mem_free(v->score);
    mem_free(v->type);
    mem_free(v->eog);
    mem_free(v->slots);
    mem_free(v->pairs);
    mem_free(v->special);
    mem_free(v);
    *pv = NULL;
}

uint32_t vocab_size(const struct vocab *v) { return v->n; }
int32_t vocab_bos(const struct vocab *v) { return v->bos; }
int32_t vocab_eos(const struct vocab *v) { return v->eos; }
bool vocab_add_bos(const struct vocab *v) { return v->add_bos; }
bool vocab_add_space_prefix(const struct vocab *v) { return v->add_space_prefix; }

enum token_type vocab_type(const struct vocab *v, uint32_t id)
{
    ASSERT(id < v->n);
    return (enum token_type)v->type[id];
}

bool vocab_is_eog(const struct vocab *v, uint32_t id) { return id < v->n && v->eog[id]; }

uint32_t vocab_eog_list(const struct vocab *v, uint32_t out[VOCAB_EOG_MAX])
{
    uint32_t n = 0;

    for (uint32_t id = 0; id < v->n && n < VOCAB_EOG_MAX; id++)
        if (v->eog[id])
            out[n++] = id;
    return n;
}

void vocab_piece(const struct vocab *v, uint32_t id, struct str *out)
{
    size_t n;
    const char *s;

    ASSERT(id < v->n);
    s = vocab_text(v, id, &n);
    if (v->type[id] == TOKEN_BYTE)
        str_addc(out, (char)(hex_digit(s[3]) * 16 + hex_digit(s[4])));
    else
        str_add(out, s, n);
}
