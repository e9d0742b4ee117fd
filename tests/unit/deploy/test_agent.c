/* The agent, with bytes in and bytes out; what it starts are shell scripts. */
#include "deploy/agent.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "deploy/rundir.h"
#include "tests/lib/test.h"

static char base[] = "/tmp/tandem-agent-XXXXXX";

static int setup(void **state)
{
    (void)state;
    return mkdtemp(base) && !setenv("TANDEM_RUN_DIR", base, 1) && !setenv("XDG_CACHE_HOME", base, 1) ? 0 : -1;
}

static int teardown(void **state) /* succeeds only if nothing else was left */
{
    char path[128];

    (void)state;
    snprintf(path, sizeof(path), "%s/tandem/hashes", base);
    unlink(path);
    snprintf(path, sizeof(path), "%s/tandem", base);
    rmdir(path);
    return rmdir(base);
}

static void in_base(char path[128], const char *name) { snprintf(path, 128, "%s/%s", base, name); }

/* The next object that it says; NULL: it has nothing to say now. */
static json_t *said(struct agent *a)
{
    struct str *out = agent_output(a);
    char *end = out->len ? strchr(out->data, '\n') : NULL;
    json_t *object;

    if (!end)
        return NULL;
    object = json_loadb(out->data, (size_t)(end - out->data), 0, NULL);
    assert_non_null(object);
    str_drop(out, (size_t)(end - out->data) + 1);
    return object;
}

/* The next that has the key; others before it are let go. Waits for what processes do. */
static json_t *said_with(struct agent *a, const char *key)
{
    for (;;) {
        json_t *object = said(a);

        if (object && json_object_get(object, key))
            return object;
        if (!object) {
            usleep(2000);
            agent_work(a, clock_now());
        }
        json_decref(object);
    }
}

static void tell(struct agent *a, const char *text)
{
    agent_feed(a, text, strlen(text));
    agent_work(a, clock_now());
}

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

static void assert_error(struct agent *a, const char *request, const char *sentence)
{
    json_t *reply;

    tell(a, request);
    tell(a, "\n");
    reply = said_with(a, "re");
    assert_string_equal(text(reply, "error"), sentence);
    assert_true(json_integer_value(json_object_get(reply, "code")) < 0);
    json_decref(reply);
}

static void test_broken_requests_are_sentences(void **state)
{
    struct agent *a = agent_new();

    (void)state;
    assert_error(a, "hello", "a line is not a JSON object");
    assert_error(a, "[]", "a line is not a JSON object");
    assert_error(a, "{}", "op: \"\" is none that the agent knows");
    assert_error(a, "{\"op\": 5}", "op: \"\" is none that the agent knows");
    assert_error(a, "{\"op\": \"fly\"}", "op: \"fly\" is none that the agent knows");
    assert_error(a, "{\"op\": \"hello\", \"protocol\": 99, \"cluster\": \"x\"}",
                 "tandem " TANDEM_VERSION " there speaks protocol 1, here it is 99");
    assert_error(a, "{\"op\": \"stop\", \"cluster\": \"../x\"}",
                 "cluster: \"../x\" is not a name: 1 to 63 letters, digits, '.', '_' or '-', not "
                 "starting with '.' or '-'");
    assert_error(a, "{\"op\": \"detach\"}", "nothing was started");
    assert_error(a, "{\"op\": \"model\", \"path\": \"m.gguf\"}", "path: \"m.gguf\" is not absolute");
    assert_error(a, "{\"op\": \"receive\", \"path\": \"/m\", \"hash\": \"12\", \"size\": 5}",
                 "hash: \"12\" is not 32 hexadecimal digits");
    assert_error(a, "{\"op\": \"tail\", \"cluster\": \"x\"}", "names: a list of processes is needed");
    assert_error(a, "{\"op\": \"start\", \"cluster\": \"x\"}", "processes: none are named");
    assert_error(a, "{\"op\": \"start\", \"cluster\": \"x\", \"processes\": [{\"name\": \"a\", \"argv\": []}]}",
                 "a: argv begins with the absolute path of a program");
    assert_error(a, "{\"op\": \"start\", \"cluster\": \"x\", \"processes\": [{\"name\": \"a\", \"argv\":"
                    " [\"/nowhere/x\", 5]}]}", "a: argument 1 is no text");
    assert_error(a, "{\"op\": \"start\", \"cluster\": \"x\", \"processes\": [{\"name\": \"a\", \"argv\":"
                    " [\"/nowhere/x\"]}]}", "/nowhere/x is not there, or no program of ours");
    assert_error(a, "{\"op\": \"start\", \"cluster\": \"x\", \"files\": {\"../y\": \"\"}, \"processes\":"
                    " [{\"name\": \"a\", \"argv\": [\"/bin/true\"]}]}",
                 "files: \"../y\" is not a name: 1 to 63 letters, digits, '.', '_' or '-', not starting "
                 "with '.' or '-'");
    assert_error(a, "{\"op\": \"connect\", \"http\": \"nothing\"}", "\"nothing\" is not host:port");
    assert_false(agent_ended(a));
    agent_free(&a);
}

static void test_a_model_that_is_a_pipe_is_not_waited_for(void **state)
{
    struct agent *a = agent_new();
    char path[128], request[256], want[256];

    (void)state;
    in_base(path, "pipe");
    assert_int_equal(mkfifo(path, 0600), 0);
    snprintf(request, sizeof(request), "{\"op\": \"model\", \"path\": \"%s\"}", path);
    snprintf(want, sizeof(want), "%s is no regular file", path);
    assert_error(a, request, want);
    unlink(path);
    agent_free(&a);
}

static void test_any_bytes_are_survived(void **state)
{
    uint64_t seed = 1;
    char bytes[512];

    (void)state;
    for (int round = 0; round < 200; round++) {
        struct agent *a = agent_new();

        for (size_t i = 0; i < sizeof(bytes); i++) {
            seed = hash64(&seed, sizeof(seed), 7);
            bytes[i] = "{}[]\":,\nop0 \xff\x80"[seed % 15];
        }
        agent_feed(a, bytes, sizeof(bytes));
        agent_work(a, clock_now());
        agent_free(&a);
    }
}

static void test_hello_says_what_there_is(void **state)
{
    struct agent *a = agent_new();
    json_t *reply;

    (void)state;
    tell(a, "{\"op\": \"hello\", \"protocol\": 1, \"cluster\": \"x\", \"topology\": true}\n");
    reply = said_with(a, "re");
    assert_string_equal(text(reply, "version"), TANDEM_VERSION);
    assert_non_null(strstr(text(reply, "run_dir"), base));
    assert_non_null(strstr(text(reply, "topology"), "<topology"));
    assert_true(json_is_false(json_object_get(reply, "running")));
    json_decref(reply);
    agent_free(&a);
}

/* {"op": "receive"} of n bytes 'x' into the file `got`; their hash. */
static void receive(struct agent *a, size_t n, const char *hash)
{
    char line[512];

    snprintf(line, sizeof(line), "{\"op\": \"receive\", \"path\": \"%s/got\", \"size\": %zu, \"hash\": "
             "\"%s\"}\n", base, n, hash);
    tell(a, line);
}

static void hash_of(char out[33], char c, size_t n)
{
    struct hash_stream *s = hash_stream_new();

    for (size_t i = 0; i < n; i++)
        hash_stream_add(s, &c, 1);
    hash_stream_text(s, out);
    hash_stream_free(&s);
}

static void assert_offset(struct agent *a, json_int_t want)
{
    json_t *event = said_with(a, "event");

    assert_string_equal(text(event, "event"), "offset");
    assert_int_equal(json_integer_value(json_object_get(event, "offset")), want);
    json_decref(event);
}

static void test_a_copy_that_is_cut_goes_on(void **state)
{
    struct agent *a = agent_new();
    char hash[33], path[128], line[256];
    json_t *reply;
    struct stat st;

    (void)state;
    hash_of(hash, 'x', 10);
    receive(a, 10, hash);
    assert_offset(a, 0);
    tell(a, "xxxx");
    agent_free(&a); /* the connection ends */
    in_base(path, "got");
    assert_int_equal(stat(path, &st), -1);
    a = agent_new();
    receive(a, 10, hash);
    assert_offset(a, 4);
    tell(a, "xxxxxx{\"op\": \"fly\"}\n"); /* what follows is a request again */
    reply = said_with(a, "re");
    assert_string_equal(text(reply, "re"), "receive");
    assert_string_equal(text(reply, "error"), "");
    json_decref(reply);
    reply = said_with(a, "re");
    assert_string_equal(text(reply, "re"), "fly");
    json_decref(reply);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 10);
    snprintf(line, sizeof(line), "{\"op\": \"model\", \"path\": \"%s\"}\n", path);
    tell(a, line);
    reply = said_with(a, "re");
    assert_string_equal(text(reply, "hash"), hash);
    json_decref(reply);
    snprintf(line, sizeof(line), "%s is there already", path);
    receive(a, 10, hash);
    reply = said_with(a, "re");
    assert_string_equal(text(reply, "error"), line);
    json_decref(reply);
    unlink(path);
    agent_free(&a);
}

static void test_a_copy_with_other_bytes_is_removed(void **state)
{
    struct agent *a = agent_new();
    char hash[33], path[128], sentence[256];
    json_t *reply;

    (void)state;
    hash_of(hash, 'x', 10);
    receive(a, 10, hash);
    tell(a, "xxxxxxxxxy");
    reply = said_with(a, "re");
    snprintf(sentence, sizeof(sentence), "%s/got came with other bytes than were sent; it was removed", base);
    assert_string_equal(text(reply, "error"), sentence);
    json_decref(reply);
    in_base(path, "got");
    assert_int_not_equal(access(path, F_OK), 0);
    agent_free(&a);
}

static void test_a_model_that_changes_is_hashed_anew(void **state)
{
    struct agent *a = agent_new();
    char path[128], line[256], x[33], y[33];
    struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    json_t *reply;
    int fd;

    (void)state;
    hash_of(x, 'x', 4);
    hash_of(y, 'y', 4);
    in_base(path, "model");
    snprintf(line, sizeof(line), "{\"op\": \"model\", \"path\": \"%s\"}\n", path);
    tell(a, line);
    reply = said_with(a, "re");
    assert_true(json_is_true(json_object_get(reply, "absent")));
    json_decref(reply);
    for (int i = 0; i < 3; i++) { /* the second time from the cache */
        fd = open(path, O_RDWR | O_CREAT, 0600);
        assert_int_equal(write(fd, i < 2 ? "xxxx" : "yyyy", 4), 4);
        times[1].tv_sec = i < 2 ? 1000 : 2000;
        futimens(fd, times);
        close(fd);
        tell(a, line);
        reply = said_with(a, "re");
        assert_string_equal(text(reply, "hash"), i < 2 ? x : y);
        assert_int_equal(json_integer_value(json_object_get(reply, "size")), 4);
        json_decref(reply);
    }
    unlink(path);
    agent_free(&a);
}

/* Starts a cluster of one process, a shell script. */
static void start(struct agent *a, const char *script)
{
    char line[512];
    json_t *reply;

    snprintf(line, sizeof(line), "{\"op\": \"start\", \"cluster\": \"x\", \"processes\": [{\"name\": "
             "\"node-1\", \"argv\": [\"/bin/sh\", \"-c\", \"%s\"]}], \"files\": {\"note\": \"text\"}}\n",
             script);
    tell(a, line);
    reply = said_with(a, "re");
    assert_string_equal(text(reply, "error"), "");
    json_decref(reply);
}

static bool runs(void)
{
    struct rundir d;
    pid_t pid;

    assert_int_equal(rundir_locate(&d, "x", NULL), 0);
    return rundir_running(&d, &pid);
}

static void test_what_it_started_and_did_not_leave_ends_with_it(void **state)
{
    struct agent *a = agent_new();
    json_t *event, *process;
    struct rundir d;
    char path[PATH_MAX + 8];
    struct stat st;

    (void)state;
    start(a, "echo weights packed=42% >&2; exec sleep 1000");
    for (;;) { /* until it has written that */
        event = said_with(a, "event");
        assert_string_equal(text(event, "event"), "progress");
        process = json_array_get(json_object_get(event, "processes"), 0);
        if (json_integer_value(json_object_get(process, "percent")) == 42)
            break;
        json_decref(event);
    }
    assert_string_equal(text(process, "name"), "node-1");
    assert_true(json_integer_value(json_object_get(process, "pid")) > 0);
    json_decref(event);
    rundir_locate(&d, "x", NULL);
    snprintf(path, sizeof(path), "%s/note", d.path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_error(a, "{\"op\": \"start\", \"cluster\": \"y\"}", "one cluster was started already");
    assert_true(runs());
    agent_free(&a);
    assert_false(runs());
}

static void test_who_is_silent_for_long_is_taken_for_dead(void **state)
{
    struct agent *a = agent_new();
    int64_t now = clock_now();

    (void)state;
    start(a, "exec sleep 1000");
    agent_work(a, now);
    agent_work(a, now + AGENT_SILENCE_S * CLOCK_S);
    assert_false(agent_ended(a));
    tell(a, "{\"op\": \"ping\"}\n");
    now = clock_now();
    agent_work(a, now + (AGENT_SILENCE_S - 1) * CLOCK_S);
    assert_false(agent_ended(a));
    agent_work(a, now + (AGENT_SILENCE_S + 1) * CLOCK_S);
    assert_true(agent_ended(a));
    agent_free(&a);
    assert_false(runs());
}

/* Whether that is the last line of the process's log. */
static bool last_line_is(struct agent *a, const char *line)
{
    bool is = false, over = false;

    tell(a, "{\"op\": \"tail\", \"cluster\": \"x\", \"names\": [\"node-1\"], \"lines\": 1}\n");
    while (!over) {
        json_t *object = said(a);

        is |= object && !strcmp(text(object, "text"), line) && !strcmp(text(object, "name"), "node-1");
        over = object && json_object_get(object, "re");
        json_decref(object);
        agent_work(a, clock_now());
    }
    return is;
}

static void test_what_it_left_goes_on_and_is_stopped_by_another(void **state)
{
    struct agent *a = agent_new();
    json_t *reply;
    size_t n;

    (void)state;
    start(a, "echo one >&2; echo two >&2; exec sleep 1000");
    do { /* until the supervisor answers */
        json_t *event = said_with(a, "processes");

        n = json_array_size(json_object_get(event, "processes"));
        json_decref(event);
    } while (!n);
    tell(a, "{\"op\": \"detach\"}\n");
    json_decref(said_with(a, "re"));
    agent_free(&a);
    assert_true(runs());
    a = agent_new();
    tell(a, "{\"op\": \"list\", \"cluster\": \"x\"}\n");
    reply = said_with(a, "processes");
    assert_int_equal(json_array_size(json_object_get(reply, "processes")), 1);
    json_decref(reply);
    assert_error(a, "{\"op\": \"remove\", \"cluster\": \"x\", \"name\": \"node-7\"}",
                 "there is no process \"node-7\"");
    while (!last_line_is(a, "two")) /* until it has written both */
        usleep(2000);
    tell(a, "{\"op\": \"stop\", \"cluster\": \"x\"}\n{\"op\": \"stop\", \"cluster\": \"x\"}\n");
    reply = said_with(a, "was");
    assert_true(json_is_true(json_object_get(reply, "was")));
    json_decref(reply);
    reply = said_with(a, "was");
    assert_true(json_is_false(json_object_get(reply, "was")));
    json_decref(reply);
    assert_false(runs());
    agent_free(&a);
}

static void test_a_death_at_start_is_told(void **state)
{
    struct agent *a = agent_new();
    json_t *event;

    (void)state;
    start(a, "echo no port >&2; exit 3");
    event = said_with(a, "error");
    assert_string_equal(text(event, "event"), "failed");
    assert_string_equal(text(event, "error"), "node-1 ended at start, exit code 3: no port");
    json_decref(event);
    agent_free(&a);
    assert_false(runs());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broken_requests_are_sentences),
        cmocka_unit_test(test_a_model_that_is_a_pipe_is_not_waited_for),
        cmocka_unit_test(test_any_bytes_are_survived),
        cmocka_unit_test(test_hello_says_what_there_is),
        cmocka_unit_test(test_a_copy_that_is_cut_goes_on),
        cmocka_unit_test(test_a_copy_with_other_bytes_is_removed),
        cmocka_unit_test(test_a_model_that_changes_is_hashed_anew),
        cmocka_unit_test(test_what_it_started_and_did_not_leave_ends_with_it),
        cmocka_unit_test(test_who_is_silent_for_long_is_taken_for_dead),
        cmocka_unit_test(test_what_it_left_goes_on_and_is_stopped_by_another),
        cmocka_unit_test(test_a_death_at_start_is_told),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
