#include "bench/synth.h"

#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/rng.h"
#include "model/gguf.h"

#define SYNTH_KEY 0x70726f6d70747321u /* "prompts!": draws unlike those of arrivals */

/* SentencePiece vocabularies begin with 3 control and 256 byte tokens. */
#define ID_FIRST 259u

static uint64_t draw(const struct synth *s, uint64_t stream, uint64_t j)
{
    return rng_u64(s->seed ^ SYNTH_KEY, stream << 24 | j);
}

/* True if the piece is a space and letters, and as text is this one token again: such words put one
 * after the other are, in all but odd vocabularies, one token each. */
static bool is_word(const struct vocab *v, uint32_t id, const struct str *piece)
{
    struct token_list ids = {0};
    size_t skip = vocab_add_space_prefix(v) ? 1 : 0;
    bool word = vocab_type(v, id) == TOKEN_NORMAL && piece->len >= 2 && piece->data[0] == ' ';

    for (size_t i = 1; word && i < piece->len; i++)
        word = (piece->data[i] >= 'a' && piece->data[i] <= 'z') ||
               (piece->data[i] >= 'A' && piece->data[i] <= 'Z');
    word = word &&
           vocab_tokenize(v, &ids, piece->data + skip, piece->len - skip, false, false, NULL) ==
               ERR_OK &&
           ids.n == 1 && ids.ids[0] == id;
    token_list_fini(&ids);
    return word;
}

static void words_list(struct synth *s)
{
    struct str piece = {0};

    for (uint32_t id = 0; id < vocab_size(s->vocab); id++) {
        str_clear(&piece);
        vocab_piece(s->vocab, id, &piece);
        if (is_word(s->vocab, id, &piece))
            token_list_add(&s->words, id);
    }
    str_fini(&piece);
}

int synth_open(struct synth *s, const char *gguf, uint32_t n_ids, uint64_t seed, struct err *e)
{
    struct gguf *g = NULL;
    int rc = ERR_OK;

    *s = (struct synth){.n_ids = n_ids, .seed = seed};
    if (*gguf) {
        rc = gguf_open(&g, gguf, e);
        if (rc == ERR_OK)
            rc = vocab_load(&s->vocab, g, e);
        if (rc == ERR_OK)
            words_list(s);
        gguf_close(&g);
    }
    return rc;
}

void synth_close(struct synth *s)
{
    vocab_free(&s->vocab);
    token_list_fini(&s->words);
    memset(s, 0, sizeof(*s));
}

uint32_t synth_count(const struct synth *s, const char *text, size_t n)
{
    struct token_list ids = {0};
    uint32_t count = 0;

    if (s->vocab && vocab_tokenize(s->vocab, &ids, text, n, true, false, NULL) == ERR_OK)
        count = (uint32_t)ids.n;
    token_list_fini(&ids);
    return count;
}

static void prompt_ids(struct prompt *out, const struct synth *s, const struct synth_part *parts,
                       uint32_t n_parts, uint32_t total)
{
    uint32_t first = u32_min(ID_FIRST, s->n_ids / 2), at = 0;

    out->tokens = mem_calloc(total, sizeof(*out->tokens));
    for (uint32_t i = 0; i < n_parts; i++)
        for (uint32_t j = 0; j < parts[i].tokens; j++)
            out->tokens[at++] =
                first + (uint32_t)(draw(s, parts[i].stream, j) % (s->n_ids - first));
}

static void words_add(struct str *text, const struct synth *s, uint64_t stream, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        vocab_piece(s->vocab, s->words.ids[draw(s, stream, (uint64_t)j) % s->words.n], text);
}

/* BOS and EOS come on top of words: found by counting, as is a pair that joins into one token. */
static int prompt_text(struct str *text, const struct synth *s, const struct synth_part *parts,
                       uint32_t n_parts, uint32_t total, struct err *e)
{
    enum { TRIES = 8 };
    int64_t last = (int64_t)parts[n_parts - 1].tokens - (vocab_add_bos(s->vocab) ? 1 : 0);

    for (int try = 0; try < TRIES; try++) {
        uint32_t n;

        str_clear(text);
        for (uint32_t i = 0; i + 1 < n_parts; i++)
            words_add(text, s, parts[i].stream, parts[i].tokens);
        words_add(text, s, parts[n_parts - 1].stream, last);
        if (vocab_add_space_prefix(s->vocab) && text->len > 0)
            str_drop(text, 1);
        n = synth_count(s, str_text(text), text->len);
        if (n == total)
            return ERR_OK;
        last += (int64_t)total - n;
        if (last < 0)
            break;
    }
    return err_set(e, ERR_UNSUPPORTED, "no text of exactly %u tokens found; use --vocab-size",
                   total);
}

int synth_prompt(struct prompt *out, const struct synth *s, const struct synth_part *parts,
                 uint32_t n_parts, struct err *e)
{
    enum { WORDS_MIN = 16 };
    struct str text = {0};
    uint32_t total = 0;
    int rc = ERR_OK;

    for (uint32_t i = 0; i < n_parts; i++)
        total += parts[i].tokens;
    if (!s->vocab) {
        prompt_ids(out, s, parts, n_parts, total);
    } else if (s->words.n < WORDS_MIN) {
        return err_set(
            e, ERR_UNSUPPORTED,
            "the vocabulary has %zu whole words, too few for random text; use --vocab-size",
            s->words.n);
    } else {
        rc = prompt_text(&text, s, parts, n_parts, total, e);
        if (rc == ERR_OK)
            prompt_add(out, str_text(&text), text.len);
        str_fini(&text);
    }
    out->n_tokens = rc == ERR_OK ? total : 0;
    return rc;
}
