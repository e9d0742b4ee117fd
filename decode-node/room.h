/* room: KV pages for sequences that grow, and who makes room when there are none.
 *
 * A sequence has a rank: its priority, then its arrival. Before each step the running ones get, best
 * rank first, the page that their next row needs. If none is free and the prefix cache has none to
 * give up, the running sequence of the lowest rank is set aside: its KV moves to the swap, and comes
 * back bit for bit when there is room (it and a page for each that runs). If the swap is full it is
 * given up instead, with a word to the router, which starts it anew. That may be the very sequence that
 * wanted the page. While one is set aside nothing new is admitted.
 *
 * Why this never stands still. Let b be the running sequence of the best rank. All other running ones
 * rank lower and yield to it; when it is the only one left, reservations that wait for their KV are
 * given up too, newest first. Then every page is free, known to the cache alone, or b's own: ASIDE
 * ones hold none, and no step is in flight. The cache can give up all its pages but those of b and
 * blocks before them, and these are b's own as well, because b went on with the cache's pages when its
 * prompt was complete (slots_share). So b has the whole pool, which admission made sure is enough. b
 * thus gets a row in every step, and ends after at most max_new of them; then another is the best. With
 * no running one, the first that is set aside needs no more than what admission looked at, and
 * reservations turn into running sequences, or go, or lose their lease; room is looked for after every
 * event. Part of core.c; pure. */
#ifndef TANDEM_DECODE_ROOM_H
#define TANDEM_DECODE_ROOM_H

#include "decode-node/core_state.h"

/* Between two steps: afterwards every running sequence has pages for all its known tokens. */
void room_make(struct decode_core *d, struct decode_actions *out);

#endif
