/* doctor: what is wrong on a host, and what mends it.
 *
 *   doctor_want: from cluster.yaml and its plan  --JSON-->  the host
 *   doctor_facts: what /proc, /sys and files there say
 *   doctor_check: facts against want, a finding each; pure
 *   doctor_run: all of it, as JSON               <--JSON--  the host
 *
 * What a system does not tell (a container without /sys) is no finding. One thread. */
#ifndef TANDEM_DEPLOY_DOCTOR_H
#define TANDEM_DEPLOY_DOCTOR_H

#include <jansson.h>
#include <stdbool.h>

#include "base/str.h"
#include "deploy/doctor_facts.h"
#include "deploy/doctor_want.h"

#define DOCTOR_FINDINGS_MAX (DOCTOR_PORTS_MAX + DOCTOR_DOMAINS_MAX + 16) /* the other rules: 15 */

enum doctor_state {
    DOCTOR_OK,
    DOCTOR_SLOW,  /* the cluster runs, slower than it could */
    DOCTOR_WRONG, /* it does not start, or not as told */
};

struct doctor_finding {
    const char *check; /* "port"; static */
    enum doctor_state state;
    char value[320];   /* what there is, and the bound */
    char mend[320];    /* what to do, a command where there is one; "" if ok */
};

struct doctor_report {
    struct doctor_finding findings[DOCTOR_FINDINGS_MAX];
    size_t n;
};

/* Fills a zeroed report. */
void doctor_check(struct doctor_report *out, const struct doctor_facts *f,
                  const struct doctor_want *w);

/* Reads and checks this host: {hostname, version, time_s, findings: [{check, state: "ok" | "slow" |
 * "wrong", value, mend}]}, owned by the caller. want as doctor_want_json makes it, NULL: what holds
 * for any cluster. root as of doctor_facts_read. Milliseconds, but that it waits for three programs
 * to say their version. */
json_t *doctor_run(const char *root, const json_t *want);

/* Seconds, as the clock on this host's wall says. */
double doctor_wall_s(void);

/* Adds what a reply cannot know: its host's clock is offset_s ahead of ours, give or take slack_s. */
void doctor_compare_clock(json_t *reply, double offset_s, double slack_s);

/* Appends a line a finding for people: "wrong  port    8000 is taken by ...". Returns whether none is
 * wrong. Of a peer's reply: what is malformed is left out. */
bool doctor_print(const json_t *reply, struct str *out);

#endif
