#include "config/nearest.h"

#include <string.h>

#include "base/check.h"

#define NEAREST_WORD_MAX 48 /* longer words are not compared: no key is that long */

/* The words' letters, with the two dashes made one. */
static char nearest_letter(char c) { return c == '-' ? '_' : c; }

/* Edit distance with swaps of neighbours (optimal string alignment), three rows at a time. */
static size_t nearest_edits(const char *a, size_t na, const char *b, size_t nb)
{
    size_t rows[3][NEAREST_WORD_MAX + 1];
    size_t *before = rows[0], *last = rows[1], *row = rows[2], *spare;

    memset(rows, 0, sizeof(rows));
    for (size_t j = 0; j <= nb; j++)
        last[j] = j;
    for (size_t i = 1; i <= na; i++) {
        char x = nearest_letter(a[i - 1]);

        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            char y = nearest_letter(b[j - 1]);

            row[j] = size_min(last[j - 1] + (x != y), size_min(last[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && x == nearest_letter(b[j - 2]) && y == nearest_letter(a[i - 2]))
                row[j] = size_min(row[j], before[j - 2] + 1);
        }
        spare = before;
        before = last;
        last = row;
        row = spare;
    }
    return last[nb];
}

void nearest_init(struct nearest *n, const char *word)
{
    *n = (struct nearest){.word = word, .distance = size_max(1, strlen(word) / 3) + 1};
}

void nearest_try(struct nearest *n, const char *candidate)
{
    size_t na = strlen(n->word), nb = strlen(candidate), edits;

    if (na > NEAREST_WORD_MAX || nb > NEAREST_WORD_MAX)
        return;
    edits = nearest_edits(n->word, na, candidate, nb);
    if (edits < n->distance) {
        n->distance = edits;
        n->best = candidate;
    }
}
