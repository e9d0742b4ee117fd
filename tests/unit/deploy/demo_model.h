/* demo_model: the model in the source tree, found from the test's own place in build/tests/deploy or
 * build/san/tests/deploy. */
#ifndef TANDEM_TESTS_DEMO_MODEL_H
#define TANDEM_TESTS_DEMO_MODEL_H

#include "base/check.h"
#include "base/mem.h"
#include "deploy/paths.h"

/* Its path; mem_free. Fails the running test if it is not there. */
static inline char *demo_model(void)
{
    static const char *const up[] = {"../../../deploy", "../../../../deploy"};
    char *found = NULL;

    for (size_t i = 0; i < ARRAY_LEN(up) && !found; i++) {
        char *from = paths_resolve(paths_program_dir(), up[i]);

        found = paths_default_model(from, NULL);
        mem_free(from);
    }
    assert_non_null(found);
    return found;
}

#endif
