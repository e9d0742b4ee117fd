/* spm: SentencePiece's way from text to tokens.
 *
 * DESIGN. Start from single characters; again and again join the two neighbours whose joint text is
 * the token with the highest score, leftmost first among equals; what is no token in the end is
 * spelled in byte tokens. Three things keep that n log n, and mostly far below:
 *
 *   text      Once upon      control and user-defined tokens are cut out first
 *   chunks    | Once| upon|  cut where no token holds these two characters side by side: no merge
 *                            can cross, so each chunk is merged alone, with a small heap
 *   symbols   next[] prev[]  a list in two arrays by byte offset; a dead symbol has next 0
 *   heap      {score, left, len}: stale if `left` and its neighbour no longer span len bytes
 *
 * A merge adds at most two candidates and there are fewer merges than characters, so a text of n
 * characters never has more than 3n candidates. */
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "model/vocab_priv.h"

struct candidate {
    float score;
    uint32_t left, len; /* first byte, and bytes of both symbols together */
};

struct spm {
    const struct vocab *v;
    struct token_list *out;
    struct spm_work *work;
    struct str text; /* the stretch being worked on, spaces as spaces */
    uint32_t *next, *prev;
    size_t cap; /* entries of next and prev */
    struct candidate *heap;
    size_t n_heap, heap_cap;
};

static bool before(const struct candidate *a, const struct candidate *b)
{
    return a->score > b->score || (a->score == b->score && a->left < b->left);
}

static void heap_up(struct candidate *h, size_t i)
{
    struct candidate c = h[i];

    for (; i > 0 && before(&c, &h[(i - 1) / 2]); i = (i - 1) / 2)
        h[i] = h[(i - 1) / 2];
    h[i] = c;
}

static void heap_down(struct candidate *h, size_t n, size_t i)
{
    struct candidate c = h[i];

    for (size_t k; (k = 2 * i + 1) < n; i = k) {
        if (k + 1 < n && before(&h[k + 1], &h[k]))
            k++;
        if (!before(&h[k], &c))
            break;
        h[i] = h[k];
    }
    h[i] = c;
}

static struct candidate heap_pop(struct spm *m)
{
    struct candidate top = m->heap[0];

    m->heap[0] = m->heap[--m->n_heap];
    if (m->n_heap)
        heap_down(m->heap, m->n_heap, 0);
    m->work->pops++;
    return top;
}

/* Adds the pair of symbols at left and right to the end of the array, if it is a token. */
static bool propose(struct spm *m, const char *s, uint32_t left, uint32_t right)
{
    uint32_t len = m->next[right] - left, id = vocab_find(m->v, s + left, len);

    m->work->lookups++;
    if (id == VOCAB_NONE)
        return false;
    if (m->n_heap == m->heap_cap) {
        m->heap_cap = size_max(256, m->heap_cap + m->heap_cap / 2);
        m->heap = mem_realloc(m->heap, m->heap_cap * sizeof(*m->heap));
    }
    m->heap[m->n_heap++] = (struct candidate){m->v->score[id], left, len};
    return true;
}

static void propose_later(struct spm *m, const char *s, uint32_t left, uint32_t right)
{
    if (propose(m, s, left, right))
        heap_up(m->heap, m->n_heap - 1);
}

static void emit_byte(struct spm *m, uint8_t b)
{
    uint32_t id = m->v->bytes[b];

    token_list_add(m->out, id == VOCAB_NONE ? (uint32_t)m->v->unk : id);
}

/* One symbol that is finished. */
static void emit(struct spm *m, const char *s, size_t n)
{
    uint32_t id = vocab_find(m->v, s, n);

    m->work->lookups++;
    if (id != VOCAB_NONE) {
        token_list_add(m->out, id);
    } else if (n == 1 && *s == ' ') { /* the file's own spelling of it */
        emit_byte(m, 0xE2);
        emit_byte(m, 0x96);
        emit_byte(m, 0x81);
    } else if (m->v->bytes[(uint8_t)s[0]] == VOCAB_NONE) { /* one unknown for a character */
        token_list_add(m->out, (uint32_t)m->v->unk);
    } else {
        for (size_t i = 0; i < n; i++)
            emit_byte(m, (uint8_t)s[i]);
    }
}

static void reserve(struct spm *m, size_t n)
{
    if (n <= m->cap)
        return;
    m->cap = size_max(n, m->cap * 2);
    mem_free(m->next);
    mem_free(m->prev);
    m->next = mem_alloc(m->cap * sizeof(*m->next));
    m->prev = mem_alloc(m->cap * sizeof(*m->prev));
}

/* Joins the symbols at left and right, and proposes the new one with its neighbours. */
static void join(struct spm *m, const char *s, uint32_t n, uint32_t left, uint32_t right)
{
    uint32_t after = m->next[right];

    m->next[left] = after;
    m->next[right] = 0;
    if (after < n) {
        m->prev[after] = left;
        propose_later(m, s, left, after);
    }
    if (left > 0)
        propose_later(m, s, m->prev[left], left);
}

/* Tokens of one chunk of n > 0 bytes. */
static void chunk(struct spm *m, const char *s, uint32_t n)
{
    uint32_t sym;

    m->work->chunks++;
    reserve(m, n);
    m->n_heap = 0;
    for (uint32_t i = 0, last = 0; i < n; last = i, i = m->next[i]) {
        m->next[i] = i + (uint32_t)vocab_symbol(s + i, n - i, &sym);
        m->prev[i] = last;
        if (i > 0)
            propose(m, s, last, i);
    }
    for (size_t i = m->n_heap / 2; i-- > 0;)
        heap_down(m->heap, m->n_heap, i);
    while (m->n_heap) {
        struct candidate c = heap_pop(m);
        uint32_t right = m->next[c.left];

        if (right != 0 && right < n && m->next[right] == c.left + c.len)
            join(m, s, n, c.left, right);
    }
    for (uint32_t i = 0; i < n; i = m->next[i])
        emit(m, s + i, m->next[i] - i);
}

/* Tokens of text[n], n > 0, which has no special token in it, and nothing or one before it. */
static void stretch(struct spm *m, const char *text, size_t n)
{
    const char *s;
    size_t len, begin = 0;
    uint32_t a, b;

    str_clear(&m->text);
    if (m->v->add_space_prefix)
        str_addc(&m->text, ' ');
    for (size_t i = 0, k; i < n; i = k) { /* U+2581 in a text is a space to SentencePiece */
        const char *p = memmem(text + i, n - i, "\xE2\x96\x81", 3);

        k = p ? (size_t)(p - text) : n;
        str_add(&m->text, text + i, k - i);
        if (p) {
            str_addc(&m->text, ' ');
            k += 3;
        }
    }
    s = str_text(&m->text);
    len = m->text.len;
    for (size_t i = vocab_symbol(s, len, &a); i < len; a = b) {
        size_t at = i, bit;

        i += vocab_symbol(s + i, len - i, &b);
        bit = vocab_pair_bit(m->v, a, b);
        if (m->v->pairs[bit / 64] >> bit % 64 & 1)
            continue;
        chunk(m, s + begin, (uint32_t)(at - begin));
        begin = at;
    }
    chunk(m, s + begin, (uint32_t)(len - begin));
}

/* First of the special tokens lo to hi whose byte at `depth` is not below c. All are longer than
 * depth and agree before it. */
static uint32_t special_bound(const struct vocab *v, uint32_t lo, uint32_t hi, size_t depth,
                              unsigned c)
{
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        size_t n;
        const char *text = vocab_text(v, v->special[mid], &n);

        if ((uint8_t)text[depth] < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The longest special token that s[n] starts with, control tokens only up to n_control bytes, or
 * VOCAB_NONE. Walks the sorted list as if it were a trie. */
static uint32_t special_match(const struct vocab *v, const char *s, size_t n, size_t n_control,
                              size_t *len)
{
    uint32_t lo = v->special_at[(uint8_t)s[0]], hi = v->special_at[(uint8_t)s[0] + 1];
    uint32_t found = VOCAB_NONE;

    for (size_t depth = 1;; depth++) {
        for (; lo < hi; lo++) {
            uint32_t id = v->special[lo];

            if (v->start[id + 1] - v->start[id] != depth)
                break;
            if (v->type[id] == TOKEN_USER_DEFINED || depth <= n_control) {
                found = id;
                *len = depth;
            }
        }
        if (lo == hi || depth == n)
            return found;
        lo = special_bound(v, lo, hi, depth, (uint8_t)s[depth]);
        hi = special_bound(v, lo, hi, depth, (uint8_t)s[depth] + 1u);
    }
}

/* Cuts the special tokens out and tokenizes what lies between. */
static void split(struct spm *m, const char *text, size_t n, const struct text_range *literal,
                  size_t n_literal, bool parse_special)
{
    size_t begin = 0, r = 0;

    for (size_t i = 0, len; i <= n; i += len) {
        size_t clear = parse_special ? n - i : 0;
        uint32_t id = VOCAB_NONE;

        while (r < n_literal && literal[r].end <= i)
            r++;
        if (parse_special && r < n_literal)
            clear = literal[r].begin > i ? literal[r].begin - i : 0;
        len = 1;
        if (i < n && (id = special_match(m->v, text + i, n - i, clear, &len)) == VOCAB_NONE)
            continue;
        if (i > begin)
            stretch(m, text + begin, i - begin);
        if (id == VOCAB_NONE)
            return;
        token_list_add(m->out, id);
        begin = i + len;
    }
}

int spm_tokenize(const struct vocab *v, struct token_list *out, const char *text, size_t n,
                 const struct text_range *literal, size_t n_literal, bool add_special,
                 bool parse_special, struct spm_work *work, struct err *e)
{
    struct spm_work unused = {0};
    struct spm m = {.v = v, .out = out, .work = work ? work : &unused};

    if (n > VOCAB_TEXT_BYTES_MAX)
        return err_set(e, ERR_LIMIT, "text of %zu bytes to tokenize, the limit is %u", n,
                       VOCAB_TEXT_BYTES_MAX);
    for (size_t i = 0; i < n_literal; i++)
        ASSERT(literal[i].begin <= literal[i].end && literal[i].end <= n &&
               (i == 0 || literal[i - 1].end <= literal[i].begin));
    if (add_special && v->add_bos)
        token_list_add(out, (uint32_t)v->bos);
    split(&m, text, n, literal, n_literal, parse_special);
    if (add_special && v->add_eos)
        token_list_add(out, (uint32_t)v->eos);
    str_fini(&m.text);
    mem_free(m.next);
    mem_free(m.prev);
    mem_free(m.heap);
    return 0;
}

int vocab_tokenize(const struct vocab *v, struct token_list *out, const char *text, size_t n,
                   bool add_special, bool parse_special, struct err *e)
{
    return spm_tokenize(v, out, text, n, NULL, 0, add_special, parse_special, NULL, e);
}

int vocab_tokenize_mixed(const struct vocab *v, struct token_list *out, const char *text, size_t n,
                         const struct text_range *literal, size_t n_literal, bool add_special,
                         struct err *e)
{
    return spm_tokenize(v, out, text, n, literal, n_literal, add_special, true, NULL, e);
}
