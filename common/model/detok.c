#include "model/detok.h"

#include <string.h>

#include "base/check.h"
#include "base/utf8.h"

void detok_init(struct detok *d, const struct vocab *v, unsigned flags)
{
    *d = (struct detok){.vocab = v, .flags = flags};
}

/* Appends the characters of s[n]; returns how many bytes at its end wait for more. */
static size_t add_text(const char *s, size_t n, struct str *out)
{
    size_t done = 0, len; /* s[0..done) is out; s[done..i) is good and not out yet */
    uint32_t cp;

    for (size_t i = 0; i < n; i += len) {
        enum utf8_status st = utf8_step(s + i, n - i, &len, &cp);

        if (st == UTF8_OK)
            continue;
        str_add(out, s + done, i - done);
        if (st == UTF8_MORE)
            return n - i;
        str_adds(out, UTF8_REPLACEMENT);
        done = i + len;
    }
    str_add(out, s + done, n - done);
    return 0;
}

void detok_add_bytes(struct detok *d, const char *bytes, size_t n, struct str *out)
{
    /* Until the held bytes are dealt with, byte for byte: their end may lie in these. */
    while (n && d->n_held) {
        size_t keep;

        d->held[d->n_held++] = *bytes++;
        n--;
        keep = add_text(d->held, d->n_held, out);
        memmove(d->held, d->held + d->n_held - keep, keep);
        d->n_held = (uint8_t)keep;
    }
    if (n) {
        size_t keep = add_text(bytes, n, out);

        ASSERT(keep < sizeof(d->held));
        memcpy(d->held, bytes + n - keep, keep);
        d->n_held = (uint8_t)keep;
    }
}

void detok_add(struct detok *d, uint32_t id, struct str *out)
{
    struct str piece = {0};
    enum token_type type;
    size_t skip = 0;

    if (id >= vocab_size(d->vocab))
        return;
    type = vocab_type(d->vocab, id);
    if (type == TOKEN_CONTROL || type == TOKEN_UNKNOWN) {
        if (!(d->flags & DETOK_SPECIAL))
            return;
        vocab_piece(d->vocab, id, &piece);
    } else {
        vocab_piece(d->vocab, id, &piece);
        if ((d->flags & DETOK_WHOLE) && !d->started && vocab_add_space_prefix(d->vocab))
            skip = piece.len && piece.data[0] == ' ';
        d->started = true;
    }
    detok_add_bytes(d, str_text(&piece) + skip, piece.len - skip, out);
    str_fini(&piece);
}

void detok_finish(struct detok *d, struct str *out)
{
    if (d->n_held)
        str_adds(out, UTF8_REPLACEMENT);
    d->n_held = 0;
    d->started = false;
}
