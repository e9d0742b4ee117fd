/* Files of API keys: right ones, wrong ones with what is said of them, and ones that change. */
#include "router/api_keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/test.h"

static char path[] = "/tmp/tandem-api-keys-XXXXXX";
static const struct tenant_limits all = {7, 700};

static void write_keys(const char *text, mode_t mode)
{
    char fresh[64];
    FILE *f;

    snprintf(fresh, sizeof(fresh), "%s.new", path);
    f = fopen(fresh, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(fresh, mode), 0);
    assert_int_equal(rename(fresh, path), 0);
}

static int setup(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

static const struct api_key *find(const struct api_keys *k, const char *secret)
{
    return api_keys_find(k, secret, strlen(secret));
}

static void test_each_key_has_its_holder_and_limits(void **state)
{
    struct api_keys *k;
    struct err e = {0};
    const struct api_key *key;

    (void)state;
    write_keys("# a comment\n\n"
               "shop  sk-0123456789abcdef concurrent=3 priority=2 # and one here\r\n"
               "shop\tsk-fedcba9876543210\n"
               "ops sha256:a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3 admin tokens_minute=0",
               0600);
    assert_int_equal(api_keys_open(&k, path, &all, &e), 0);
    key = find(k, "sk-0123456789abcdef");
    assert_non_null(key);
    assert_string_equal(key->name, "shop");
    assert_int_equal(key->limits.concurrent_max, 3);
    assert_int_equal(key->limits.tokens_minute, 700);
    assert_int_equal(key->priority, 2);
    assert_false(key->admin);
    key = find(k, "sk-fedcba9876543210");
    assert_non_null(key);
    assert_string_equal(key->name, "shop");
    assert_int_equal(key->limits.concurrent_max, 7);
    key = find(k, "123"); /* whose sum that is */
    assert_non_null(key);
    assert_true(key->admin);
    assert_int_equal(key->limits.tokens_minute, 0);
    assert_null(find(k, "sk-0123456789abcde"));
    assert_null(find(k, "sk-0123456789abcdefg"));
    assert_null(find(k, "a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3"));
    assert_null(find(k, ""));
    api_keys_close(&k);
}

static void assert_wrong(const char *text, const char *sentence)
{
    struct api_keys *k;
    struct err e = {0};

    write_keys(text, 0600);
    assert_true(api_keys_open(&k, path, &all, &e) < 0);
    assert_null(k);
    assert_string_equal(e.text + strlen(path), sentence);
    assert_null(strstr(e.text, "sk-"));
}

static void test_wrong_lines_are_named_and_keys_are_not(void **state)
{
    char nul[] = "a sk-0123456789abcdef\n";
    struct api_keys *k;
    struct err e = {0};

    (void)state;
    assert_wrong("a", ":1: a has no key");
    assert_wrong("\na sk-short", ":2: the key has 8 characters, not 16 to 256");
    assert_wrong("a sha256:12", ":1: sha256: is followed by 2 characters, not by 64 of hex");
    assert_wrong("a sk-0123456789abcdef\xc3\xa9", ":1: the key has a character that is not printable ASCII");
    assert_wrong("a/b sk-0123456789abcdef", ":1: the name 'a/b' is not a name: 1 to 63 letters, digits, '.', '_' or '-', not starting with "
                 "'.' or '-'");
    assert_wrong("a sk-0123456789abcdef concurrent=70000",
                 ":1: word 3 is none of concurrent=0..65536, tokens_minute=0..1000000000, priority=0..7, admin");
    assert_wrong("a sk-0123456789abcdef sk-0123456789abcdef",
                 ":1: word 3 is none of concurrent=0..65536, tokens_minute=0..1000000000, priority=0..7, admin");
    assert_wrong("a sk-0123456789abcdef priority=-1",
                 ":1: word 3 is none of concurrent=0..65536, tokens_minute=0..1000000000, priority=0..7, admin");
    assert_wrong("a sk-0123456789abcdef\nb sk-0123456789abcdef", ":2: a and b have the same key");
    write_keys(nul, 0640);
    assert_int_equal(api_keys_open(&k, path, &all, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "mode 0640 lets others than its owner in; chmod 600 "));
    assert_int_equal(api_keys_open(&k, "/nonexistent/keys", &all, &e), ERR_IO);
}

static void test_a_file_that_changes_is_read_again(void **state)
{
    struct api_keys *k;
    struct err e = {0};

    (void)state;
    write_keys("a sk-0123456789abcdef", 0600);
    assert_int_equal(api_keys_open(&k, path, &all, &e), 0);
    assert_int_equal(api_keys_refresh(k, &e), 0);
    write_keys("b sk-fedcba9876543210", 0600);
    assert_int_equal(api_keys_refresh(k, &e), 1);
    assert_null(find(k, "sk-0123456789abcdef"));
    assert_non_null(find(k, "sk-fedcba9876543210"));
    write_keys("c sk-", 0600); /* somebody's mistake locks nobody out */
    assert_true(api_keys_refresh(k, &e) < 0);
    assert_int_equal(api_keys_refresh(k, &e), 0);
    assert_non_null(find(k, "sk-fedcba9876543210"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(api_keys_refresh(k, &e), ERR_IO);
    assert_int_equal(api_keys_refresh(k, &e), 0);
    assert_non_null(find(k, "sk-fedcba9876543210"));
    write_keys("", 0600);
    assert_int_equal(api_keys_refresh(k, &e), 1);
    assert_null(find(k, "sk-fedcba9876543210"));
    api_keys_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_key_has_its_holder_and_limits),
        cmocka_unit_test(test_wrong_lines_are_named_and_keys_are_not),
        cmocka_unit_test(test_a_file_that_changes_is_read_again),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
