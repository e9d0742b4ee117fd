#include "bench/workload.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/rng.h"
#include "model/gguf.h"
#include "model/vocab.h"

#define WORKLOAD_KEY 0x70726f6d70747321u /* "prompts!": draws unlike those of arrivals */

/* SentencePiece vocabularies begin with 3 control and 256 byte tokens. */
#define ID_FIRST 259u

static struct prompt *prompt_add(struct workload *w)
{
    if (w->n == w->cap) {
        w->cap = w->cap ? 2 * w->cap : 64;
        w->prompts = mem_realloc(w->prompts, w->cap * sizeof(*w->prompts));
    }
    memset(&w->prompts[w->n], 0, sizeof(*w->prompts));
    return &w->prompts[w->n++];
}

static int line_json(struct prompt *p, const char *line, size_t n, struct err *e)
{
    json_error_t why;
    json_t *root = json_loadb(line, n, 0, &why);
    json_t *text = json_object_get(root, "prompt");

    if (!root)
        return err_set(e, ERR_FORMAT, "column %d: %s", why.column, why.text);
    if (!json_is_string(text)) {
        json_decref(root);
        return err_set(e, ERR_FORMAT, "not an object with a string \"prompt\"");
    }
    p->text_bytes = json_string_length(text);
    p->text = mem_strndup(json_string_value(text), p->text_bytes);
    json_decref(root);
    return ERR_OK;
}

static int line_add(struct workload *w, const char *line, size_t n, bool jsonl, struct err *e)
{
    struct prompt p = {0};

    if (n == 0)
        return ERR_OK;
    if (n > WORKLOAD_LINE_MAX)
        return err_set(e, ERR_LIMIT, "a line of %zu bytes, at most %zu", n, WORKLOAD_LINE_MAX);
    if (jsonl) {
        int rc = line_json(&p, line, n, e);

        if (rc != ERR_OK)
            return rc;
    } else {
        p.text = mem_strndup(line, n);
        p.text_bytes = n;
    }
    *prompt_add(w) = p;
    return ERR_OK;
}

static int workload_file(struct workload *w, const char *path, struct err *e)
{
    size_t dot = strlen(path), cap = 0;
    bool jsonl = dot >= 6 && strcmp(path + dot - 6, ".jsonl") == 0;
    FILE *f = fopen(path, "r");
    char *line = NULL;
    int rc = ERR_OK, number = 0;
    ssize_t n;

    if (!f)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    while (rc == ERR_OK && (n = getline(&line, &cap, f)) >= 0) {
        number++;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            n--;
        rc = line_add(w, line, (size_t)n, jsonl, e);
        if (rc != ERR_OK)
            err_wrap(e, "%s:%d", path, number);
    }
    if (rc == ERR_OK && ferror(f))
        rc = err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    if (rc == ERR_OK && w->n == 0)
        rc = err_set(e, ERR_FORMAT, "%s: holds no prompt", path);
    free(line); /* getline's */
    fclose(f);
    return rc;
}

/* Draw j of prompt i. */
static uint64_t draw(uint64_t seed, uint64_t i, uint64_t j)
{
    return rng_u64(seed ^ WORKLOAD_KEY, i << 24 | j);
}

static void synthetic_ids(struct workload *w, uint32_t count, const struct bench_options *o)
{
    uint32_t first = u32_min(ID_FIRST, o->vocab / 2);

    for (uint32_t i = 0; i < count; i++) {
        struct prompt *p = prompt_add(w);

        p->n_tokens = o->prompt_tokens;
        p->tokens = mem_calloc(p->n_tokens, sizeof(*p->tokens));
        for (uint32_t j = 0; j < p->n_tokens; j++)
            p->tokens[j] = first + (uint32_t)(draw(o->seed, i, j) % (o->vocab - first));
    }
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

static void words_list(struct token_list *words, const struct vocab *v)
{
    struct str piece = {0};

    for (uint32_t id = 0; id < vocab_size(v); id++) {
        str_clear(&piece);
        vocab_piece(v, id, &piece);
        if (is_word(v, id, &piece))
            token_list_add(words, id);
    }
    str_fini(&piece);
}

/* Text of n_words random words; returns how many tokens it is. */
static size_t synthetic_draw(struct str *text, const struct vocab *v, const struct token_list *words,
                             uint64_t n_words, uint64_t seed, uint64_t i)
{
    struct token_list ids = {0};
    size_t n;

    str_clear(text);
    for (uint64_t j = 0; j < n_words; j++)
        vocab_piece(v, words->ids[draw(seed, i, j) % words->n], text);
    if (vocab_add_space_prefix(v) && text->len > 0)
        str_drop(text, 1);
    if (vocab_tokenize(v, &ids, str_text(text), text->len, true, false, NULL) != ERR_OK)
        ids.n = 0;
    n = ids.n;
    token_list_fini(&ids);
    return n;
}

static int synthetic_text(struct workload *w, uint32_t count, const struct bench_options *o,
                          const struct vocab *v, struct err *e)
{
    enum { TRIES = 8, WORDS_MIN = 16 };
    struct token_list words = {0};
    struct str text = {0};
    uint64_t n_words = o->prompt_tokens;
    size_t n = 0;
    int rc = ERR_OK;

    words_list(&words, v);
    if (words.n < WORDS_MIN) {
        rc = err_set(e, ERR_UNSUPPORTED,
                     "%s: the vocabulary has %zu whole words, too few for synthetic text; use --vocab",
                     o->model, words.n);
        goto out;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct prompt *p;

        /* BOS and EOS come on top: found by counting, as is a pair that joins into one token */
        for (int try = 0; try < TRIES; try++) {
            n = synthetic_draw(&text, v, &words, n_words, o->seed, i);
            if (n == o->prompt_tokens)
                break;
            n_words = n_words + o->prompt_tokens > n ? n_words + o->prompt_tokens - n : 1;
        }
        if (n != o->prompt_tokens) {
            rc = err_set(e, ERR_UNSUPPORTED, "%s: no text of exactly %u tokens found; use --vocab",
                         o->model, o->prompt_tokens);
            goto out;
        }
        p = prompt_add(w);
        p->n_tokens = o->prompt_tokens;
        p->text_bytes = text.len;
        p->text = str_steal(&text);
    }
out:
    token_list_fini(&words);
    str_fini(&text);
    return rc;
}

static int synthetic(struct workload *w, const struct bench_options *o, struct err *e)
{
    uint64_t wanted = (uint64_t)bench_requests(o) + o->warmup;
    uint32_t count = wanted < WORKLOAD_SYNTHETIC_MAX ? (uint32_t)wanted : WORKLOAD_SYNTHETIC_MAX;
    struct gguf *g = NULL;
    struct vocab *v = NULL;
    int rc;

    if (!*o->model) {
        synthetic_ids(w, count, o);
        return ERR_OK;
    }
    rc = gguf_open(&g, o->model, e);
    if (rc == ERR_OK)
        rc = vocab_load(&v, g, e);
    if (rc == ERR_OK)
        rc = synthetic_text(w, count, o, v, e);
    vocab_free(&v);
    gguf_close(&g);
    return rc;
}

int workload_open(struct workload *w, const struct bench_options *o, struct err *e)
{
    int rc;

    memset(w, 0, sizeof(*w));
    rc = *o->prompts ? workload_file(w, o->prompts, e) : synthetic(w, o, e);
    if (rc != ERR_OK)
        workload_fini(w);
    return rc;
}

void workload_fini(struct workload *w)
{
    for (uint32_t i = 0; i < w->n; i++) {
        mem_free(w->prompts[i].text);
        mem_free(w->prompts[i].tokens);
    }
    mem_free(w->prompts);
    memset(w, 0, sizeof(*w));
}

const struct prompt *workload_prompt(const struct workload *w, uint64_t i)
{
    return &w->prompts[i % w->n];
}
