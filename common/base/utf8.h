/* utf8: decoding, with ill-formed input taken apart as the Unicode standard recommends (chapter 3,
 * "U+FFFD substitution of maximal subparts"). Pure; any thread. */
#ifndef TANDEM_BASE_UTF8_H
#define TANDEM_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

enum utf8_status {
    UTF8_OK,  /* a character */
    UTF8_BAD, /* a maximal subpart that no continuation can repair: one U+FFFD */
    UTF8_MORE /* the text ends inside a character that is well-formed so far */
};

/* Looks at the start of s[n], n > 0. *len (>= 1) is how many bytes the answer is about, *cp the
 * code point if it is UTF8_OK. */
enum utf8_status utf8_step(const char *s, size_t n, size_t *len, uint32_t *cp);

/* True if s[n] is well-formed throughout. */
bool utf8_valid(const char *s, size_t n);

/* Writes the code point (<= 0x10FFFF, no surrogate) to out; returns its bytes, 1 to 4. */
size_t utf8_put(char out[4], uint32_t cp);

#endif
