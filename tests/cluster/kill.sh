#!/bin/bash
# A node that is killed costs its streams a pause: no token is lost, repeated or changed.
. tests/lib/cluster.sh
MODE=disaggregated # every prompt by way of a prefill node

N=8 # streams under way when a node is killed
words="Captain Wentworth, after a long silence, said to Anne that"

# a prompt of LENGTH times the words
body() {
    jq -nc --argjson i "$1" --argjson w "$LENGTH" --arg p "$words" \
        '{prompt: ([range($w) | $p] | join(" ")), max_tokens: (300 + $i), temperature: 0.8, seed: $i, stream: true, ignore_eos: true}'
}
# kill_one ROLE: the node with most work, as soon as one has some. Repeated until a stream had to be restarted.
kill_one() {
    local try bad=0 pid before
    for try in $(seq 10); do
        before=$(metric tandem_streams_restarted_total)
        begin
        sleep "0.0$((try + 4))"
        pid=$(nodes "[.nodes[] | select(.role == \"$1\")] | max_by(.running + .queued) | .pid")
        kill -9 "$pid" || bad=1
        wait
        as_alone sse_text || bad=1
        [ "$bad" = 0 ] || return 1
        comes_back || return 1
        [ "$(metric tandem_streams_restarted_total)" -gt "$before" ] && return 0
    done
    echo "no stream was restarted in $try tries: the kill came too early or too late"
    return 1
}
comes_back() {
    local i
    for i in $(seq 100); do
        [ "$(nodes '[.nodes[] | select(.state == "ready")] | length')" = 4 ] && return 0
        sleep 0.1
    done
    nodes '.nodes[] | "\(.name) \(.state)"'
    return 1
}

# Without prefix caches: a prompt is computed at each try, so that there is something to interrupt.
up kill "$DEMO" "prefill: {nodes: 2, prefix_cache: off}" "decode: {nodes: 2, prefix_cache: off}" || { echo "not ok the cluster starts"; exit 1; }
LENGTH=1
t "streams of short prompts without faults" alone sse_text
t "a decode node killed under $N streams changes no byte" kill_one decode
LENGTH=40
t "streams of long prompts without faults" alone sse_text
t "a prefill node killed under $N prompts changes no byte" kill_one prefill
t "all KV pages are free afterwards" all_free
down
PREFILL=2 up killq8 "$DEMO" "kv_type: q8" || echo "not ok a cluster with KV of q8 starts"
LENGTH=1
t "KV of q8: streams without faults" alone sse_text
t "KV of q8: a decode node killed under $N streams changes no byte" kill_one decode
