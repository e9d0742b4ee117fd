#include "router/page.h"

#include <inttypes.h>
#include <string.h>

#define PAGE_NONCE "@NONCE@"

/* The file as it is, ended by a NUL. The Makefile knows that this object depends on it. */
__asm__(".section .rodata\n"
        "page_text:\n"
        ".incbin \"router/page/index.html\"\n"
        ".byte 0\n"
        ".previous\n");
extern const char page_text[];

void page_render(struct str *out, const uint64_t nonce[2])
{
    const char *rest = page_text, *at;

    for (; (at = strstr(rest, PAGE_NONCE)); rest = at + strlen(PAGE_NONCE)) {
        str_add(out, rest, (size_t)(at - rest));
        str_addf(out, "%016" PRIx64 "%016" PRIx64, nonce[0], nonce[1]);
    }
    str_adds(out, rest);
}

void page_fields(struct str *out, const uint64_t nonce[2])
{
    str_addf(out,
             "Content-Security-Policy: default-src 'none'; script-src 'nonce-%016" PRIx64 "%016" PRIx64
             "'; style-src 'nonce-%016" PRIx64 "%016" PRIx64
             "'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
             "frame-ancestors 'none'\r\n",
             nonce[0], nonce[1], nonce[0], nonce[1]);
    str_adds(out, "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
                  "Cache-Control: no-store\r\n");
}
