#!/bin/bash
# A drained node finishes its streams, leaves, and stays away; a request can be explained.
. tests/lib/cluster.sh

N=6
body() {
    jq -nc --argjson i "$1" \
        '{prompt: "Captain Wentworth, after a long silence", max_tokens: 500, temperature: 0.8, seed: $i, stream: true, ignore_eos: true}'
}
drained_under_load() {
    local bad=0
    begin
    sleep 0.1
    "$BIN/tandem" drain --wait_s=20 drain decode-1 || bad=1
    wait
    as_alone sse_text || bad=1
    [ "$(metric tandem_streams_restarted_total)" = 0 ] || { echo "a stream was restarted"; bad=1; }
    return $bad
}
stays_away() {
    sleep 1.5 # longer than the supervisor waits before it starts a dead process again
    [ "$(nodes '[.nodes[].name] | sort | join(" ")')" = "decode-2 prefill-1" ]
}
refused() { ! "$BIN/tandem" drain drain decode-9 2>"$TMP/err" && grep -q "no node is called 'decode-9'" "$TMP/err"; }
explained() {
    local id
    id=$(curl -sS -H 'x-request-id: my-own' -d '{"prompt":"Emma","max_tokens":3}' "$URL/v1/completions" | jq -r .id)
    "$BIN/tandem" explain drain "$id" | tee "$TMP/table" || return 1
    grep -q '^\* .* decode-2 ' "$TMP/table" && grep -q '^observed' "$TMP/table" || return 1
    [ "$("$BIN/tandem" explain --json "$URL" my-own | jq -r '.candidates[0].decode')" = decode-2 ]
}
# no_id ID SENTENCE
no_id() { ! "$BIN/tandem" explain drain "$1" 2>"$TMP/err" && cat "$TMP/err" && grep -qF "$2" "$TMP/err"; }
last_one() { # said, and logged
    local reply
    reply=$("$BIN/tandem" drain --wait_s=0 drain decode-2 2>&1)
    echo "$reply"
    grep -q 'no decode node is left that takes requests: they wait' <<<"$reply" &&
        grep -q 'node=decode-2 was the last decode node that took requests: they wait now' "$TANDEM_RUN_DIR"/*/*/router.log
}
timed() {
    curl -sS -H 'x-tandem-timings: 1' -d '{"prompt":"Emma","max_tokens":30,"ignore_eos":true}' "$URL/v1/completions" >"$TMP/t"
    jq -e '.tandem | .decode_ms > 0 and .prefill_ms > 0 and .restarts == 0 and .decode_node == "decode-2"' "$TMP/t" || { cat "$TMP/t"; return 1; }
}

up drain "$DEMO" || { echo "not ok the cluster starts"; exit 1; }
t "streams without a drain" alone sse_text
t "streams are the same while a node is drained" drained_under_load
t "the node stays away" stays_away
t "an unknown node is named" refused
t "a request is explained by its id and by its x-request-id" explained
t "an answer tells where its time went" timed
t "no id is no request" no_id "" "the id of the request is empty"
t "an id that no request can have" no_id "é-1" "character at 1 that is not printable ASCII"
t "an id that is unknown" no_id "x-9" "no request 'x-9' is running or was among the last that ended"
t "all KV pages are free afterwards" all_free
t "draining the last decode node is said to make requests wait" last_one
