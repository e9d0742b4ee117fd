#!/bin/bash
# On one host a decode node maps the prefill node's pages and reads KV there; where it cannot, or must not, KV
# comes in frames. The streams are the same, and no prefill node converts anything.
. tests/lib/cluster.sh
MODE=disaggregated # every prompt by way of a prefill node

N=4
words="Lady Russell had only to listen composedly, and wish them happy, but"

body() {
    jq -nc --argjson i "$1" --arg p "$words" \
        '{prompt: ([range(6 * $i) | $p] | join(" ")), max_tokens: 40, temperature: 0.8, seed: $i, stream: true, ignore_eos: true}'
}
# of ROLE METRIC: of all its nodes together
of() {
    local address
    for address in $(nodes ".nodes[] | select(.role == \"$1\") | .metrics"); do
        curl -sS -m 5 "http://$address/metrics"
    done | awk -v n="$2" '{ split($1, a, "{") } a[1] == n { s += $2 } END { printf "%d\n", s }'
}
same() { begin; wait; as_alone sse_text; }
said() { grep -h "$1" "$TMP"/run/*/*/decode-*.log; }
read_there() { # all of it, what ends a prompt too
    local read kv
    read=$(of decode tandem_kv_read_bytes_total) kv=$(of decode tandem_kv_bytes_total)
    echo "$read of $kv bytes were read"
    [ "$kv" -gt 0 ] && [ "$read" = "$kv" ]
}
in_frames() { [ "$(of decode tandem_kv_read_bytes_total)" = 0 ] && [ "$(of decode tandem_kv_bytes_total)" -gt 0 ]; }
# converted LEAST MOST: bytes, by the prefill nodes
converted() {
    local n
    n=$(of prefill tandem_kv_converted_bytes_total)
    echo "$n bytes were converted"
    [ "$n" -ge "$1" ] && [ "$n" -le "$2" ]
}
once() { # SENTENCE: one a connection, however many streams it has had
    said "$1" && [ "$(said "$1" | wc -l)" -le "$(nodes '[.nodes[] | select(.role == "decode")] | length')" ]
}
no_bad_page() { [ "$(of decode tandem_pages_bad_total)" = 0 ]; }
# elsewhere: another prefill node, in a pid namespace of its own, which the decode nodes cannot look into
elsewhere() {
    local i hand
    unshare --pid --fork --kill-child "$BIN/tandem-prefill" --cluster="$CLUSTER" --name=hand-1 --model="$DEMO" \
        --router="ipc://$(echo "$TMP"/run/tandem-*/"$CLUSTER")/nodes.sock" >"$TMP/hand.log" 2>&1 &
    hand=$!
    disown
    for i in $(seq 100); do
        [ "$(nodes '[.nodes[] | select(.name == "hand-1" and .state == "ready")] | length')" = 1 ] && break
        sleep 0.1
    done
    for i in $(seq 10); do # until the router chose it
        same || return 1
        said "peer=hand-1 KV comes in frames: it runs on another machine, or in another namespace" && break
    done
    kill -9 $hand
    said "peer=hand-1 KV comes in frames"
}

up paths "$DEMO" "prefill: {nodes: 1, prefix_cache: off}" "decode: {nodes: 2, prefix_cache: off}" || { echo "not ok the cluster starts"; exit 1; }
t "streams alone" alone sse_text
t "$N streams at once" same
t "their KV was read where it lay" read_there
t "nothing was converted to be sent" converted 0 0
t "the log says so once" once "KV is read from its memory"
t "every page was right" no_bad_page
if unshare --pid --fork true 2>/dev/null; then
    t "a prefill node in another namespace sends frames" elsewhere
else
    echo "skip a prefill node in another namespace: the system lets us make none"
fi
down
up frames "$DEMO" "prefill: {nodes: 1, prefix_cache: off}" "decode: {nodes: 2, prefix_cache: off, kv_path: frames}" || echo "not ok a cluster with frames starts"
t "the same streams with kv_path: frames" same
t "their KV came in frames" in_frames
t "nothing was converted to be sent" converted 0 0
t "the log says why once" once "KV comes in frames: kv_path is frames"
down
# f32 may go between nodes whose types differ: the one wire that is converted.
up rows "$DEMO" "prefill: {nodes: 1, prefix_cache: off, kv_wire: f32}" "decode: {nodes: 2, prefix_cache: off, kv_wire: f32}" || echo "not ok a cluster with kv_wire: f32 starts"
t "the same streams with kv_wire: f32" same
t "all of it came in frames" in_frames
t "for no memory is offered" once "KV comes in frames: it makes no offer"
t "all of it was converted" converted "$(of decode tandem_kv_bytes_total)" "$(of decode tandem_kv_bytes_total)"
down
