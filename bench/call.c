#include "bench/call.h"

#include "base/rng.h"

const char *outcome_name(enum outcome o)
{
    static const char *const names[] = {
#define X(name, text) text,
        OUTCOMES(X)
#undef X
    };

    return (unsigned)o < OUTCOME_COUNT ? names[o] : "?";
}

enum outcome outcome_of_status(int status)
{
    if (status == 429)
        return OUTCOME_BUSY;
    if (status == 503)
        return OUTCOME_UNAVAILABLE;
    if (status >= 400 && status < 500)
        return OUTCOME_CLIENT_ERROR;
    return status >= 500 ? OUTCOME_SERVER_ERROR : OUTCOME_MALFORMED;
}

uint64_t call_seed(const struct bench_options *o, const struct call *call)
{
    /* 31 bits: servers differ in how they read larger ones from JSON */
    return rng_u64(o->seed, call->index) >> 33;
}
