#!/bin/bash
# Links between hosts that are cut and healed, slow, lossy or long, under load: streams go on, none fails,
# no token changes. A node behind a link that only is bad stays; behind one that is cut it leaves and
# comes back. FULL=1: all of it, longer, every link in turn.
. tests/lib/cluster.sh
. tests/lib/netns.sh
missing=$(net_missing)
[ -z "$missing" ] || { echo "skip bad links between hosts: $missing"; exit 0; }
PHASE_S=$([ -n "${FULL-}" ] && echo 12 || echo 2)
HOSTS=$([ -n "${FULL-}" ] && echo "h1 h2 h3" || echo h2)

lost() { metric tandem_nodes_lost_total; }
# goes_on: tokens come while this phase lasts
goes_on() {
    local before after
    before=$(metric tandem_output_tokens_total)
    sleep "$PHASE_S"
    after=$(metric tandem_output_tokens_total)
    echo "$((after - before)) tokens in $PHASE_S s"
    [ "$after" -gt "$before" ]
}
# Whether the link is as bad as it should be: segments were sent again; packets waited; a connection
# takes a round trip.
resends() { on "$1" awk '/^Tcp:/ { n = $13 } END { print n }' /proc/net/snmp; }
lossy() { RESENDS=$(resends "$1") && link_lossy "$@"; }
resent() { # of this link: one that was cut has some already
    local n
    n=$(($(resends "$1") - RESENDS))
    echo "$n segments sent again"
    [ "$n" -gt 0 ]
}
queued() {
    { tc -n "$NET-sw" -s qdisc show dev "$1" && tc -n "$NET-$1" -s qdisc show dev eth0; } |
        awk '/overlimits/ { n += $9 } END { print n; exit !(n > 0) }'
}
far() {
    on "$1" curl -s -m 1 -o /dev/null -w '%{time_connect}\n' "telnet://10.77.0.$(((${1#h} % 3) + 1)):22" |
        awk '{ print; exit !($1 > 0.06) }'
}
# bad FELT BEGIN END ARG...: each host's link in turn so; all nodes stay
bad() {
    local felt=$1 begin=$2 end=$3 h before rc=0
    shift 3
    before=$(lost)
    for h in $HOSTS; do
        "$begin" "$h" "$@" && goes_on && "$felt" "$h" || rc=1
        "$end" "$h" || rc=1
    done
    [ "$(lost)" = "$before" ] || { echo "$(($(lost) - before)) nodes left"; rc=1; }
    return $rc
}
# cut SECONDS: and healed. Longer than dead_ms and the node leaves, and comes back
cut() {
    local h rc=0
    for h in $HOSTS; do
        [ "$h" = h1 ] && continue # the router's own: nothing is left to ask
        link_cut "$h" && sleep "$1"
        link_heal "$h"
        await 20 serving 3 && goes_on || rc=1
    done
    return $rc
}

t "three hosts" hand_up
t "load" hand_load 6
t "a link cut for 0.5 s costs no node" eval 'before=$(lost); cut 0.5 && [ "$(lost)" = "$before" ]'
t "a link cut for 4 s: its node leaves and comes back" eval 'before=$(lost); cut 4 && [ "$(lost)" -gt "$before" ]'
if [ -n "${FULL-}" ]; then
    t "a link of 5 Mbit/s" bad queued link_slow link_fast 5mbit
    t "a link that loses 2 % of all frames" bad resent lossy link_clean 20
    t "a link of 30 ms each way" bad far link_long link_short 30
fi
t "a link of 30 ms each way that loses 0.5 %" bad far link_long link_short 30 0.5
t "no stream failed, no token changed" load_end
t "all KV pages are free afterwards" all_free
