#!/bin/bash
# A client that goes away frees both nodes; others do not notice.
. tests/lib/cluster.sh

long='{"prompt": "Emma Woodhouse, handsome, clever, and rich,", "max_tokens": 900, "temperature": 0, "stream": true, "ignore_eos": true}'
witness='{"prompt": "It is a truth", "max_tokens": 200, "temperature": 0, "ignore_eos": true}'

# say FILE: what the witness is answered; an error is none
say() { post /v1/completions "$witness" | jq -er '.choices[0].text' >"$1"; }
# 20 clients that leave after 0..190 ms: queued, in prefill, in decode.
leave() {
    local i
    for i in $(seq 0 19); do
        curl -sN -m "0.$(printf %02d $((i * 2 + 1)))" -H 'Content-Type: application/json' -d "$long" "$URL/v1/completions" >/dev/null &
    done
    say "$TMP/witness.b"
    wait
    cmp "$TMP/witness.a" "$TMP/witness.b"
}

idle_soon() {
    local steps before after
    all_free || return 1
    before=$(nodes '[.nodes[].steps] | add')
    sleep 1
    after=$(nodes '[.nodes[].steps] | add')
    steps=$((after - before))
    echo "$steps steps in an idle second"
    [ "$steps" = 0 ]
}

up cancel "$DEMO" || { echo "not ok the cluster starts"; exit 1; }
t "a stream alone" say "$TMP/witness.a"
t "clients that leave do not change another's stream" leave
t "all pages and slots are free, and no step runs" idle_soon
