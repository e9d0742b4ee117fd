/* ranges: a set of small numbers as text, "0,2-5", as Linux writes lists of processors. */
#ifndef TANDEM_CONFIG_RANGES_H
#define TANDEM_CONFIG_RANGES_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define RANGES_MAX 4096 /* numbers are below this: more processors than a machine has */

/* Reads text into *list, owned by the caller (mem_free), in the order given; "" gives NULL and 0. A
 * number twice, one of RANGES_MAX or more, or anything else than `n` and `n-m`: ERR_ARG. */
int ranges_parse(uint32_t **list, uint32_t *n, const char *text, struct err *e);

/* Appends list[n] as text, neighbours that rise by one joined. */
void ranges_format(struct str *out, const uint32_t *list, uint32_t n);

#endif
