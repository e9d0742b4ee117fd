#!/bin/bash
# A decode node whose KV pages do not suffice for all its streams sets some aside and goes on with them
# later: no stream is refused, cut or changed.
. tests/lib/cluster.sh

N=10
words="She was a woman of mean understanding, little information, and uncertain temper."

body() {
    jq -nc --argjson i "$1" --arg p "$words" \
        '{prompt: ([range(1 + $i % 3) | $p] | join(" ")), max_tokens: (250 + $i), temperature: 0.8, seed: $i, ignore_eos: true, return_token_ids: true}'
}
tokens() { jq -c '.choices[0].token_ids // empty'; }
together() {
    begin
    wait
    as_alone tokens
}
preempted() { sleep 0.5; [ "$(metric tandem_node_preempted_total)" -gt 0 ] || { curl -sS "$URL/metrics" | grep -i preempt; return 1; }; }

MODE=disaggregated DECODE=1 up roomy "$DEMO" || { echo "not ok the cluster starts"; exit 1; }
t "streams alone" alone tokens
down
# 40 pages are 1,280 tokens: four streams and a half of the ten, were each to take all it may.
MODE=disaggregated up tight "$DEMO" "decode: {nodes: 1, kv_pages: 40, slots: 12}" || { echo "not ok a cluster with few pages starts"; exit 1; }
t "$N streams in too few pages change no token" together
t "some were set aside" preempted
t "all KV pages are free afterwards" all_free
down
MODE=disaggregated up noswap "$DEMO" "decode: {nodes: 1, kv_pages: 40, slots: 12, swap: 0}" || { echo "not ok a cluster without swap starts"; exit 1; }
t "without swap they start anew, and change no token" together
t "all KV pages are free afterwards" all_free
