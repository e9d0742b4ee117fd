#include "router/stops.h"

#include <string.h>

#include "base/check.h"

void stops_init(struct stops *s, const char strings[][MSG_STOP_BYTES_MAX], uint32_t n)
{
    ASSERT(n <= MSG_STOPS_MAX);
    *s = (struct stops){.n = n};
    memcpy(s->strings, strings, n * sizeof(s->strings[0]));
}

void stops_fini(struct stops *s) { str_fini(&s->held); }

/* Bytes of the longest stop string that held[0 .. end) ends with; 0 if none. */
static size_t stops_ending(const struct stops *s, size_t end)
{
    size_t longest = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        size_t n = strlen(s->strings[i]);

        if (n <= end && n > longest && !memcmp(s->held.data + end - n, s->strings[i], n))
            longest = n;
    }
    return longest;
}

/* Bytes at the end of held that may yet become a stop string. */
static size_t stops_partial(const struct stops *s)
{
    size_t longest = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        size_t n = size_min(strlen(s->strings[i]) - 1, s->held.len);

        while (n > longest && memcmp(s->held.data + s->held.len - n, s->strings[i], n) != 0)
            n--;
        longest = size_max(longest, n);
    }
    return longest;
}

bool stops_feed(struct stops *s, const char *text, size_t n, struct str *out)
{
    size_t keep;

    if (s->hit)
        return true;
    if (!s->n) {
        str_add(out, text, n);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        size_t found;

        str_addc(&s->held, text[i]);
        found = stops_ending(s, s->held.len);
        if (found) {
            str_add(out, s->held.data, s->held.len - found);
            str_clear(&s->held);
            s->hit = true;
            return true;
        }
    }
    keep = stops_partial(s);
    str_add(out, str_text(&s->held), s->held.len - keep);
    str_drop(&s->held, s->held.len - keep);
    return false;
}

void stops_finish(struct stops *s, struct str *out)
{
    str_add(out, str_text(&s->held), s->held.len);
    str_clear(&s->held);
}
