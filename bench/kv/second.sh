#!/bin/bash
# second.sh: how long after the first token the second comes, beside a decode step: a whole cluster of a prefill
# node and a decode node, one request at a time, no prefix cache.
# usage: second.sh MODEL [TOKENS] [REQUESTS]     of each prompt; defaults: 480 12
# The gap should be the step that gives the second token and what the last layer's pages take. The first step
# after a prompt may be slower than those that follow; what the gap has besides its step is told apart.
# The last line has the median of what the gap is longer than a later step, how much of that is KV or waiting, and
# how many requests failed.
set -u
model=$(realpath "${1:?usage: second.sh MODEL [TOKENS] [REQUESTS]}") tokens=${2:-480} n=${3:-12}
[ -r "$model" ] || { echo "second.sh: $model: no such file" >&2; exit 2; }
bin=$(cd "${TANDEM_BIN:-$(dirname "$0")/../../build/bin}" && pwd) || exit 2
tmp=$(mktemp -d) || exit 1
export TANDEM_RUN_DIR=$tmp
trap '"$bin/tandem" down second >/dev/null 2>&1; rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
port=$((20000 + RANDOM % 12000))

printf 'cluster: second\nmodel: "%s"\nrouter: {http: "127.0.0.1:%s", mode: disaggregated}\nprefill: {nodes: 1, prefix_cache: off}\ndecode: {nodes: 1, prefix_cache: off}\n' \
    "$model" "$port" >"$tmp/c.yaml"
"$bin/tandem" up "$tmp/c.yaml" >"$tmp/up.log" 2>&1 || { tail -1 "$tmp/up.log" >&2; exit 1; }
"$bin/tandem-bench" --base_url="http://127.0.0.1:$port" --tokenizer="$model" --num_prompts="$n" --num_warmups=1 \
    --random_input_len="$tokens" --random_output_len=16 --max_concurrency=1 --progress=off --save_detailed \
    --result_filename="$tmp/r.json" >"$tmp/r.txt" 2>&1 || { tail -3 "$tmp/r.txt" >&2; exit 1; }
[ -z "${KEEP:-}" ] || cp "$tmp/r.json" "$KEEP"
jq -r '
    def median: sort | .[length / 2 | floor];
    def row(name; x): "\(name)\t\(x | min * 1000)\t\(x | median * 1000)";
    [.itls[] | select(length > 2)] as $r | [$r[][0]] as $second | [$r[][1:][]] as $step |
    [$r[] | .[0] - (.[1:] | median)] as $over |
    row("TTST - TTFT: second token minus first"; $second), row("decode step: a later token minus the one before"; $step),
    row("the one beyond the other, of a request"; $over)' "$tmp/r.json" >"$tmp/rows"
awk -F'\t' -v t="$tokens" 'BEGIN { printf "%-50s %10s %10s\n", "prompts of " t " tokens", "best ms", "median ms" }
    { printf "%-50s %10.2f %10.2f\n", $1, $2, $3 }' "$tmp/rows"
jq -r '.stages_ms | "\(.transfer.p50) \(.transfer.max) \(.decode_queue.p50) \(.decode_queue.max)"' "$tmp/r.json" |
    awk '{ printf "%-50s %10.2f\n%-50s %10.2f\n", "of the gap, KV that was not there yet, median", $1, "the longest", $2
           printf "%-50s %10.2f\n", "of the gap, waiting for a step to end, median", $3 }'
failed=$(jq .failed "$tmp/r.json")
echo "second token: $(awk -F'\t' 'END { printf "%.2f", $3 }' "$tmp/rows") ms beyond a later step, $(jq '.stages_ms |
    100 * (.transfer.p50 + .decode_queue.p50) | round / 100' "$tmp/r.json") of it KV or waiting, $failed failed"
[ "$failed" = 0 ]
