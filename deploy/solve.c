#include "deploy/solve.h"

#include <string.h>

#include "base/mem.h"
#include "host/team.h"
#include "kernels/roofline.h"

#define SOLVE_EFFICIENCY 0.4 /* of the peak of registers: what prefill reaches with large chunks */
#define SOLVE_FLOPS_BYTE 40  /* for tiers whose unit has no loop: a core without matrix unit, roughly */
#define SOLVE_ROUNDS 8       /* of about a millisecond each; the best counts */

double solve_flops_token(const struct hparams *h)
{
    double kv = (double)h->n_head_kv * h->head_dim, q = (double)h->n_head * h->head_dim;
    double attention = (double)h->n_embd * (q + 2 * kv) + q * h->n_embd;
    double ffn = 3.0 * h->n_embd * h->n_ff * (h->n_expert_used ? h->n_expert_used : 1);

    return 2 * h->n_layer * (attention + ffn);
}

static double solve_best(struct team *team, enum cpu_tier tier, enum roof what, const void *memory)
{
    double best = 0, rate;

    for (uint32_t i = 0; i < SOLVE_ROUNDS; i++) {
        rate = roofline_once(team, tier, what, memory, ROOFLINE_MEMORY, i);
        if (rate > best)
            best = rate;
    }
    return best;
}

int solve_measure(struct ratio_cost *cost, enum cpu_tier tier, struct err *e)
{
    struct team *team;
    void *memory;
    int rc;

    cpu_amx_allow();
    rc = team_new(&team, NULL, 1, e);
    if (rc)
        return rc;
    memory = mem_aligned(ROOFLINE_MEMORY, 64);
    memset(memory, 1, ROOFLINE_MEMORY); /* resident */
    cost->read_bytes_s = solve_best(team, tier, ROOF_READ, memory);
    cost->flops_s = SOLVE_EFFICIENCY * solve_best(team, tier, roof_of_matmul(tier, true), memory);
    if (cost->flops_s <= 0)
        cost->flops_s = SOLVE_FLOPS_BYTE * cost->read_bytes_s;
    mem_free(memory);
    team_free(&team);
    return 0;
}

void solve_share(struct solve *s, uint32_t units, uint32_t slots)
{
    s->times = ratio_times(&s->cost, &s->cost, &s->mix, slots, 0);
    s->prefill = units < 2 ? 1 : ratio_prefill_nodes(&s->times, units);
    s->decode = units < 2 ? 1 : units - s->prefill;
}

void solve_print(const struct solve *s, struct str *out)
{
    str_addf(out, "ratio auto: %u:%u for prompts of %.0f and answers of %.0f tokens, which take a core "
             "%.3g s of prefill and %.3g s of decode in a batch of %u\n", s->prefill, s->decode,
             s->mix.prompt, s->mix.output, s->times.prefill_s, s->times.decode_s, s->times.batch);
}
