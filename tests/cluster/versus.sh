#!/bin/bash
# bench/versus.sh: the demo model here, and programs that answer as llama.cpp's do.
. tests/lib/cluster.sh

export TANDEM_BENCH=$BIN/tandem-bench

# Each says what it was asked, and rates that nobody measured.
cat >"$TMP/llama-bench" <<'END'
#!/bin/sh
echo "$@" >>"${0%/*}/asked"
for t in 512,0 128,0 0,64; do
    echo "{\"n_prompt\": ${t%,*}, \"n_gen\": ${t#*,}, \"n_depth\": 0, \"avg_ns\": 5, \"avg_ts\": 8.5, \"stddev_ts\": 0.1}"
done
END
cat >"$TMP/llama-batched-bench" <<'END'
#!/bin/sh
echo "$@" >>"${0%/*}/asked"
for b in 2 16; do
    echo "{\"pp\": 1, \"tg\": 32, \"pl\": $b, \"speed_pp\": 5.0, \"t_tg\": 1.5, \"speed_tg\": $b.25, \"speed\": 7.5}"
done
END
chmod +x "$TMP/llama-bench" "$TMP/llama-batched-bench"

# says PATTERN: in what the run printed; told OPTION...: so often the rival was asked with that
says() { grep -Eq -- "$1" "$TMP/table" || { cat "$TMP/table"; return 1; }; }
told() { [ "$(grep -cFe "$2" "$TMP/asked")" = "$1" ] || { cat "$TMP/asked"; return 1; }; }
versus() {
    rm -f "$TMP/asked"
    bench/versus.sh "$@" >"$TMP/table" 2>"$TMP/err"
}

prompts() {
    versus "$TMP/llama-bench" "$DEMO" -t 1 -r 2 && told 2 "-t 1 -p 512,128 -n 64 -r 1 -o jsonl" &&
        says '^pp512 +8.50 \(8.50\.\.8.50\) +[0-9.]+ \([0-9.]+\.\.[0-9.]+\) +[0-9.]+ +[0-9.]+$' &&
        says '^pp128 +8.50' && says '^tg64 +8.50'
}
batches() {
    versus "$TMP/llama-batched-bench" "$DEMO" -t 1 -r 1 -b 2,16 && told 1 "-npp 1 -ntg 32 -npl 2,16" &&
        told 1 "-c 528 " && says '^tg32@b2 +2.25 ' && says '^tg32@b16 +16.25 .* [0-9.]+$' && ! says '^pp'
}
refusals() {
    versus "$TMP/llama-bench" "$DEMO" -b 2,x && return 1
    grep -q 'b must be a number from 1 up, not "x"' "$TMP/err" || return 1
    versus "$TMP/llama-batched-bench" "$DEMO" -t 1 -r 1 -b 3 && return 1
    grep -q 'gave no figure for tg32@b3: is it a llama-batched-bench?' "$TMP/err" || return 1
    versus "$TMP/llama-bench" "$TMP/none.gguf" && return 1
    grep -q 'no such file' "$TMP/err"
}

t "versus.sh: prompts and one sequence in turns" prompts
t "versus.sh: batches in turns" batches
t "versus.sh: what is wrong is one sentence" refusals
