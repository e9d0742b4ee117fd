/* pace: how fast KV could come in here if nothing else ran. Of intake.h's pace it is the measure. */
#ifndef TANDEM_DECODE_PACE_H
#define TANDEM_DECODE_PACE_H

#include <stdint.h>

#include "kv/kv_layout.h"

/* Bytes a second that this thread reads from a socket, checks and puts into pages, in memory that no
 * near cache holds; half of it is for all that ZeroMQ does besides. Takes a few milliseconds. */
uint64_t pace_measure(const struct kv_layout *l, enum kv_type wire);

#endif
