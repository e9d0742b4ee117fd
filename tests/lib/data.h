/* data: where tests find the public test data, which is not part of this repository. */
#ifndef TANDEM_TESTS_DATA_H
#define TANDEM_TESTS_DATA_H

/* The path of `rel` ("golden/llama.gguf") under $TANDEM_TEST_DATA, or under ../shared/data. If it is
 * absent: prints `skipped: TEST: no test data REL` and returns NULL; the test then calls cmocka's
 * skip(). The string lives until 8 more calls. Use DATA_OR_SKIP in a test body. */
const char *data_path(const char *test, const char *rel);

#define DATA_OR_SKIP(var, rel)                                                                     \
    const char *var = data_path(__func__, rel);                                                    \
    if (!var)                                                                                      \
    skip()

#endif
