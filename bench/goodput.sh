#!/bin/bash
# goodput.sh: requests that keep their latency targets, on the same cores: tandem disaggregated, tandem
# aggregated, and llama.cpp's llama-server if it is given. One after the other, the same arrivals.
# usage: goodput.sh MODEL [-l LLAMA_SERVER] [-r RATE] [-n REQUESTS] [-p PROMPT] [-o OUTPUT] [-s SPREAD]
#                   [-t TTFT_MS] [-g TPOT_MS] [-f]
#   RATE requests/s (Poisson); PROMPT and OUTPUT mean tokens, each uniform within (1 +- SPREAD) of it
#   defaults: -r 0.12 -n 30 -p 400 -o 64 -s 0 -t 5000 -g 150
#   -f  search the highest rate at which 90 % keep the targets, instead of one rate
# Every system gets every core of this shell's cpuset. The last line says how many runs failed.
set -u
fail() { echo "goodput.sh: $1" >&2; exit 2; }
usage() { sed -n '/^# usage/,/^# Every/p' "$0" | sed '$d;s/^# //' >&2; exit 2; }

rate=0.12 n=30 prompt=400 output=64 spread=0 ttft=5000 tpot=150 llama= find=
[ $# -ge 1 ] || usage
model=$1
shift
while getopts l:r:n:p:o:s:t:g:f flag; do
    case $flag in
    l) llama=$OPTARG ;; r) rate=$OPTARG ;; n) n=$OPTARG ;; p) prompt=$OPTARG ;; o) output=$OPTARG ;;
    s) spread=$OPTARG ;; t) ttft=$OPTARG ;; g) tpot=$OPTARG ;; f) find=1 ;; *) usage ;;
    esac
done
[ -r "$model" ] || fail "$model: no such file"
model=$(realpath "$model")
[ -z "$llama" ] || [ -x "$llama" ] || fail "$llama: not a program"
bin=$(cd "${TANDEM_BIN:-$(dirname "$0")/../build/bin}" && pwd) || fail "build/bin: run make"
tmp=$(mktemp -d) || exit 1
export TANDEM_RUN_DIR=$tmp
server=
stop() {
    [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null
    server=
    "$bin/tandem" down goodput >/dev/null 2>&1
}
trap 'stop; rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
port=$((20000 + RANDOM % 12000))
slots=8

start() { # SYSTEM
    case $1 in
    disaggregated | aggregated)
        printf 'cluster: goodput\nmodel: "%s"\nrouter: {http: "127.0.0.1:%s", mode: %s}\n' \
            "$model" "$port" "$1" >"$tmp/c.yaml"
        printf 'decode: {slots: %s}\n' "$slots" >>"$tmp/c.yaml"
        "$bin/tandem" up "$tmp/c.yaml" >"$tmp/$1.log" 2>&1
        ;;
    llama)
        "$llama" -m "$model" -t "$(nproc)" -np "$slots" -c $((slots * 2560)) --port "$port" \
            >"$tmp/llama.log" 2>&1 &
        server=$!
        ;;
    esac
}

row() { # SYSTEM RESULT
    jq -r --arg s "$1" '[$s, .request_rate, .completed, .failed, .p50_ttft_ms, .p99_ttft_ms,
        .p50_tpot_ms, .p99_itl_ms, .max_itl_ms,
        (if .completed > 0 then 100 * .request_goodput / .request_throughput else 0 end),
        .request_goodput, .output_throughput] | @tsv' "$2" |
        awk '{ printf "%-14s %7.3g %5d %6d %9.0f %9.0f %9.1f %9.1f %9.1f %7.0f%% %9.3f %10.1f\n",
            $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 }'
}

bad=0 best=
echo "$(basename "$model"), prompts $prompt and answers $output tokens +- $spread, targets TTFT $ttft ms and" \
    "TPOT $tpot ms, $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg)"
printf '%-14s %7s %5s %6s %9s %9s %9s %9s %9s %8s %9s %10s\n' system rate/s ok failed ttft_p50 ttft_p99 \
    tpot_p50 itl_p99 itl_max within goodput/s tokens/s
for system in disaggregated aggregated ${llama:+llama}; do
    start "$system" || { echo "$system did not start: $(tail -1 "$tmp/$system.log")"; bad=$((bad + 1)); stop; continue; }
    "$bin/tandem-bench" --base_url="http://127.0.0.1:$port" --tokenizer="$model" --num_prompts="$n" \
        --random_input_len="$prompt" --random_output_len="$output" --random_range_ratio="$spread" \
        --request_rate="$rate" --num_warmups=1 --ready_check_timeout_sec=300 --progress=off \
        --result_filename="$tmp/$system.json" ${find:+--find_goodput} --goodput ttft:"$ttft" tpot:"$tpot" \
        >"$tmp/$system.txt" 2>&1 || { tail -3 "$tmp/$system.txt"; bad=$((bad + 1)); }
    [ ! -s "$tmp/$system.json" ] || row "$system" "$tmp/$system.json"
    [ "$(jq '.failed' "$tmp/$system.json" 2>/dev/null)" = 0 ] || bad=$((bad + 1))
    [ "$system" != disaggregated ] || best=$(jq -r '.request_goodput' "$tmp/$system.json" 2>/dev/null)
    stop
done
echo "bench-goodput: ${best:-0} requests/s, $bad failed"
[ "$bad" -eq 0 ]
