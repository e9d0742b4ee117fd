/* What ssh says becomes a sentence; shell scripts stand for ssh and the agent behind it. */
#include "deploy/remote.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/test.h"

static void assert_explained(int code, const char *said, const char *sentence)
{
    const struct remote r = {.host = "web1", .programs = "/opt/bin"};
    struct err e = {0};

    remote_explain(&e, &r, code << 8, said); /* as waitpid gives an exit code */
    assert_string_equal(e.text, sentence);
    assert_true(e.code < 0);
}

static void test_what_ssh_says_becomes_what_to_do(void **state)
{
    (void)state;
    assert_explained(255, "ssh: Could not resolve hostname web1: Name or service not known\r\n",
                     "web1 is no host name that is known here; correct `host:` in the cluster file, or "
                     "name it in ~/.ssh/config");
    assert_explained(255, "@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n...\n"
                          "Host key verification failed.\n",
                     "its host key is not the one that is known here; if web1 was set up anew, remove the "
                     "old one with `ssh-keygen -R`");
    assert_explained(255, "No ED25519 host key is known for web1.\nHost key verification failed.\n",
                     "its host key is not known here; `ssh web1` once shows it and asks");
    assert_explained(255, "a@web1: Permission denied (publickey,password).\n",
                     "it does not let us in; `ssh-copy-id web1` gives it a key of ours");
    assert_explained(255, "ssh: connect to host web1 port 22: Connection refused\n",
                     "no ssh server answers at web1; start it, or name its port in ~/.ssh/config");
    assert_explained(255, "ssh: connect to host web1 port 22: Connection timed out\n",
                     "web1 is unreachable: it does not answer");
    assert_explained(255, "ssh: connect to host web1 port 22: No route to host\n",
                     "web1 is unreachable: no route to it");
    assert_explained(127, "bash: line 1: /opt/bin/tandem: No such file or directory\n",
                     "/opt/bin/tandem is not there; install tandem, or say where it is with `programs:` "
                     "(bash: line 1: /opt/bin/tandem: No such file or directory)");
    assert_explained(127, "/opt/bin/tandem: error while loading shared libraries: libzmq.so.5: cannot "
                          "open shared object file\n",
                     "ssh ended with exit code 127: /opt/bin/tandem: error while loading shared "
                     "libraries: libzmq.so.5: cannot open shared object file");
    assert_explained(126, "bash: /opt/bin/tandem: cannot execute binary file: Exec format error\n",
                     "/opt/bin/tandem does not run there; is it of another machine? (bash: "
                     "/opt/bin/tandem: cannot execute binary file: Exec format error)");
    assert_explained(3, "", "ssh ended with exit code 3, saying nothing");
}

/* A program in the place of ssh, which gets host and command as its last arguments. */
static char dir[] = "/tmp/tandem-remote-XXXXXX";

static int setup(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN); /* as main does */
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    char path[64];

    (void)state;
    snprintf(path, sizeof(path), "%s/ssh", dir);
    unlink(path);
    return rmdir(dir);
}

static void open_script(struct remote *r, const char *script)
{
    static char path[64];
    FILE *f;

    snprintf(path, sizeof(path), "%s/ssh", dir);
    f = fopen(path, "w");
    fprintf(f, "#!/bin/sh\n%s\n", script);
    fclose(f);
    chmod(path, 0700);
    assert_int_equal(remote_open(r, path, "web1", "/opt/my bin"), 0);
}

static void ask(struct remote *r)
{
    remote_ask(r, json_pack("{s:s}", "op", "x"), REMOTE_REPLY_S);
    while (remotes_serve(r, 1, -1, -1))
        ;
}

static void test_a_reply_comes_behind_a_banner(void **state)
{
    struct remote r;

    (void)state;
    open_script(&r, "echo Welcome to web1; echo '{\"re\": \"x\", \"a\": 5}'; cat >/dev/null");
    ask(&r);
    assert_false(r.dead);
    assert_int_equal(json_integer_value(json_object_get(r.reply, "a")), 5);
    remote_close(&r);
}

/* The start-up file's last line has no end; an object is in it, but no answer. */
static void test_a_reply_comes_behind_half_a_line(void **state)
{
    struct remote r;

    (void)state;
    open_script(&r, "echo '{\"motd\": 1}'; printf 'hello {x} {\"y\": 2} '; echo '{\"re\": \"x\", \"a\": {\"b\": 5}}';"
                    " cat >/dev/null");
    ask(&r);
    assert_false(r.dead);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(r.reply, "a"), "b")), 5);
    remote_close(&r);
}

static void test_a_banner_without_end_is_not_waited_for(void **state)
{
    struct remote r;

    (void)state;
    open_script(&r, "exec yes 'Welcome to web1'");
    ask(&r);
    assert_true(r.dead);
    assert_string_equal(r.e.text, "a shell's start-up file there prints too much: more than 65536 bytes, "
                                  "the last of them \"Welcome to web1\"");
    remote_close(&r);
}

static void test_who_does_not_answer_is_quoted(void **state)
{
    struct remote r;

    (void)state;
    open_script(&r, "echo Choose a project:; exec sleep 30");
    remote_ask(&r, json_pack("{s:s}", "op", "x"), 1);
    while (remotes_serve(&r, 1, -1, -1))
        ;
    assert_true(r.dead);
    assert_string_equal(r.e.text, "no answer within 20 s, only \"Choose a project:\"; does `ssh web1 true` work?");
    remote_close(&r);
}

static void test_the_command_reaches_a_shell_there_whole(void **state)
{
    struct remote r;

    (void)state;
    open_script(&r, "printf '{\"re\": \"x\", \"host\": \"%s\", \"command\": \"%s\"}\\n' \"$1\" \"$2\"; cat");
    ask(&r);
    assert_string_equal(json_string_value(json_object_get(r.reply, "host")), "web1");
    assert_string_equal(json_string_value(json_object_get(r.reply, "command")), "'/opt/my bin/tandem' agent");
    remote_close(&r);
}

static void test_an_error_is_the_request_s_alone(void **state)
{
    struct remote r;

    (void)state;
    open_script(&r, "echo '{\"re\": \"x\", \"error\": \"no such thing\", \"code\": -10}'; read a; read b;"
                    " echo '{\"re\": \"x\"}'; cat >/dev/null");
    ask(&r);
    assert_null(r.reply);
    assert_int_equal(r.e.code, ERR_NOT_FOUND);
    assert_string_equal(r.e.text, "no such thing");
    ask(&r);
    assert_non_null(r.reply);
    assert_int_equal(r.e.code, 0);
    remote_close(&r);
}

static void test_nonsense_after_the_greeting_ends_it(void **state)
{
    struct remote r;

    (void)state;
    open_script(&r, "echo '{\"re\": \"x\"}'; read a; read b; echo 'Segmentation fault'; cat >/dev/null");
    ask(&r);
    ask(&r);
    assert_true(r.dead);
    assert_string_equal(r.e.text, "what runs there is no tandem of ours: it wrote \"Segmentation fault\"");
    remote_close(&r);
}

static void test_an_end_without_an_answer_is_explained(void **state)
{
    struct remote r;

    (void)state;
    open_script(&r, "echo 'ssh: connect to host web1 port 22: Connection refused' >&2; exit 255");
    ask(&r);
    assert_true(r.dead);
    assert_string_equal(r.e.text, "no ssh server answers at web1; start it, or name its port in "
                                  "~/.ssh/config");
    remote_ask(&r, json_pack("{s:s}", "op", "x"), REMOTE_REPLY_S); /* a dead one stays dead */
    assert_false(remotes_serve(&r, 1, 0, -1));
    assert_non_null(strstr(r.e.text, "no ssh server"));
    remote_close(&r);
}

static void seen(void *ctx, struct remote *r, const json_t *event)
{
    (void)r;
    strcat(ctx, json_string_value(json_object_get(event, "event")));
}

static void test_events_come_in_order_and_a_file_goes(void **state)
{
    char events[64] = "", path[80];
    struct remote r;
    int fd;

    (void)state;
    open_script(&r, "echo '{\"event\": \"a\"}'; echo '{\"event\": \"b\"}'; read line;"
                    " n=$(head -c 100000 | wc -c); echo \"{\\\"re\\\": \\\"x\\\", \\\"n\\\": $n}\"; cat >/dev/null");
    snprintf(path, sizeof(path), "%s/file", dir);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_int_equal(ftruncate(fd, 100000), 0);
    r.event = seen;
    r.ctx = events;
    remote_ask(&r, json_pack("{s:s}", "op", "x"), REMOTE_REPLY_S);
    remote_upload(&r, fd, 100000);
    while (remotes_serve(&r, 1, -1, -1))
        ;
    assert_string_equal(events, "ab");
    assert_int_equal(json_integer_value(json_object_get(r.reply, "n")), 100000);
    remote_close(&r);
    close(fd);
    unlink(path);
}

static void test_a_host_is_no_option(void **state)
{
    struct remote r;

    (void)state;
    assert_int_equal(remote_open(&r, "ssh", "-oProxyCommand=x", "/opt"), ERR_CONFIG);
    assert_true(r.dead);
    remote_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_ssh_says_becomes_what_to_do),
        cmocka_unit_test(test_a_reply_comes_behind_a_banner),
        cmocka_unit_test(test_a_reply_comes_behind_half_a_line),
        cmocka_unit_test(test_a_banner_without_end_is_not_waited_for),
        cmocka_unit_test(test_who_does_not_answer_is_quoted),
        cmocka_unit_test(test_the_command_reaches_a_shell_there_whole),
        cmocka_unit_test(test_an_error_is_the_request_s_alone),
        cmocka_unit_test(test_nonsense_after_the_greeting_ends_it),
        cmocka_unit_test(test_an_end_without_an_answer_is_explained),
        cmocka_unit_test(test_events_come_in_order_and_a_file_goes),
        cmocka_unit_test(test_a_host_is_no_option),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
