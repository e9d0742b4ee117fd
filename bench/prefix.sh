#!/bin/bash
# prefix.sh: what a shared system prompt costs: requests that begin alike, and how many prompt tokens the
# cluster computed for them, with the prefix cache on and off.
# usage: prefix.sh MODEL [-s SHARED] [-u OWN] [-n REQUESTS] [-c CONCURRENT]
#   SHARED tokens begin every prompt, OWN follow; defaults: -s 1000 -u 30 -n 50 -c 4
# The last line says what share the cache saved; it fails if that is less than 90 % of what it could.
set -u
fail() { echo "prefix.sh: $1" >&2; exit 2; }
usage() { sed -n '/^# usage/,/^#   SHARED/p' "$0" | sed 's/^# //' >&2; exit 2; }

shared=1000 own=30 n=50 concurrent=4
[ $# -ge 1 ] || usage
model=$1
shift
while getopts s:u:n:c: flag; do
    case $flag in s) shared=$OPTARG ;; u) own=$OPTARG ;; n) n=$OPTARG ;; c) concurrent=$OPTARG ;; *) usage ;; esac
done
[ -r "$model" ] || fail "$model: no such file"
model=$(realpath "$model")
bin=$(cd "${TANDEM_BIN:-$(dirname "$0")/../build/bin}" && pwd) || fail "build/bin: run make"
tmp=$(mktemp -d) || exit 1
export TANDEM_RUN_DIR=$tmp
trap '"$bin/tandem" down prefix >/dev/null 2>&1; rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
port=$((20000 + RANDOM % 12000))

run() { # on|off: prompt tokens computed
    printf 'cluster: prefix\nmodel: "%s"\nrouter: {http: "127.0.0.1:%s", mode: disaggregated}\nprefill: {nodes: 1, prefix_cache: %s}\ndecode: {nodes: 1, prefix_cache: %s}\n' \
        "$model" "$port" "$1" "$1" >"$tmp/c.yaml"
    "$bin/tandem" up "$tmp/c.yaml" >"$tmp/up.log" 2>&1 || { tail -1 "$tmp/up.log" >&2; return 1; }
    "$bin/tandem-bench" --base_url="http://127.0.0.1:$port" --tokenizer="$model" --num_prompts="$n" \
        --random_prefix_len="$shared" --random_input_len="$own" --random_output_len=4 \
        --max_concurrency="$concurrent" --progress=off --result_filename="$tmp/$1.json" >"$tmp/$1.txt" 2>&1 ||
        { tail -3 "$tmp/$1.txt" >&2; return 1; }
    sleep 1 # the next heartbeat
    curl -sS "http://127.0.0.1:$port/v1/cluster" |
        jq "[.nodes[] | select(.role == \"prefill\") | .tokens] | add"
    "$bin/tandem" down prefix >/dev/null
}

total=$((n * (shared + own)))
off=$(run off) && on=$(run on) || { echo "bench-prefix: 0 %, 1 failed"; exit 1; }
for mode in off on; do
    jq -r --arg m "$mode" --argjson t "$total" --argjson c "${!mode}" \
        '"cache \($m): \(.completed) requests, \($c) of \($t) prompt tokens computed, TTFT p50 \(.p50_ttft_ms | round) ms, p99 \(.p99_ttft_ms | round) ms"' \
        "$tmp/$mode.json"
done
saved=$((100 * (off - on) / off)) could=$((100 * (n - 1) * shared / total))
bad=$((saved * 10 < could * 9 ? 1 : 0))
echo "bench-prefix: $saved % of the prompt tokens saved, $bad failed"
[ "$bad" = 0 ]
