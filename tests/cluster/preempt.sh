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
tokens() { jq -c '.choices[0].token_ids'; }
want() {
    local i
    for i in $(seq $N); do post /v1/completions "$(body "$i")" | tokens >"$TMP/want.$i"; done
    [ -s "$TMP/want.$N" ]
}
together() {
    local i bad=0
    for i in $(seq $N); do post /v1/completions "$(body "$i")" >"$TMP/raw.$i" & done
    wait
    for i in $(seq $N); do
        tokens <"$TMP/raw.$i" >"$TMP/got.$i"
        cmp "$TMP/want.$i" "$TMP/got.$i" || { bad=1; head -c 300 "$TMP/raw.$i"; }
    done
    return $bad
}
preempted() { sleep 0.5; [ "$(metric tandem_node_preempted_total)" -gt 0 ] || { curl -sS "$URL/metrics" | grep -i preempt; return 1; }; }

MODE=disaggregated DECODE=1 up roomy "$DEMO" || { echo "not ok the cluster starts"; exit 1; }
t "streams alone" want
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
