#include "host/ratio.h"

#include "base/check.h"

struct ratio_times ratio_times(const struct ratio_cost *prefill, const struct ratio_cost *decode,
                               const struct ratio_mix *mix, uint32_t slots, double tpot_s)
{
    double fresh = mix->prompt - mix->cached, context = mix->prompt + mix->output / 2;
    double kv = context * decode->kv_token_bytes;
    struct ratio_times t = {.batch = slots};
    double fit;

    ASSERT(slots > 0);
    if (tpot_s > 0 && kv > 0) {
        fit = (tpot_s * decode->read_bytes_s - decode->weight_bytes) / kv;
        t.batch = fit < 1 ? 1 : fit < slots ? (uint32_t)fit : slots;
    }
    t.prefill_s = (fresh > 1 ? fresh : 1) * prefill->flops_token / prefill->flops_s;
    t.decode_s = mix->output * (decode->weight_bytes / t.batch + kv) / decode->read_bytes_s;
    return t;
}

double ratio_bound(const struct ratio_times *t, uint32_t n_prefill, uint32_t n_decode)
{
    double p = t->prefill_s / n_prefill, d = t->decode_s / n_decode;

    return p > d ? p : d;
}

uint32_t ratio_prefill_nodes(const struct ratio_times *t, uint32_t n)
{
    double share = t->prefill_s / (t->prefill_s + t->decode_s);
    uint32_t p = (uint32_t)(share * n);

    ASSERT(n >= 2);
    p = p < 1 ? 1 : p > n - 1 ? n - 1 : p;
    if (p < n - 1 && ratio_bound(t, p + 1, n - p - 1) < ratio_bound(t, p, n - p))
        p++;
    return p;
}
