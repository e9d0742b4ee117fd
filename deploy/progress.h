/* progress: a line a host on stdout while `up` works: on a terminal each is kept up to date in its
 * place; elsewhere a line is printed when its stage changes, or not at all. One thread. */
#ifndef TANDEM_DEPLOY_PROGRESS_H
#define TANDEM_DEPLOY_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

struct progress {
    bool terminal;
    bool silent;       /* not even where it is no terminal */
    size_t n;          /* lines */
    struct str *lines; /* [n] */
    struct str *stages;
    size_t drawn;      /* lines of the terminal that are ours, above the cursor */
};

/* n hosts; silent: a cluster of this machine alone needs no lines in a log. */
void progress_init(struct progress *p, size_t n, bool silent);
void progress_fini(struct progress *p); /* what is drawn is wiped */

/* Host i is at `stage`, of which `detail` ("" none) tells more: "web1: loads austen.gguf", "43 %". */
void progress_set(struct progress *p, size_t i, const char *stage, const char *detail);

/* Wipes what is drawn, and forgets it: the stage is over, or others are to print. */
void progress_wipe(struct progress *p);

#endif
