/* dataset: prompts of a file: conversations of one or more turns. Immutable after load.
 *
 *   text       a prompt a line
 *   custom     a JSON object a line: "prompt", or "turns" (what a user says one after the other); maybe
 *              "output_tokens"
 *   sharegpt   a JSON array of {"conversations": [{"from": "human"|"user", "value"}, {"from": "gpt"}]} */
#ifndef TANDEM_BENCH_DATASET_H
#define TANDEM_BENCH_DATASET_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "bench/options.h"
#include "bench/synth.h"

struct dataset_turn {
    char *text; /* the user's */
    size_t bytes;
    uint32_t output; /* tokens of the recorded answer; 0: unknown */
};

struct dataset_chat {
    size_t first_turn;
    uint32_t n_turns; /* at least 1 */
};

/* A zeroed struct is empty. */
struct dataset {
    struct dataset_chat *chats;
    size_t n, cap;
    struct dataset_turn *turns;
    size_t n_turns, cap_turns;
    const struct synth *synth; /* counts recorded answers; borrowed for the load */
};

/* One line of text or custom; ctx is the dataset. ERR_FORMAT. */
int dataset_text_line(void *dataset, const char *line, size_t n, struct err *e);
int dataset_custom_line(void *dataset, const char *line, size_t n, struct err *e);

/* kind: DATASET_TEXT, _CUSTOM or _SHAREGPT, whose chats are shuffled by the synth's seed.
 * ERR_FORMAT with FILE:LINE; ERR_IO. */
int dataset_load(struct dataset *d, enum bench_dataset kind, const char *path,
                 const struct synth *synth, struct err *e);
void dataset_fini(struct dataset *d);

#endif
