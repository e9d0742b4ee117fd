#!/bin/bash
# The router moves a node to the other role by itself when the requests are not what the nodes were
# shared out for, and no byte of any stream changes.
. tests/lib/cluster.sh

# Answers long, prompts short: two prefill nodes are one too many. Few slots, so that six streams are a full load.
body() {
    jq -nc --argjson i "$1" '{prompt: "Captain Wentworth said to Anne that", max_tokens: 200, temperature: 0.8, seed: $i, stream: true, ignore_eos: true}'
}
decodes() { nodes '[.nodes[] | select(.role == "decode" and .state == "ready")] | length'; }
moved_by_itself() {
    local i until=$((SECONDS + 120)) bad=0
    post /v1/completions "$(body 1)" | sse_text >"$TMP/want"
    for i in 1 2 3 4 5 6; do
        while [ ! -e "$TMP/enough" ]; do
            post /v1/completions "$(body 1)" | sse_text >"$TMP/got.$i"
            cmp "$TMP/want" "$TMP/got.$i" || touch "$TMP/differs"
        done &
    done
    while [ "$(decodes)" != 3 ] && [ $SECONDS -lt $until ]; do sleep 0.5; done
    touch "$TMP/enough"
    wait
    [ "$(decodes)" = 3 ] || bad=1
    nodes '.nodes[] | "\(.name) \(.role) \(.state) \(.pid)"'
    [ ! -e "$TMP/differs" ] || bad=1
    [ "$(metric tandem_requests_failed_total)" = 0 ] || bad=1
    [ "$(nodes '[.nodes[].pid] | sort | join(" ")')" = "$pids" ] || bad=1
    return $bad
}

MODE=disaggregated ROUTER_MORE="move_roles: on" up roles "$DEMO" "prefill: {nodes: 2, change_role: on, slots: 2}" \
    "decode: {nodes: 2, change_role: on, slots: 2}" || { echo "not ok the cluster starts"; exit 1; }
pids=$(nodes '[.nodes[].pid] | sort | join(" ")')
t "long answers make a prefill node a decode node, as the same process" moved_by_itself
t "the log says so" grep -q 'is to become a decode node' "$TANDEM_RUN_DIR"/*/*/router.log
t "all KV pages are free afterwards" all_free
down
