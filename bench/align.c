#include "bench/align.h"

#include <stdbool.h>

/* How many tokens a and b have in common from the start, at most n. */
static size_t common(const uint32_t *a, const uint32_t *b, size_t n)
{
    size_t i = 0;

    while (i < n && a[i] == b[i])
        i++;
    return i;
}

static size_t min(size_t a, size_t b) { return a < b ? a : b; }

/* Whether got goes on as want does from `at` on, to the end of either, for at least a token. */
static bool goes_on(const uint32_t *want, size_t n_want, size_t at, const uint32_t *got,
                    size_t n_got)
{
    size_t n = min(n_want - at, n_got);

    return n > 0 && common(want + at, got, n) == n;
}

void align_add(struct alignment *a, const uint32_t *want, size_t n_want, const uint32_t *got,
               size_t n_got)
{
    size_t same = common(want, got, min(n_want, n_got));
    size_t n = n_got - same, left = n_want - same;

    if (n == 0) { /* it ended early, or it is the same */
        a->lost += left;
        return;
    }
    for (size_t d = 1; d <= same; d++) {
        if (goes_on(want, n_want, same - d, got + same, n)) {
            size_t fresh = min(n > d ? n - d : 0, left);

            a->repeated += n - fresh;
            a->lost += left - fresh;
            return;
        }
    }
    for (size_t d = 1; d < left; d++) {
        if (goes_on(want, n_want, same + d, got + same, n)) {
            size_t fresh = min(n, left - d);

            a->repeated += n - fresh;
            a->lost += left - fresh;
            return;
        }
    }
    a->changed += min(n, left);
    a->repeated += n > left ? n - left : 0;
    a->lost += left > n ? left - n : 0;
}
