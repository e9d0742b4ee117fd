#!/bin/bash
# tandem-bench against a real cluster: what it counts, what it writes, what it says of what is wrong.
. tests/lib/cluster.sh
TRACE=$TMP/trace.jsonl
LOAD="--tokenizer=$DEMO --random-input-len=48 --random-output-len=8 --progress=off"

# bench FLAGS...: its table in $TMP/said. Words of $LOAD are flags.
# shellcheck disable=SC2086
bench() { timeout 120 "$BIN/tandem-bench" --base-url="$URL" $LOAD "$@" >"$TMP/said" 2>&1; }

# has TEXT: the table, or what is wrong, has it.
has() { grep -qF -- "$1" "$TMP/said" || { echo "missing \"$1\" in:"; cat "$TMP/said"; return 1; }; }

# is FILTER VALUE: of the JSON result.
is() {
    local got
    got=$(jq -r "$1" "$TMP/result.json")
    [ "$got" = "$2" ] || { echo "$1 is $got, not $2"; return 1; }
}

counts() {
    bench --num-prompts=12 --max-concurrency=3 --num-warmups=2 --goodput ttft:60000 tpot:60000 \
        --price-per-hour=1 --save-detailed --result-filename="$TMP/result.json" --html="$TMP/report.html" \
        --csv="$TMP/rows.csv" --jsonl="$TMP/rows.jsonl" --trace="$TMP/trace.json" || { cat "$TMP/said"; return 1; }
    has "12 ok, 0 failed" && has "where a request's time went" && has "prefill-1" &&
        is .completed 12 && is .failed 0 && is .total_input_tokens $((12 * 48)) && is .total_output_tokens $((12 * 8)) &&
        is .prompt_token_mismatches 0 && is .output_token_mismatches 0 && is .goodput.good 12 &&
        is '.ttfts | length' 12 && is '.itls[0] | length' 7 && is '.max_concurrent_requests <= 3' true &&
        is '[.mean_ttft_ms, .median_tpot_ms, .p99_itl_ms, .p95_e2el_ms, .request_throughput, .output_throughput,
            .cost_per_1000_requests, .stages_ms.prefill.mean, .stages_ms.decode.mean] | all(. > 0)' true &&
        [ "$(wc -l <"$TMP/rows.csv")" -eq 13 ] && [ "$(jq -c .outcome "$TMP/rows.jsonl" | sort | uniq -c | xargs)" = '12 ok' ] &&
        [ "$(jq '[.traceEvents[] | select(.name | startswith("request"))] | length' "$TMP/trace.json")" -eq 12 ]
}

# All in one file: every chart of a single run, and nothing from elsewhere.
page() {
    local title
    for title in "Latency by percentile" "first token by prompt length" "on its way through the nodes" \
        "Requests in time" "Output tokens over time" "Requests in flight"; do
        grep -q "$title" "$TMP/report.html" || { echo "no chart \"$title\""; return 1; }
    done
    ! grep -nE 'src=|href=|@import|url\(|<script' "$TMP/report.html" && grep -q 'prefers-color-scheme:dark' "$TMP/report.html" &&
        ! grep -nE '(x|y|width|height|cx|cy|d)="[^"]*(nan|inf)' "$TMP/report.html"
}

open_loop() {
    bench --num-prompts=20 --request-rate=200 --burstiness=0.5 --result-filename="$TMP/result.json" ||
        { cat "$TMP/said"; return 1; }
    is .completed 20 && is .loop open && is .start_lag_ms.n 20
}

trace() {
    printf '{"timestamp": %s, "input_length": 40, "output_length": 4, "hash_ids": [%s]}\n' 0 1 100 1 200 2 >"$TRACE"
    bench --dataset-name=mooncake --dataset-path="$TRACE" --result-filename="$TMP/result.json" || { cat "$TMP/said"; return 1; }
    is .completed 3 && is .total_input_tokens 120 && is .total_output_tokens 12
}

# The second prompt has the first, its answer and the second question in it.
chat() {
    printf '{"turns": ["She was", "He said", "They"], "output_tokens": 6}\n' >"$TMP/chat.jsonl"
    bench --dataset-name=custom --dataset-path="$TMP/chat.jsonl" --turns=3 --num-prompts=2 --ignore-eos \
        --max-concurrency=1 --save-detailed --result-filename="$TMP/result.json" || { cat "$TMP/said"; return 1; }
    is .completed 6 && is '.input_lens[0] + 6 <= .input_lens[1] and .input_lens[1] + 6 <= .input_lens[2]' true
}

cancels() {
    bench --num-prompts=10 --max-concurrency=2 --request-cancellation-rate=100 --request-cancellation-delay=0 \
        --random-output-len=500 --result-filename="$TMP/result.json" && { echo "no request succeeded, but the code is 0"; return 1; }
    is '.completed + .client_cancelled' 10 && is '.client_cancelled > 0' true && all_free
}

native() {
    local endpoint
    endpoint=ipc://$(ls "$TANDEM_RUN_DIR"/tandem-*/"$CLUSTER"/clients.sock)
    bench --native="$endpoint" --num-prompts=8 --max-concurrency=2 --result-filename="$TMP/result.json" || { cat "$TMP/said"; return 1; }
    is .completed 8 && is .total_output_tokens 64
}

sweep() {
    bench --sweep=50,100 --num-prompts=10 --goodput=ttft:60000 --html="$TMP/report.html" --result-filename="$TMP/result.json" ||
        { cat "$TMP/said"; return 1; }
    is '.points | length' 2 && is '[.points[].attainment] | add' 2 && grep -q "Goodput by rate" "$TMP/report.html"
}

# A target that no rate can keep: the search ends early and says so.
search() {
    bench --find-goodput --request-rate=64 --num-prompts=8 --goodput=ttft:0.001 --timeout=20 --result-filename="$TMP/result.json"
    has "no rate that was tried keeps the targets" && is .find_goodput.request_rate 0 && is '.points[0].attainment' 0
}

against() {
    bench --against="$URL" --rounds=2 --num-prompts=8 --max-concurrency=2 --result-filename="$TMP/result.json" || { cat "$TMP/said"; return 1; }
    is .completed 8 && is .against.completed 8 && has "B/A"
}

killed() {
    bench --kill=decode:1@100ms --num-prompts=30 --request-rate=60 --random-output-len=40 --result-filename="$TMP/result.json"
    is .faults.requests_compared 30 && is .faults.tokens_lost 0 && is .faults.tokens_repeated 0 &&
        is .faults.tokens_changed 0 && is .faults.requests_failed 0
}

compare() {
    "$BIN/tandem-bench" compare "$TMP/result.json" "$TMP/result.json" >"$TMP/said" 2>&1 && has "1.000x" || return 1
    "$BIN/tandem-bench" compare "$TMP/result.json" "$TRACE" >"$TMP/said" 2>&1
    [ $? -eq 1 ] && has "trace.jsonl" && [ "$(wc -l <"$TMP/said")" -eq 1 ]
}

# refuses CODE TEXT FLAGS...: exit code, and one sentence with TEXT in it.
refuses() {
    local code=$1 text=$2 rc
    shift 2
    bench "$@"
    rc=$?
    [ "$rc" -eq "$code" ] || { echo "$*: exit code $rc"; cat "$TMP/said"; return 1; }
    has "$text" && [ "$(wc -l <"$TMP/said")" -eq 1 ]
}

bad_input() {
    printf '{"timestamp": 0, "input_length": 4, "output_length": 4}\n{"timestamp": 1, "input_' >"$TRACE"
    refuses 1 "trace.jsonl:2: column" --dataset-name=mooncake --dataset-path="$TRACE" &&
        refuses 1 "cannot connect" --base-url=http://127.0.0.1:1 &&
        refuses 1 "nosuch.gguf" --tokenizer=nosuch.gguf &&
        refuses 1 "nosuch.json" --roofline=nosuch.json &&
        refuses 2 "--find-goodput needs --goodput" --find-goodput &&
        refuses 2 "is not NAME:MS" --goodput=ttft &&
        refuses 2 "is not ROLE:NUMBER@TIME" --kill=decode@3 &&
        refuses 2 "did you mean --num_prompts?" --num-prompt=3
}

# A model that is not there: each request fails, with its number; the report is written all the same.
all_fail() {
    bench --served-model-name=other --num-prompts=4 --result-filename="$TMP/result.json" && return 1
    has "0 ok, 4 failed" && has "request 0: the model 'other'" && is .failed 4 && is .failures.status_4xx.count 4
}

up bench "$DEMO" || exit 1
t "counts, JSON, CSV, JSON lines and trace agree" counts
t "the report is one page of its own" page
t "an open loop counts from when a request was due" open_loop
t "a trace is replayed to the token" trace
t "a chat has its answers in the next prompt" chat
t "clients that leave free the nodes" cancels
t "the native protocol counts the same" native
t "a sweep has a point a rate" sweep
t "a search that finds nothing says so" search
t "two servers get the same requests in turns" against
t "results are compared" compare
t "a killed node costs no token" killed
t "a wrong model fails each request" all_fail
t "bad input is one sentence" bad_input
down
