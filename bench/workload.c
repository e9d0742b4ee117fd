#include "bench/workload.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"
#include "base/rng.h"

#define LENGTH_KEY 0x6c656e6774687321u /* "lengths!" */

/* Streams of random tokens: bits 32 to 39 keep the kinds apart. */
enum stream { STREAM_ITEM, STREAM_PREFIX, STREAM_HASH };

static uint64_t stream_of(enum stream kind, uint64_t id)
{
    return (uint64_t)kind << 32 | (id & UINT32_MAX);
}

int workload_open(struct workload *w, const struct bench_options *o, struct err *e)
{
    int rc;

    memset(w, 0, sizeof(*w));
    w->options = o;
    rc = synth_open(&w->synth, bench_tokenizer(o), o->vocab_size, o->seed, e);
    if (rc == ERR_OK && bench_trace(o))
        rc = trace_load(&w->trace, (enum trace_kind)(o->dataset_name - DATASET_MOONCAKE),
                        o->dataset_path, e);
    else if (rc == ERR_OK && o->dataset_name != DATASET_RANDOM)
        rc = dataset_load(&w->dataset, (enum bench_dataset)o->dataset_name, o->dataset_path,
                          &w->synth, e);
    if (rc != ERR_OK)
        workload_close(w);
    return rc;
}

void workload_close(struct workload *w)
{
    trace_fini(&w->trace);
    dataset_fini(&w->dataset);
    synth_close(&w->synth);
    memset(w, 0, sizeof(*w));
}

static const struct dataset_chat *chat_of(const struct workload *w, uint32_t i)
{
    return &w->dataset.chats[i % w->dataset.n];
}

uint32_t workload_turns(const struct workload *w, uint32_t i)
{
    uint32_t turns = w->options->turns;

    return w->dataset.n > 0 ? u32_min(turns, chat_of(w, i)->n_turns) : turns;
}

/* Uniform in [len (1 - r), len (1 + r)], whole and at least 1. */
static uint32_t length(const struct workload *w, uint32_t len, uint64_t draw)
{
    double r = w->options->random_range_ratio;
    double low = floor(len * (1 - r)), high = ceil(len * (1 + r));
    double x = low + floor(rng_f64(w->options->seed ^ LENGTH_KEY, draw) * (high - low + 1));

    return x < 1 ? 1 : (uint32_t)x;
}

static uint64_t turn_id(uint32_t i, uint32_t turn) { return (uint64_t)i * 1000 + turn; }

uint32_t workload_output(const struct workload *w, uint32_t i, uint32_t turn)
{
    const struct bench_options *o = w->options;
    uint32_t n = 0;

    if (o->dataset_name == DATASET_RANDOM)
        return length(w, o->random_output_len, 2 * turn_id(i, turn) + 1);
    if (w->trace.n > 0)
        n = w->trace.entries[i % w->trace.n].output;
    else
        n = w->dataset.turns[chat_of(w, i)->first_turn + turn].output;
    if (o->output_len > 0)
        return o->output_len;
    return n > 0 ? n : OUTPUT_LEN_DEFAULT;
}

static int random_prompt(struct prompt *p, const struct workload *w, uint32_t i, uint32_t turn,
                         struct err *e)
{
    const struct bench_options *o = w->options;
    uint32_t prefix = turn == 0 ? o->random_prefix_len : 0;
    struct synth_part parts[] = {
        {stream_of(STREAM_PREFIX, 0), prefix},
        {stream_of(STREAM_ITEM, turn_id(i, turn)),
         length(w, o->random_input_len, 2 * turn_id(i, turn))},
    };

    return synth_prompt(p, &w->synth, parts, ARRAY_LEN(parts), e);
}

/* Blocks of one hash id are the same text: what a prefix cache would find in the trace, it finds. */
static int trace_prompt(struct prompt *p, const struct workload *w, uint32_t i, struct err *e)
{
    const struct trace_entry *t = &w->trace.entries[i % w->trace.n];
    uint32_t n = t->n_hashes > 0 ? t->n_hashes : 1;
    struct synth_part *parts = mem_calloc(n, sizeof(*parts));
    int rc;

    parts[0] = (struct synth_part){stream_of(STREAM_ITEM, i), t->input};
    for (uint32_t b = 0; b < t->n_hashes; b++)
        parts[b] = (struct synth_part){stream_of(STREAM_HASH, w->trace.hashes[t->first_hash + b]),
                                       u32_min(TRACE_BLOCK, t->input - b * TRACE_BLOCK)};
    rc = synth_prompt(p, &w->synth, parts, n, e);
    mem_free(parts);
    return rc;
}

int workload_prompt(struct prompt *p, const struct workload *w, uint32_t i, uint32_t turn,
                    struct err *e)
{
    const struct dataset_turn *t;

    if (w->options->dataset_name == DATASET_RANDOM)
        return random_prompt(p, w, i, turn, e);
    if (w->trace.n > 0)
        return trace_prompt(p, w, i, e);
    t = &w->dataset.turns[chat_of(w, i)->first_turn + turn];
    prompt_add(p, t->text, t->bytes);
    p->n_tokens = turn == 0 ? synth_count(&w->synth, t->text, t->bytes) : 0;
    return ERR_OK;
}
