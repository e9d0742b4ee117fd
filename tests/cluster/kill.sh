#!/bin/bash
# A node that is killed costs its streams a pause: no token is lost, repeated or changed.
. tests/lib/cluster.sh

body() {
    jq -nc --argjson i "$1" '{prompt: "Captain Wentworth, after a long silence, said to Anne that", max_tokens: (500 + $i), temperature: 0.8, seed: $i, stream: true, ignore_eos: true}'
}
want() {
    local i
    for i in 1 2 3 4; do post /v1/completions "$(body $i)" | sse_text >"$TMP/want.$i"; done
    [ -s "$TMP/want.4" ]
}
# kill_one ROLE: with four streams under way
kill_one() {
    local i bad=0 pid
    for i in 1 2 3 4; do post /v1/completions "$(body $i)" >"$TMP/raw.$i" & done
    sleep 0.3
    pid=$(nodes "[.nodes[] | select(.role == \"$1\") | .pid][0]")
    kill -9 "$pid" || return 1
    wait
    for i in 1 2 3 4; do
        sse_text <"$TMP/raw.$i" >"$TMP/got.$i"
        cmp "$TMP/want.$i" "$TMP/got.$i" || { bad=1; tail -c 300 "$TMP/raw.$i"; }
    done
    return $bad
}
comes_back() {
    local i
    for i in $(seq 100); do
        [ "$(nodes '[.nodes[] | select(.state == "ready")] | length')" = 3 ] && return 0
        sleep 0.1
    done
    nodes '.nodes[] | "\(.name) \(.state)"'
    return 1
}

up kill "$DEMO" || { echo "not ok the cluster starts"; exit 1; }
t "streams without faults" want
t "a decode node killed under four streams changes no byte" kill_one decode
t "the killed decode node comes back" comes_back
t "a prefill node killed under four streams changes no byte" kill_one prefill
t "the killed prefill node comes back" comes_back
t "all KV pages are free afterwards" all_free
