#include "base/utf8.h"

#include "base/check.h"

/* Table 3-7 of the standard: the length by first byte, and the narrowed range of the second byte
 * that keeps out overlong forms, surrogates and values past U+10FFFF. Length 0: never a first byte.
 */
static unsigned lead(uint8_t b, uint8_t *lo, uint8_t *hi)
{
    *lo = b == 0xE0 ? 0xA0 : b == 0xF0 ? 0x90 : 0x80;
    *hi = b == 0xED ? 0x9F : b == 0xF4 ? 0x8F : 0xBF;
    if (b < 0x80)
        return 1;
    if (b < 0xC2)
        return 0;
    return b < 0xE0 ? 2 : b < 0xF0 ? 3 : b < 0xF5 ? 4 : 0;
}

enum utf8_status utf8_step(const char *s, size_t n, size_t *len, uint32_t *cp)
{
    uint8_t b = (uint8_t)s[0], lo, hi;
    unsigned want = lead(b, &lo, &hi);

    *len = 1;
    *cp = b;
    if (want == 1)
        return UTF8_OK;
    if (want == 0)
        return UTF8_BAD;
    *cp = b & (0xFFu >> (want + 1));
    for (unsigned i = 1; i < want; i++) {
        if (i == n)
            return UTF8_MORE;
        b = (uint8_t)s[i];
        if (b < lo || b > hi)
            return UTF8_BAD;
        *cp = *cp << 6 | (b & 0x3F);
        *len = i + 1;
        lo = 0x80;
        hi = 0xBF;
    }
    return UTF8_OK;
}

bool utf8_valid(const char *s, size_t n)
{
    size_t len;
    uint32_t cp;

    for (size_t i = 0; i < n; i += len)
        if (utf8_step(s + i, n - i, &len, &cp) != UTF8_OK)
            return false;
    return true;
}

size_t utf8_put(char out[4], uint32_t cp)
{
    size_t n = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;

    ASSERT(cp <= 0x10FFFF);
    if (n == 1) {
        out[0] = (char)cp;
        return 1;
    }
    for (size_t i = n - 1; i > 0; i--, cp >>= 6)
        out[i] = (char)(0x80 | (cp & 0x3F));
    out[0] = (char)((0xF00u >> n & 0xFF) | cp);
    return n;
}
