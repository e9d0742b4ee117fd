#!/bin/bash
# goodput.sh: requests that keep their latency targets, on the same cores: tandem disaggregated, tandem
# aggregated, and llama.cpp's llama-server if it is given. Systems take turns, one at a time on the machine,
# under the same arrivals of each round; what counts are medians over the rounds.
# usage: goodput.sh MODEL [-l LLAMA_SERVER] [-R ROUNDS] [-r RATE[,RATE...]] [-n REQUESTS] [-p PROMPT]
#                   [-o OUTPUT] [-s SPREAD] [-t TTFT_MS] [-g TPOT_MS] [-c ROWS] [-f]
#   RATE requests/s (Poisson); PROMPT and OUTPUT mean tokens, each uniform within (1 +- SPREAD) of it
#   defaults: -R 1 -r 0.12 -n 30 -p 400 -o 64 -s 0 -t 5000 -g 150
#   -c  rows of a prompt in a step of aggregated, if its own choice is not to be (decode.local_tokens)
#   -f  search the highest rate at which 90 % keep the targets, from the first RATE on
# Every system gets every core of this shell's cpuset. The last line has the best of the rates, and how
# many runs of tandem failed.
set -u
fail() { echo "goodput.sh: $1" >&2; exit 2; }
usage() { sed -n '/^# usage/,/^# Every/p' "$0" | sed '$d;s/^# //' >&2; exit 2; }

rounds=1 rates=0.12 n=30 prompt=400 output=64 spread=0 ttft=5000 tpot=150 llama='' rows='' find=''
[ $# -ge 1 ] || usage
model=$1
shift
while getopts l:R:r:n:p:o:s:t:g:c:f flag; do
    case $flag in
    l) llama=$OPTARG ;; R) rounds=$OPTARG ;; r) rates=$OPTARG ;; n) n=$OPTARG ;; p) prompt=$OPTARG ;;
    o) output=$OPTARG ;; s) spread=$OPTARG ;; t) ttft=$OPTARG ;; g) tpot=$OPTARG ;; c) rows=$OPTARG ;;
    f) find=1 ;; *) usage ;;
    esac
done
[ -r "$model" ] || fail "$model: no such file"
model=$(realpath "$model")
[ -z "$llama" ] || [ -x "$llama" ] || fail "$llama: not a program"
[[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "-R $rounds: not a number of rounds"
[[ $rates =~ ^[0-9.]+(,[0-9.]+)*$ ]] || fail "-r $rates: no rates, as 0.1,0.2"
[ -z "$find" ] || rates=${rates%%,*}
bin=$(cd "${TANDEM_BIN:-$(dirname "$0")/../build/bin}" && pwd) || fail "build/bin: run make"
ctx=$("$bin/tandem" inspect "$model" | awk '/\.context_length / { print $3 }')
longest=$(awk -v p="$prompt" -v o="$output" -v s="$spread" 'BEGIN { print int((p + o) * (1 + s) + 0.999) }')
[ "$longest" -le "${ctx:-0}" ] || fail "prompt and answer have up to $longest tokens, the model's context ${ctx:-0}"
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
# llama-server answers 500 where bytes are no UTF-8, which a model of random weights says all the time:
# it may not say single bytes, which stand at 3 to 258 in a vocabulary of SentencePiece.
words=()
case $("$bin/tandem" inspect "$model" | awk '$1 == "tokenizer.ggml.model" { print $3 }') in
*llama*) words=(--extra_body="{\"logit_bias\": [$(seq -s , -f '[%g,false]' 3 258)]}") ;;
esac

start() { # SYSTEM
    case $1 in
    disaggregated | aggregated)
        printf 'cluster: goodput\nmodel: "%s"\nrouter: {http: "127.0.0.1:%s", mode: %s}\n' \
            "$model" "$port" "$1" >"$tmp/c.yaml"
        printf 'decode: {slots: %s%s}\n' "$slots" \
            "$([ "$1$rows" = "aggregated" ] || [ "$1" = disaggregated ] || echo ", local_tokens: $rows")" >>"$tmp/c.yaml"
        "$bin/tandem" up "$tmp/c.yaml" >"$tmp/$1.log" 2>&1
        ;;
    llama)
        "$llama" -m "$model" -t "$(nproc)" -np "$slots" -c $((slots * (longest + 256))) --port "$port" \
            >"$tmp/llama.log" 2>&1 &
        server=$!
        ;;
    esac
}

# load SYSTEM ROUND RATE SEED: runs it and adds a line to $tmp/rows, of the columns of the table.
load() {
    local out=$tmp/$1.json failed body=()
    rm -f "$out"
    [ "$1" != llama ] || body=("${words[@]}")
    "$bin/tandem-bench" --base_url="http://127.0.0.1:$port" --tokenizer="$model" --num_prompts="$n" \
        --random_input_len="$prompt" --random_output_len="$output" --random_range_ratio="$spread" \
        --request_rate="$3" --seed="$4" --num_warmups=1 --ready_check_timeout_sec=300 --progress=off \
        --result_filename="$out" ${find:+--find_goodput} "${body[@]}" --goodput ttft:"$ttft" tpot:"$tpot" \
        >"$tmp/$1.txt" 2>&1 || tail -3 "$tmp/$1.txt"
    failed=$(jq '.failed' "$out" 2>/dev/null)
    [ "$failed" = 0 ] || [ "$1" = llama ] || bad=$((bad + 1))
    [ -s "$out" ] || return
    jq -r --arg s "$1" --arg r "$2" --arg rate "$3" --arg load "$(cut -d' ' -f1 /proc/loadavg)" '
        (if .find_goodput then .find_goodput.request_rate else ($rate | tonumber) end) as $rate |
        [$s, $r, $rate, .completed, .failed, .p50_ttft_ms, .p99_ttft_ms, .p50_tpot_ms, .p99_itl_ms, .max_itl_ms,
         100 * .goodput.attainment, .request_goodput, .output_throughput, $load] | @tsv' "$out" >>"$tmp/rows"
    tail -n 1 "$tmp/rows" | row
    jq -r '.failures | to_entries[] | "    \(.value.count) \(.key): \(.value.first)"' "$out"
}
row() {
    awk '{ printf "%-14s %5s %7.3g %4s %6s %9.0f %9.0f %9.1f %9.1f %9.1f %7.0f%% %9.3f %9.1f %6s\n",
        $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14 }'
}
# Of each system and rate the medians over the rounds, and what they lie between.
summary() {
    sort -s -t "$(printf '\t')" -k1,1 -k3,3g "$tmp/rows" | awk -F '\t' -v find="$find" '
        function gather(c, i, j, x) { # v: the values of column c in order
            for (i = 1; i <= k; i++) {
                for (j = i; j > 1 && v[j - 1] > value[i, c]; j--) v[j] = v[j - 1]
                v[j] = value[i, c]
            }
        }
        function mid(c, format) {
            gather(c)
            return sprintf(format, (v[int((k + 1) / 2)] + v[int(k / 2) + 1]) / 2)
        }
        function told(c, format) {
            return mid(c, format) (k > 1 ? sprintf(" (" format " to " format ")", v[1], v[k]) : "")
        }
        function told_all() {
            if (k)
                print who (find ? " holds " told(3, "%.3f") : " at " rate "/s: " told(12, "%.3f")) " requests/s, " \
                    told(11, "%.0f") " % in time, ITL p99 " told(9, "%.0f") " ms; TTFT p50 " mid(6, "%.0f") " p99 " \
                    mid(7, "%.0f") " ms, TPOT p50 " mid(8, "%.0f") " ms, " mid(13, "%.1f") " tokens/s"
            k = 0
        }
        $1 != who || (!find && $3 != rate) { told_all(); who = $1; rate = $3 }
        { k++; for (c = 3; c <= 13; c++) value[k, c] = $c + 0 }
        END { told_all() }'
}

bad=0
systems="disaggregated aggregated ${llama:+llama}"
: >"$tmp/rows"
echo "$(basename "$model"), prompts $prompt and answers $output tokens +- $spread, targets TTFT $ttft ms and" \
    "TPOT $tpot ms, $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg)"
printf '%-14s %5s %7s %4s %6s %9s %9s %9s %9s %9s %8s %9s %9s %6s\n' system round rate/s ok failed ttft_p50 \
    ttft_p99 tpot_p50 itl_p99 itl_max within goodput/s tokens/s load
for round in $(seq "$rounds"); do
    for system in $systems; do
        if start "$system"; then
            seed=$((100 * round)) # no prompt comes twice to a prefix cache, and each system gets the same
            for rate in ${rates//,/ }; do load "$system" "$round" "$rate" $((++seed)); done
        else
            echo "$system did not start: $(tail -1 "$tmp/$system.log")"
            bad=$((bad + 1))
        fi
        stop
    done
    systems="${systems#* } ${systems%% *}" # who began comes last
done
summary | tee "$tmp/summary"
# Of the rate with the most: requests/s, share in time, ITL p99.
best=$(sed -n 's/^disaggregated \(at [^:]*:\|holds\) \([0-9.]*\).*/\2 &/p' "$tmp/summary" | sort -g | tail -n 1 |
    sed 's/^\([0-9.]*\) .* requests\/s, \([0-9]*\)[^,]* in time, ITL p99 \([0-9]*\).*/\1 requests\/s, \2 % in time, ITL p99 \3 ms/')
echo "bench-goodput: ${best:-0 requests/s}, $bad failed"
[ "$bad" -eq 0 ]
