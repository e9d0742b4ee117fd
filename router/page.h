/* page: the router's web page, one file with all in it (router/page/index.html), compiled in. What it
 * shows it asks for at /v1/cluster and /tandem/history. */
#ifndef TANDEM_ROUTER_PAGE_H
#define TANDEM_ROUTER_PAGE_H

#include <stdint.h>

#include "base/str.h"

/* Appends the page; its script and style bear this nonce. */
void page_render(struct str *out, const uint64_t nonce[2]);

/* Appends the header lines that go with it: nothing from elsewhere, no script but that of the nonce,
 * nobody frames it. */
void page_fields(struct str *out, const uint64_t nonce[2]);

#endif
