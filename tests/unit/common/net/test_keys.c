/* Key files: what is written is read back; every malformed line is a sentence with its number; a file
 * that others may read is refused. */
#include "net/keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/mem.h"
#include "tests/lib/test.h"

/* The pair of RFC 26's example, as libzmq documents it: public, secret. */
#define PUBLIC "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
#define SECRET "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
#define OTHER "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"

static int parse(const char *text, struct keys *k, struct err *e)
{
    *k = (struct keys){0};
    *e = (struct err){0};
    return keys_parse(k, text, strlen(text), "f", e);
}

static void test_a_file_is_lines_of_role_name_and_keys(void **state)
{
    struct keys k;
    struct err e;

    (void)state;
    assert_int_equal(parse("# a comment\n\nrouter r " PUBLIC " " SECRET "\n"
                           "  node\tn-1 " OTHER "\r\n",
                           &k, &e),
                     0);
    assert_int_equal(k.n, 2);
    assert_string_equal(keys_own(&k, KEYS_ROUTER)->pair.secret, SECRET);
    assert_string_equal(keys_router(&k)->name, "r");
    assert_null(keys_own(&k, KEYS_NODE));
    assert_int_equal(keys_find(&k, OTHER)->role, KEYS_NODE);
    assert_string_equal(keys_find(&k, OTHER)->name, "n-1");
    assert_null(keys_find(&k, SECRET));
    keys_fini(&k);
    assert_int_equal(parse("", &k, &e), 0);
    assert_int_equal(k.n, 0);
    keys_fini(&k);
}

static void test_a_malformed_line_is_a_sentence_with_its_number(void **state)
{
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        {"\nserver r " PUBLIC, "f:2: the role \"server\" is none of router, node and client"},
        {"node n", "f:1: 2 words where ROLE NAME PUBLIC are wanted"},
        {"node n short", "f:1: the public key has 5 characters, not 40"},
        {"node n Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{h,D",
         "f:1: character 39 of the public key is none of Z85"},
        {"node n #####w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID",
         "f:1: characters 1 to 5 of the public key are over 4 bytes"},
        {"node n " PUBLIC " " OTHER, "f:1: the secret key is not that of the public key"},
        {"node n " PUBLIC " " SECRET " more", "f:1: more than ROLE NAME PUBLIC SECRET"},
        {"node a/b " PUBLIC, "f:1: the name \"a/b\" has other than letters, digits, '.', '_', '-'"},
        {"node n " PUBLIC "\nclient c " PUBLIC, "f:2: the public key is that of node n too"},
        {"router a " PUBLIC "\nrouter b " OTHER, "f:2: a second router, a cluster has one"},
        {"node a-name-of-64-bytes-that-is-longer-than-any-that-has-a-meaning-xx " PUBLIC,
         "f:1: a word of 64 bytes, at most 63 have a meaning"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct keys k;
        struct err e;

        assert_int_equal(parse(cases[i].text, &k, &e), ERR_FORMAT);
        assert_string_equal(e.text, cases[i].sentence);
        keys_fini(&k);
    }
}

static void test_two_secrets_of_a_role_are_refused(void **state)
{
    struct keys_set a, b;
    struct str text = {0};
    struct keys k = {0};
    struct err e = {0};

    (void)state;
    assert_int_equal(keys_make(&a, &e), 0);
    assert_int_equal(keys_make(&b, &e), 0);
    keys_line(KEYS_NODE, "a", &a.node, &text);
    keys_line(KEYS_NODE, "b", &b.node, &text);
    assert_int_equal(keys_parse(&k, text.data, text.len, "f", &e), ERR_FORMAT);
    assert_string_equal(e.text, "f:2: a second secret of a node, a process has one");
    keys_fini(&k);
    assert_int_equal(keys_parse(&k, "a\0b", 3, "f", &e), ERR_FORMAT);
    assert_string_equal(e.text, "f: has a NUL byte");
    keys_fini(&k);
    str_fini(&text);
}

static void test_more_keys_than_the_limit_are_refused(void **state)
{
    struct str text = {0};
    struct keys k = {0};
    struct err e = {0};

    (void)state;
    for (int i = 0; i <= KEYS_MAX; i++) /* five digits of base 85, none over 4 bytes */
        str_addf(&text, "node n%d 0%04d00000000000000000000000000000000000\n", i, i);
    assert_int_equal(keys_parse(&k, text.data, text.len, "f", &e), ERR_LIMIT);
    assert_string_equal(e.text, "f:4097: more than 4096 keys");
    keys_fini(&k);
    str_fini(&text);
}

/* A process of one role gets the other's public key, never its secret. */
static void test_a_cluster_s_file_has_the_secrets_of_its_roles_alone(void **state)
{
    struct keys_set set, again;
    struct str text = {0};
    struct keys k = {0};
    struct err e = {0};

    (void)state;
    assert_int_equal(keys_make(&set, &e), 0);
    keys_text(&set, KEYS_BIT(KEYS_NODE), &text);
    assert_null(strstr(text.data, set.router.secret));
    assert_int_equal(keys_parse(&k, text.data, text.len, "f", &e), 0);
    assert_string_equal(keys_own(&k, KEYS_NODE)->pair.secret, set.node.secret);
    assert_string_equal(keys_router(&k)->pair.public_key, set.router.public_key);
    assert_null(keys_own(&k, KEYS_ROUTER));
    assert_false(keys_set_of(&again, &k));
    keys_fini(&k);
    str_clear(&text);
    keys_text(&set, KEYS_BIT(KEYS_ROUTER) | KEYS_BIT(KEYS_NODE), &text);
    assert_int_equal(keys_parse(&k, text.data, text.len, "f", &e), 0);
    assert_true(keys_set_of(&again, &k));
    assert_memory_equal(&again, &set, sizeof(set));
    keys_fini(&k);
    str_fini(&text);
}

static void test_a_file_is_ours_alone(void **state)
{
    char dir[] = "/tmp/tandem-test-XXXXXX", path[64], wanted[256];
    struct str text = {0};
    struct keys k = {0};
    struct err e = {0};
    struct stat st;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/keys", dir);
    assert_int_equal(keys_read(&k, path, &e), ERR_IO);
    str_adds(&text, "node n " PUBLIC "\n");
    assert_int_equal(keys_write(path, &text, &e), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(keys_read(&k, path, &e), 0);
    assert_int_equal(k.n, 1);
    keys_fini(&k);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(keys_read(&k, path, &e), ERR_CONFIG);
    snprintf(wanted, sizeof(wanted), "%s: mode 0640 lets others than its owner in; chmod 600 %s", path,
             path);
    assert_string_equal(e.text, wanted);
    assert_int_equal(keys_read(&k, dir, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "is no regular file"));
    keys_fini(&k);
    unlink(path);
    rmdir(dir);
    str_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_is_lines_of_role_name_and_keys),
        cmocka_unit_test(test_a_malformed_line_is_a_sentence_with_its_number),
        cmocka_unit_test(test_two_secrets_of_a_role_are_refused),
        cmocka_unit_test(test_more_keys_than_the_limit_are_refused),
        cmocka_unit_test(test_a_cluster_s_file_has_the_secrets_of_its_roles_alone),
        cmocka_unit_test(test_a_file_is_ours_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
