#!/bin/bash
# A node that is stopped and goes on later, and a router that is killed: no stream says a wrong word.
. tests/lib/cluster.sh

N=6
body() {
    jq -nc --argjson i "$1" \
        '{prompt: "Captain Wentworth, after a long silence", max_tokens: 800, temperature: 0.8, seed: $i, stream: true, ignore_eos: true}'
}
pid_of() { nodes ".nodes[] | select(.name == \"$1\") | .pid"; }
n_ready() { nodes '[.nodes[] | select(.state == "ready")] | length'; }
# back_within SECONDS: all three nodes are ready
back_within() {
    local i
    for i in $(seq $(($1 * 10))); do
        [ "$(n_ready 2>/dev/null)" = 3 ] && return 0
        sleep 0.1
    done
    nodes '.nodes[] | "\(.name) \(.state)"'
    return 1
}
# Stops decode-1 under the streams; repeated until it had one of them to lose.
stopped() {
    local try bad=0 pid before
    for try in $(seq 8); do
        before=$(metric tandem_streams_restarted_total)
        pid=$(pid_of decode-1)
        begin
        sleep "0.$((try + 1))"
        kill -STOP "$pid"
        wait
        kill -CONT "$pid"
        as_alone sse_text || bad=1
        [ "$(metric tandem_requests_quarantined_total)" = 0 ] || { echo "a stream was blamed"; bad=1; }
        [ "$bad" = 0 ] || return 1
        [ "$(metric tandem_streams_restarted_total)" -gt "$before" ] && return 0
        back_within 10 || return 1
    done
    echo "no stream was restarted in $try tries"
    return 1
}
goes_on() {
    back_within 10 && [ "$(nodes '[.nodes[] | select(.name == "decode-1")] | length')" = 1 ]
}
router_killed() {
    local pid i
    pid=$(pgrep -f "^[^ ]*/tandem-router .*--http=${URL#http://}")
    [ -n "$pid" ] || { echo "no router found"; return 1; }
    kill -9 "$pid"
    for i in $(seq 100); do # the supervisor starts it again
        sleep 0.1
        curl -sS -m 1 "$URL/health" >/dev/null 2>&1 && break
    done
    back_within 3
}
again() { post /v1/completions "$(body 1)" | sse_text >"$TMP/got.1" && cmp "$TMP/want.1" "$TMP/got.1"; }

up pause "$DEMO" || { echo "not ok the cluster starts"; exit 1; }
t "streams without faults" alone sse_text
t "a decode node stopped under $N streams changes no byte" stopped
t "it comes back once it goes on" goes_on
t "all KV pages are free afterwards" all_free
t "a router that was killed has its nodes again within 3 s" router_killed
t "and gives the same stream" again
t "all KV pages are free again" all_free
