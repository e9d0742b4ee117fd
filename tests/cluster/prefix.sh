#!/bin/bash
# KV from the prefix cache has the bits that computing it again would give: the same tokens with the
# cache, without it, with one too small for its prompts, alone and among others.
. tests/lib/cluster.sh
MODE=disaggregated # every prompt by way of a prefill node

words="It is a truth universally acknowledged, that a single man in possession of a good fortune"
common=
for ((j = 0; j < 22; j++)); do common="$common $words and number $j."; done
# Beginnings of one page to some thirty, each continued in two ways; the last two differ at once.
prompts=()
for n in 90 160 700 1500 2000; do
    prompts+=("${common:0:n} Emma" "${common:0:n}, said he, must be in want of a wife")
done
prompts+=("$common" "X$common")

# body I TEMPERATURE
body() {
    jq -nc --arg p "${prompts[$1]}" --argjson n $((6 + 3 * $1)) --argjson t "$2" --argjson seed "$1" \
        '{prompt: $p, max_tokens: $n, temperature: $t, seed: $seed, ignore_eos: true, return_token_ids: true}'
}

# ask NAME TEMPERATURE: every prompt, one after the other.
ask() {
    local i
    for i in "${!prompts[@]}"; do
        post /v1/completions "$(body "$i" "$2")" | jq -c '.choices[0].token_ids' >"$TMP/$1.$2.$i"
        grep -q '[0-9]' "$TMP/$1.$2.$i" || { echo "prompt $i: no tokens"; return 1; }
    done
}

together() {
    local i
    for i in "${!prompts[@]}"; do
        post /v1/completions "$(body "$i" "$2")" | jq -c '.choices[0].token_ids' >"$TMP/$1.$2.$i" &
    done
    wait
}

# same COMMAND NAME TEMPERATURE: as without the cache.
same() {
    local i bad=0
    "$@" || return 1
    for i in "${!prompts[@]}"; do
        cmp "$TMP/off.$3.$i" "$TMP/$2.$3.$i" || { echo "prompt $i"; bad=1; }
    done
    return $bad
}

# hits OP N: prompt tokens that the prefill node found.
hits() {
    local n
    sleep 0.5 # a beat
    n=$(nodes '[.nodes[] | select(.role == "prefill") | .hit_tokens] | add')
    echo "$n tokens found"
    [ "$n" "$1" "$2" ]
}

up off "$DEMO" "prefill: {nodes: 1, prefix_cache: off}" "decode: {nodes: 2, prefix_cache: off}" || { echo "not ok the cluster starts"; exit 1; }
t "without a cache, greedy" ask off 0
t "without a cache, temperature 0.8" ask off 0.8
t "nothing is found" hits -eq 0
down
up on "$DEMO" || { echo "not ok the cluster starts"; exit 1; }
t "with the cache, greedy" same ask on 0
t "beginnings are found" hits -gt 1500
t "again, all known, greedy" same ask on 0
t "all known, temperature 0.8" same ask on 0.8
t "12 at once, greedy" same together on 0
t "no page is lost" all_free
down
up small "$DEMO" "prefill: {nodes: 1, kv_pages: 64, prefix_pages: 8}" || { echo "not ok the cluster starts"; exit 1; }
t "a small cache, greedy" same ask small 0
t "a small cache, 12 at once, temperature 0.8" same together small 0.8
t "no page of the small one is lost" all_free
down
