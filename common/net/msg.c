#include "net/msg.h"

#include <string.h>

#include "base/mem.h"

const char *msg_type_name(enum msg_type type)
{
    switch (type) {
#define NAME(t)                                                                                    \
    case MSG_##t:                                                                                  \
        return #t
        NAME(GENERATE);
        NAME(GENERATE_TOKENS);
        NAME(GENERATE_DONE);
        NAME(GENERATE_CANCEL);
        NAME(REGISTER);
        NAME(REGISTERED);
        NAME(REFUSED);
        NAME(HEARTBEAT);
        NAME(DRAIN);
        NAME(BYE);
        NAME(ROLE);
        NAME(PREFIX_REPORT);
        NAME(ENDED);
        NAME(PREFILL_JOB);
        NAME(PREFILL_TOKEN);
        NAME(PREFILL_FAILED);
        NAME(RESERVE);
        NAME(RESERVED);
        NAME(RESERVE_REFUSED);
        NAME(TOKENS);
        NAME(DECODE_FAILED);
        NAME(CANCEL);
        NAME(KV_HELLO);
        NAME(KV_WELCOME);
        NAME(KV_CREDIT);
        NAME(KV_PAGE);
        NAME(KV_AGAIN);
        NAME(KV_END);
        NAME(KV_DONE);
        NAME(KV_ABORT);
        NAME(KV_RESUME);
        NAME(KV_MISSING);
        NAME(KV_PLACE);
#undef NAME
    }
    return "?";
}

const char *node_role_name(enum node_role role)
{
    return role == ROLE_PREFILL ? "prefill" : "decode";
}

void msg_fini(struct msg *m)
{
    switch (m->type) {
    case MSG_GENERATE:
        mem_free(m->u.generate.tokens);
        mem_free(m->u.generate.text);
        break;
    case MSG_GENERATE_TOKENS:
        mem_free(m->u.generate_tokens.tokens);
        mem_free(m->u.generate_tokens.text);
        break;
    case MSG_PREFILL_JOB:
        mem_free(m->u.job.tokens);
        break;
    case MSG_RESERVE:
        mem_free(m->u.reserve.tokens);
        break;
    case MSG_PREFIX_REPORT:
        mem_free(m->u.prefix.added);
        mem_free(m->u.prefix.removed);
        break;
    case MSG_KV_MISSING:
        mem_free(m->u.missing.units);
        break;
    case MSG_KV_PAGE:
        if (m->u.page.bulk.release)
            m->u.page.bulk.release((void *)m->u.page.bulk.data, m->u.page.bulk.hint);
        break;
    default: /* owns nothing */
        break;
    }
    memset(m, 0, sizeof(*m));
}
