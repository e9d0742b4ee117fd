#!/bin/bash
# A cluster of decode nodes alone gives the streams that a disaggregated one gives.
. tests/lib/cluster.sh

words="It is a truth universally acknowledged, that a single man in possession of a good fortune"

# body I: a prompt of i * i times the words
body() {
    jq -nc --argjson i "$1" --arg p "$words" \
        '{prompt: ([range($i * $i) | $p] | join(" ")), max_tokens: 60, temperature: 0.8, seed: $i, stream: true, ignore_eos: true}'
}
# together WHERE: five at once
together() {
    local i
    for i in $(seq 5); do post /v1/completions "$(body "$i")" | sse_text >"$TMP/$1.$i" & done
    wait
    for i in $(seq 5); do [ -s "$TMP/$1.$i" ] || { echo "nothing came for request $i"; return 1; }; done
}
same() {
    local i
    for i in $(seq 5); do cmp "$TMP/pairs.$i" "$TMP/alone.$i" || return 1; done
}
placed() { curl -sS -m 5 "$URL/metrics" | sed -n "s/^tandem_placed_total{rung=\"$1\"} //p"; }

up pairs "$DEMO" || { echo "not ok the cluster starts"; exit 1; }
t "streams of pairs" together pairs
down
up alone "$DEMO" || { echo "not ok the cluster starts"; exit 1; }
down
sed -i -e '/^prefill:/d' -e 's/^router: {/router: {mode: aggregated, /' "$TMP/alone.yaml"
URL=http://$(sed -n 's/.*http: "\(.*\)"}/\1/p' "$TMP/alone.yaml")
CLUSTER=alone
t "a cluster without prefill nodes starts" "$BIN/tandem" up "$TMP/alone.yaml"
t "it has no prefill node" [ "$(nodes '[.nodes[].role] | unique | join(" ")')" = decode ]
t "streams of decode nodes alone" together alone
t "token for token the same" same
t "all were placed as the mode says" [ "$(placed local)" = 5 ]
t "all KV pages are free afterwards" all_free
down
PREFILL=0 up alone "$DEMO" || { echo "not ok a cluster of 0 prefill nodes starts"; exit 1; }
t "0 prefill nodes are none" [ "$(nodes '[.nodes[].role] | join(" ")')" = "decode decode" ]
t "streams of it" together alone
t "are the same, too" same
