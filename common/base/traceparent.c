#include "base/traceparent.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/hash.h"

/* Digits of s[n], lower case only, as the standard wants them. */
static bool span_hex(uint64_t *out, const char *s, size_t n)
{
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];

        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f'))
            return false;
        *out = *out << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return true;
}

bool traceparent_parse(struct traceparent *t, const char *s, size_t n)
{
    const size_t length = TRACEPARENT_MAX - 1; /* 2-32-16-2 digits and three dashes */
    uint64_t version, flags;

    *t = (struct traceparent){0};
    if (n >= length && span_hex(&version, s, 2) && version != 0xff && s[2] == '-' &&
        span_hex(&t->id[0], s + 3, 16) && span_hex(&t->id[1], s + 19, 16) && s[35] == '-' &&
        span_hex(&t->span, s + 36, 16) && s[52] == '-' && span_hex(&flags, s + 53, 2) &&
        (n == length || (version && s[length] == '-')) && traceparent_is(t) && t->span) {
        t->flags = (uint32_t)flags;
        return true;
    }
    *t = (struct traceparent){0};
    return false;
}

void traceparent_text(char out[TRACEPARENT_MAX], const struct traceparent *t)
{
    snprintf(out, TRACEPARENT_MAX, "00-%016" PRIx64 "%016" PRIx64 "-%016" PRIx64 "-%02x", t->id[0],
             t->id[1], t->span, t->flags);
}

struct traceparent traceparent_child(const struct traceparent *parent, uint64_t salt)
{
    const uint64_t from[] = {parent->id[0], parent->id[1], parent->span};
    struct traceparent t = *parent;

    if (traceparent_is(parent)) {
        t.span = hash64(from, sizeof(from), salt);
        t.span += t.span == 0;
    }
    return t;
}
