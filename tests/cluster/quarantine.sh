#!/bin/bash
# A request that crashes the engine it touches ends after two nodes; one whose nodes are killed from
# outside goes on, however often. It is the supervisor's word that tells them apart, so the test plays
# both: whichever node computes the request gets SIGSEGV, or SIGKILL. The tier is the slowest, so
# that computing the prompt takes longer than finding out where.
. tests/lib/cluster.sh
MODE=aggregated

request() { # WORD: no cache helps from one test to the next
    post /v1/completions "$(jq -nc --arg w "$1" \
        '{prompt: ([range(140) | $w + " hoped that Captain Wentworth"] | join(" ")), max_tokens: 4, temperature: 0.8, seed: 7}')"
}
all_ready() {
    local i
    for i in $(seq 200); do
        [ "$(nodes '[.nodes[] | select(.role == "decode" and .state == "ready" and .queued + .running == 0)] | length')" = 3 ] && return 0
        sleep 0.1
    done
    echo "three idle decode nodes were waited for in vain"
    return 1
}
# hit SIGNAL TIMES: so many times the node that has the request. Every one is another process.
hit() {
    local i try pid last=
    for i in $(seq "$2"); do
        for try in $(seq 400); do
            pid=$(nodes '[.nodes[] | select(.queued + .running > 0) | .pid][0] // empty' 2>/dev/null)
            [ -n "$pid" ] && [ "$pid" != "$last" ] && break
            sleep 0.02
        done
        kill "-$1" "$pid" || return 1
        last=$pid
    done
}
killed_is_no_fault() {
    all_ready || return 1
    request Anne >"$TMP/want"
    request Anne >"$TMP/got" & req=$!
    hit KILL 5 || return 1
    wait $req
    diff <(jq .choices "$TMP/want") <(jq .choices "$TMP/got") || { cat "$TMP/got"; return 1; }
    [ "$(metric tandem_requests_quarantined_total)" = 0 ]
}
crashed_twice_is_enough() {
    local lost
    all_ready || return 1
    lost=$(metric tandem_nodes_lost_total)
    request Mary >"$TMP/got" & req=$!
    hit SEGV 2 || return 1
    wait $req
    cat "$TMP/got"
    jq -re .error.message "$TMP/got" | grep -q '^the request was on 2 nodes when they crashed.* is not tried on another$' || return 1
    [ "$(metric tandem_requests_quarantined_total)" = 1 ] && [ $(($(metric tandem_nodes_lost_total) - lost)) = 2 ]
}

up quarantine "$DEMO" "cpu: ref" "decode: {nodes: 3, prefix_cache: off}" || { echo "not ok the cluster starts"; exit 1; }
t "five SIGKILLs of the nodes under a request change no byte" killed_is_no_fault
t "two SIGSEGVs of the nodes under a request end it" crashed_twice_is_enough
down
