#include "bench/dataset.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "bench/lines.h"

#define SHUFFLE_KEY 0x73687566666c6521u /* "shuffle!" */

static void chat_begin(struct dataset *d)
{
    if (d->n == d->cap) {
        d->cap = d->cap ? 2 * d->cap : 256;
        d->chats = mem_realloc(d->chats, d->cap * sizeof(*d->chats));
    }
    d->chats[d->n++] = (struct dataset_chat){d->n_turns, 0};
}

static void turn_add(struct dataset *d, const char *text, size_t n, uint32_t output)
{
    if (d->n_turns == d->cap_turns) {
        d->cap_turns = d->cap_turns ? 2 * d->cap_turns : 256;
        d->turns = mem_realloc(d->turns, d->cap_turns * sizeof(*d->turns));
    }
    d->turns[d->n_turns++] = (struct dataset_turn){mem_strndup(text, n), n, output};
    d->chats[d->n - 1].n_turns++;
}

int dataset_text_line(void *dataset, const char *line, size_t n, struct err *e)
{
    (void)e;
    chat_begin(dataset);
    turn_add(dataset, line, n, 0);
    return ERR_OK;
}

static int custom_take(struct dataset *d, const json_t *root, struct err *e)
{
    json_t *prompt = json_object_get(root, "prompt"), *turns = json_object_get(root, "turns");
    json_int_t output = json_integer_value(json_object_get(root, "output_tokens"));
    size_t n = json_array_size(turns);

    if (output < 0 || output > 1 << 20)
        return err_set(e, ERR_FORMAT, "output_tokens must be 0 to %d", 1 << 20);
    if (json_is_string(prompt)) {
        chat_begin(d);
        turn_add(d, json_string_value(prompt), json_string_length(prompt), (uint32_t)output);
        return ERR_OK;
    }
    for (size_t i = 0; i < n; i++)
        if (!json_is_string(json_array_get(turns, i)))
            return err_set(e, ERR_FORMAT, "turns[%zu] is not a string", i);
    if (n == 0)
        return err_set(e, ERR_FORMAT,
                       "not an object with a string \"prompt\" or an array of strings \"turns\"");
    chat_begin(d);
    for (size_t i = 0; i < n; i++) {
        const json_t *turn = json_array_get(turns, i);

        turn_add(d, json_string_value(turn), json_string_length(turn), (uint32_t)output);
    }
    return ERR_OK;
}

int dataset_custom_line(void *dataset, const char *line, size_t n, struct err *e)
{
    json_error_t why;
    json_t *root = json_loadb(line, n, 0, &why);
    int rc;

    if (!root)
        return err_set(e, ERR_FORMAT, "column %d: %s", why.column, why.text);
    rc = custom_take(dataset, root, e);
    json_decref(root);
    return rc;
}

static bool from_is(const json_t *message, const char *a, const char *b)
{
    const char *from = json_string_value(json_object_get(message, "from"));

    return from && (strcmp(from, a) == 0 || strcmp(from, b) == 0);
}

/* What a person says, with the length of what was answered; a chat without either is left out. */
static void sharegpt_chat(struct dataset *d, const json_t *list)
{
    size_t n = json_array_size(list), turns = d->n_turns;

    chat_begin(d);
    for (size_t i = 0; i < n; i++) {
        const json_t *message = json_array_get(list, i), *next = json_array_get(list, i + 1);
        const json_t *text = json_object_get(message, "value");
        const json_t *answer = json_object_get(next, "value");
        uint32_t output = 0;

        if (!from_is(message, "human", "user") || !json_is_string(text) ||
            !json_string_length(text))
            continue;
        if (from_is(next, "gpt", "assistant") && json_is_string(answer))
            output = synth_count(d->synth, json_string_value(answer), json_string_length(answer));
        turn_add(d, json_string_value(text), json_string_length(text), output);
    }
    if (d->n_turns == turns)
        d->n--;
}

static void shuffle(struct dataset *d, uint64_t seed)
{
    for (size_t i = d->n; i > 1; i--) {
        size_t j = rng_u64(seed ^ SHUFFLE_KEY, i) % i;
        struct dataset_chat swap = d->chats[j];

        d->chats[j] = d->chats[i - 1];
        d->chats[i - 1] = swap;
    }
}

static int sharegpt_load(struct dataset *d, const char *path, struct err *e)
{
    FILE *f = fopen(path, "r");
    json_error_t why;
    json_t *root;

    if (!f)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    root = json_loadf(f, 0, &why);
    fclose(f);
    if (!root)
        return err_set(e, ERR_FORMAT, "%s:%d: column %d: %s", path, why.line, why.column, why.text);
    for (size_t i = 0; i < json_array_size(root); i++)
        sharegpt_chat(d, json_object_get(json_array_get(root, i), "conversations"));
    json_decref(root);
    shuffle(d, d->synth->seed);
    return ERR_OK;
}

int dataset_load(struct dataset *d, enum bench_dataset kind, const char *path,
                 const struct synth *synth, struct err *e)
{
    int rc;

    *d = (struct dataset){.synth = synth};
    if (kind == DATASET_SHAREGPT)
        rc = sharegpt_load(d, path, e);
    else
        rc = lines_each(path, kind == DATASET_TEXT ? dataset_text_line : dataset_custom_line, d, e);
    if (rc == ERR_OK && d->n == 0)
        rc = err_set(e, ERR_FORMAT, "%s: holds no prompt", path);
    if (rc != ERR_OK)
        dataset_fini(d);
    return rc;
}

void dataset_fini(struct dataset *d)
{
    for (size_t i = 0; i < d->n_turns; i++)
        mem_free(d->turns[i].text);
    mem_free(d->turns);
    mem_free(d->chats);
    memset(d, 0, sizeof(*d));
}
