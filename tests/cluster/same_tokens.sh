#!/bin/bash
# Streams of a cluster equal those of one process, alone and among others, token for token.
. tests/lib/cluster.sh
MODE=disaggregated # every prompt by way of a prefill node

# Eight prompts of different lengths, from one word to several chunks of the prefill node.
words="It is a truth universally acknowledged, that a single man in possession of a good fortune"
prompts=()
for i in 1 2 3 4 5 6 7 8; do
    p=
    for ((j = 0; j < i * i; j++)); do p="$p $words and number $j."; done
    case $i in 1) p="Emma" ;; 8) p="${p:0:2400}" ;; esac
    prompts+=("${p:0:2600}")
done

# body I TEMPERATURE STREAM
body() {
    jq -nc --arg p "${prompts[$1]}" --argjson n $((10 + 13 * $1)) --argjson t "$2" --argjson s "$3" --argjson seed "$1" \
        '{prompt: $p, max_tokens: $n, temperature: $t, top_p: 0.95, seed: $seed, stream: $s, ignore_eos: true, return_token_ids: true}'
}

solo() {
    local i
    for i in "${!prompts[@]}"; do
        post /v1/completions "$(body "$i" "$1" false)" >"$TMP/solo.$1.$i"
        jq -e '.choices[0].token_ids | length > 0' "$TMP/solo.$1.$i" >/dev/null || { cat "$TMP/solo.$1.$i"; return 1; }
    done
}

together() {
    local i bad=0
    for i in "${!prompts[@]}"; do
        post /v1/completions "$(body "$i" "$1" true)" >"$TMP/many.$1.$i" &
    done
    wait
    for i in "${!prompts[@]}"; do
        jq -j '.choices[0].text' "$TMP/solo.$1.$i" >"$TMP/a"
        sse_text <"$TMP/many.$1.$i" >"$TMP/b"
        cmp "$TMP/a" "$TMP/b" || { echo "prompt $i"; bad=1; }
        jq -c '.choices[0].token_ids[]' "$TMP/solo.$1.$i" >"$TMP/a"
        sed -n 's/^data: //p' "$TMP/many.$1.$i" | grep -v DONE | jq -c '.choices[0].token_ids // [] | .[]' >"$TMP/b"
        cmp "$TMP/a" "$TMP/b" || { echo "tokens of prompt $i"; bad=1; }
    done
    return $bad
}

both_decoded() {
    nodes '[.nodes[] | select(.role == "decode") | .tokens] | "\(.)"'
    [ "$(nodes '[.nodes[] | select(.role == "decode" and .tokens > 0)] | length')" = 2 ]
}

# The ids of the single-process engine for each prompt, with KV of type $1.
as_one_process() {
    local i bad=0
    for i in "${!prompts[@]}"; do
        "$BIN/tandem" tokenize --model "$DEMO" "${prompts[$i]}" >"$TMP/ids" || return 1
        "$BIN/tandem" eval --model "$DEMO" --tokens "$TMP/ids" --kv_type "$1" --greedy $((10 + 13 * i)) | tr ' ' '\n' >"$TMP/a"
        jq '.choices[0].token_ids[]' "$TMP/solo.0.$i" >"$TMP/b"
        cmp "$TMP/a" "$TMP/b" || { echo "prompt $i"; bad=1; }
    done
    return $bad
}

# The reference's greedy continuation of the trained golden models, through the cluster.
reference() {
    local name=$1 line=0 ids
    while read -r ids && [ $((line++)) -lt 3 ]; do
        post /v1/completions "{\"prompt\": [${ids// /, }], \"max_tokens\": 200, \"temperature\": 0, \"ignore_eos\": true, \"return_token_ids\": true}" |
            jq -r '.choices[0].token_ids | map(tostring) | join(" ")' >>"$TMP/$name.greedy"
    done <"$DATA/golden/$name.tokens"
    diff "$TMP/$name.greedy" "$DATA/golden/$name.greedy"
}

up same "$DEMO" || { echo "not ok the cluster starts"; exit 1; }
t "each prompt alone, greedy" solo 0
t "each prompt alone, temperature 0.8 with a seed" solo 0.8
t "8 at once equal the same alone, greedy" together 0
t "8 at once equal the same alone, temperature 0.8 with a seed" together 0.8
t "both decode nodes took part" both_decoded
t "greedy streams equal the single-process engine" as_one_process auto
t "all KV pages are free afterwards" all_free
down
up q8 "$DEMO" "kv_type: q8" || echo "not ok a cluster with KV of q8 starts"
t "KV of q8: each prompt alone, greedy" solo 0
t "KV of q8: 8 at once equal the same alone" together 0
t "KV of q8: streams equal the single-process engine" as_one_process q8
down
for name in stories260K-f32 babyllama-f32; do
    if [ ! -r "$DATA/golden/$name.gguf" ]; then
        echo "skip $name: no test data golden/$name.gguf"
        continue
    fi
    up "g$name" "$DATA/golden/$name.gguf" "kv_type: f32" || # as the reference has it
        { echo "not ok $name starts"; continue; }
    t "$name: greedy equals the reference" reference "$name"
    down
done
