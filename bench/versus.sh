#!/bin/sh
# versus.sh: prompt and generation rates of llama.cpp and of tandem on one file, A B A B ...
# usage: versus.sh LLAMA_BENCH MODEL [-t THREADS] [-r ROUNDS] [-c TIER] [-b BATCHES]
#   LLAMA_BENCH  llama.cpp's llama-bench, which must know `-o jsonl` (any since 2024-11)
#   -t           threads of both, default: all processors;  -r  rounds, default 5
#   -c           tandem's kernel tier, default auto
#   -b           such as 1,16,32: LLAMA_BENCH is llama-batched-bench, and the tests are 32 steps of so many
#                sequences, each after one token
# tandem-bench is taken from $TANDEM_BENCH, or from build/bin beside this folder.
# A round runs each program once: pp512, pp128 and tg64 of one sequence, with its own warm-up. The
# table has the median and min..max of the rounds. Neither is pinned; for that: taskset -c 0 versus.sh ...
set -u
fail() { echo "versus.sh: $1" >&2; exit "${2:-2}"; }
usage() { sed -n '3s/^# //p' "$0" >&2; exit 2; }

here=$(cd "$(dirname "$0")" && pwd)
ours=${TANDEM_BENCH:-$here/../build/bin/tandem-bench}
threads=$(nproc) rounds=5 tier=auto batches=
[ $# -ge 2 ] || usage
rival=$1 model=$2
shift 2
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    case $1 in
    -t) threads=$2 ;;
    -r) rounds=$2 ;;
    -c) tier=$2 ;;
    -b) batches=$2 ;;
    *) usage ;;
    esac
    shift 2
done
number() { case $2 in '' | *[!0-9]* | 0*) fail "$1 must be a number from 1 up, not \"$2\"" ;; esac; }
number -t "$threads"
number -r "$rounds"
for b in $(echo "$batches" | tr , ' '); do number -b "$b"; done
command -v "$rival" >/dev/null || fail "$rival: no such program; give the path of llama.cpp's llama-bench"
[ -x "$ours" ] || fail "$ours: no such program; run make, or set TANDEM_BENCH"
[ -f "$model" ] || fail "$model: no such file"
[ -r "$model" ] || fail "$model: not readable"
[ "$(head -c 4 "$model")" = GGUF ] || fail "$model: not a GGUF file"

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM

tests="pp512 pp128 tg64" cases="--pp 512,128 --tg 64 --batch 1 --ctx 0" tail="@.*" form="llama-bench with -o jsonl"
if [ -n "$batches" ]; then
    tests=$(echo "$batches" | sed 's/^/tg32@b/; s/,/ tg32@b/g')
    cases="--pp= --tg 32 --batch $batches --ctx 1" tail="c1$" form=llama-batched-bench
    tokens=$((33 * $(echo "$batches" | tr , '\n' | sort -n | tail -1)))
fi

rival_says() { # PROGRAM'S ARGUMENTS...
    "$rival" -m "$model" -t "$threads" "$@" >"$tmp/out" 2>"$tmp/err" || {
        tail -3 "$tmp/err" >&2
        fail "$rival failed (above its last words)" 1
    }
}
run_rival() { # appends "TEST RATE"
    if [ -n "$batches" ]; then
        rival_says -c "$tokens" -npp 1 -ntg 32 -npl "$batches" --output-format jsonl
        sed -n 's/.*"pl": *\([0-9]*\),.*"speed_tg": *\([0-9.]*\).*/tg32@b\1 \2/p' "$tmp/out" >>"$tmp/rival"
        return
    fi
    rival_says -p 512,128 -n 64 -r 1 -o jsonl
    sed -n 's/.*"n_prompt": *\([0-9]*\),.*"n_gen": *\([0-9]*\),.*"avg_ts": *\([0-9.]*\).*/\1 \2 \3/p' "$tmp/out" |
        awk '{ print ($1 > 0 ? "pp" $1 : "tg" $2), $3 }' >>"$tmp/rival"
}
run_ours() {
    # shellcheck disable=SC2086 # words on purpose
    "$ours" engine --model "$model" --threads "$threads" --cpu "$tier" $cases --repeat 1 --json - \
        >"$tmp/out" 2>"$tmp/err" || {
        tail -3 "$tmp/err" >&2
        fail "tandem-bench failed (above its last words)" 1
    }
    awk -F'"' -v tail="$tail" '/"tier"/ { tier = $4 } /"test"/ { sub(tail, "", $4); test = $4 }
        /"median"/ && test { gsub(/[^0-9.e+-]/, "", $3); print test, $3; test = "" }
        END { print tier >"'"$tmp"'/tier" }' "$tmp/out" >>"$tmp/ours"
}
spread() { # FILE TEST: median min max
    awk -v t="$2" '$1 == t { print $2 }' "$1" | sort -n |
        awk '{ a[NR] = $1 } END { if (NR) print (NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2), a[1], a[NR] }'
}

for i in $(seq "$rounds"); do
    echo "round $i of $rounds: llama.cpp" >&2
    run_rival
    echo "round $i of $rounds: tandem" >&2
    run_ours
done
for t in $tests; do
    grep -q "^$t " "$tmp/rival" || fail "$rival gave no figure for $t: is it a $form?" 1
    grep -q "^$t " "$tmp/ours" || fail "$ours gave no figure for $t" 1
done
echo "$(basename "$model"), $threads threads, $rounds rounds, tandem tier $(cat "$tmp/tier"), load $(cut -d' ' -f1 /proc/loadavg)"
printf '%-9s %30s %30s %8s %8s\n' tokens/s 'llama.cpp median (min..max)' 'tandem median (min..max)' ratio best
for t in $tests; do
    a=$(spread "$tmp/rival" "$t") b=$(spread "$tmp/ours" "$t")
    echo "$t $a $b" | awk '{
        l = sprintf("%.2f (%.2f..%.2f)", $2, $3, $4); o = sprintf("%.2f (%.2f..%.2f)", $5, $6, $7)
        printf "%-9s %30s %30s %8.2f %8.2f\n", $1, l, o, $5 / $2, $7 / $4 }'
done
