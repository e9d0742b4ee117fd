#!/bin/bash
# What a token costs the router: a real tandem-router, mock nodes that compute nothing, and
# tandem-bench with N streams at once. CPU is the router's utime + stime, memory its peak.
# usage: router.sh BIN MOCK [native|http]     STREAMS (1000), TOKENS of a stream (100), STEP_MS (100)
# Last line: `bench-router: X us a token, N failed`. Fails if a stream did, if a token took over
# LIMIT_US (20; none: it is only said) of CPU, or if the router ever held over LIMIT_MB (64).
set -eu
bin=$1 mock=$2 how=${3:-native}
streams=${STREAMS:-1000} tokens=${TOKENS:-100} step=${STEP_MS:-100}
model=deploy/demo/austen-5m-q8_0.gguf
tmp=$(mktemp -d /tmp/tandem-bench.XXXXXX)
pids=
trap 'kill $pids 2>/dev/null; wait; rm -rf "$tmp"' EXIT

port=$((20000 + RANDOM % 12000))
"$bin/tandem-router" --model=$model --nodes="ipc://$tmp/nodes" --clients="ipc://$tmp/clients" \
    --http=127.0.0.1:$port --queue-max=65536 --log-level=warn & router=$!
pids=$router
for i in 1 2; do
    "$mock" --model=$model --router="ipc://$tmp/nodes" --role=prefill --name="prefill-$i" \
        --log-level=warn & pids="$pids $!"
    "$mock" --model=$model --router="ipc://$tmp/nodes" --role=decode --name="decode-$i" \
        --step-ms="$step" --log-level=warn & pids="$pids $!"
done
ready() { curl -sS -m 1 "http://127.0.0.1:$port/v1/cluster" 2>/dev/null |
    jq -e '[.nodes[] | select(.state == "ready")] | length == 4' >/dev/null; }
for _ in $(seq 100); do ready && break; sleep 0.1; done

case $how in
native) target="--native=ipc://$tmp/clients --vocab_size=1000" ;;
http) target="--base_url=http://127.0.0.1:$port --tokenizer=$model" ;;
esac
hz=$(getconf CLK_TCK)
cpu() { awk -v hz="$hz" '{ sub(/.*\) /, ""); print ($12 + $13) / hz }' "/proc/$router/stat"; }
before=$(cpu)
# shellcheck disable=SC2086
"$bin/tandem-bench" $target --random_input_len=32 --random_output_len="$tokens" \
    --max_concurrency="$streams" --num_prompts=$((streams * 2)) --result_filename="$tmp/result.json" || true
after=$(cpu)
peak=$(awk '/^VmHWM/ { print $2 / 1024 }' "/proc/$router/status")
jq -r --arg b "$before" --arg a "$after" --arg m "$peak" --arg how "$how" --arg n "$streams" \
    --arg us "${LIMIT_US:-20}" --arg mb "${LIMIT_MB:-64}" '
    (($a | tonumber) - ($b | tonumber)) as $cpu | .total_output_tokens as $t |
    ($cpu * 1e6 / ([$t, 1] | max)) as $value |
    "\($how): \($n) streams at once, \(.completed) finished, \($t) tokens, \(.output_throughput | floor) tokens/s; router: \($cpu * 100 | round / 100) s of CPU, at most \($m) MiB",
    (if $us != "none" and $value > ($us | tonumber) then "more than \($us) us a token" else empty end),
    (if ($m | tonumber) > ($mb | tonumber) then "more than \($mb) MiB" else empty end),
    "bench-router: \($value * 10 | round / 10) us a token, \(.failed) failed"' \
    "$tmp/result.json" | tee "$tmp/out"
! grep -q '^more than' "$tmp/out" && tail -n 1 "$tmp/out" | grep -q ' 0 failed$'
