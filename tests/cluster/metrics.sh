#!/bin/bash
# Metrics of every process, as Prometheus and the dashboard of deploy/ ask for them; a trace through all
# logs.
. tests/lib/cluster.sh
trace=0af7651916cd43dd8448eb211c80319c

scrape() { # every target that the router names, each page into its own file
    local address name
    curl -sS -m 5 "$URL/tandem/targets" >"$TMP/targets" &&
        jq -r '.[] | "\(.targets[0]) \(.labels.tandem_process)"' "$TMP/targets" >"$TMP/addresses" || return 1
    while read -r address name; do
        curl -sS -m 5 "http://$address/metrics" >"$TMP/page.$name" || return 1
    done <"$TMP/addresses"
    [ "$(wc -l <"$TMP/addresses")" -eq 4 ] || { cat "$TMP/targets"; return 1; }
}

# What promtool check metrics would say of the form, and that no series is there twice.
lint() {
    awk '
        function bad(why) { print FILENAME ":" FNR ": " why ": " $0; wrong = 1 }
        /^# HELP / { help = $3; next }
        /^# TYPE / {
            if ($3 != help) bad("no HELP before it")
            if (typed[FILENAME, $3]++) bad("typed twice")
            name = $3; type = $4
            if (type == "counter" && name !~ /_total$/) bad("a counter without _total")
            next
        }
        !/^[a-zA-Z_:][a-zA-Z0-9_:]*({([a-z_]+="([^"\\]|\\.)*",?)+})? (-?[0-9.]+(e[+-][0-9]+)?|NaN|[+-]Inf)$/ { bad("malformed"); next }
        {
            metric = $0; sub(/[{ ].*/, "", metric)
            base = metric
            if (type == "histogram") sub(/_(bucket|sum|count)$/, "", base)
            if (base != name) bad("under TYPE " name)
            series = $0; sub(/ [^ ]*$/, "", series)
            if (seen[FILENAME, series]++) bad("twice")
        }
        END { exit wrong }' "$TMP"/page.*
}

well_formed() {
    local p rc
    scrape && lint || return 1
    command -v promtool >/dev/null || return 0
    for p in "$TMP"/page.*; do # 3: it minds names, such as those of vLLM with a colon
        promtool check metrics <"$p"
        rc=$?
        [ "$rc" -eq 0 ] || [ "$rc" -eq 3 ] || return 1
    done
}

# Whatever deploy/grafana.json asks for is on some page.
dashboard_has_its_metrics() {
    local m missing=
    jq -e '.title == "tandem" and (.panels | length > 20)' deploy/grafana.json >/dev/null || return 1
    jq -r '.. | .expr? // empty' deploy/grafana.json | grep -oE '\b(vllm:|tandem_)[a-z_0-9]+' | grep -v '^tandem_role$' | sort -u >"$TMP/asked"
    [ "$(wc -l <"$TMP/asked")" -gt 40 ] || { echo "only:"; cat "$TMP/asked"; return 1; }
    while read -r m; do
        grep -qE "^$m[{ ]" "$TMP"/page.* || missing="$missing $m"
    done <"$TMP/asked"
    [ -z "$missing" ] || { echo "no process has:$missing"; return 1; }
}

prometheus_asks_what_is_there() {
    local url
    url=$(sed -n 's/^ *- url: http:\/\/[^\/]*//p' deploy/prometheus.yml)
    [ "$url" = /tandem/targets ] || { echo "asks for $url"; return 1; }
    jq -e 'all(.[]; (.targets | length == 1) and (.labels | map(type == "string") | all))' "$TMP/targets" >/dev/null || return 1
    ! command -v promtool >/dev/null || promtool check config deploy/prometheus.yml
}

# value PROCESS SERIES-PATTERN
value() { awk -v s="$2" '$0 ~ s { v += $NF } END { print v + 0 }' "$TMP/page.$1"; }

pages_agree() {
    local out kv
    out=$(value router '^vllm:generation_tokens_total')
    [ "$out" -eq 24 ] || { echo "the router delivered $out tokens"; return 1; }
    [ "$(value router '^vllm:time_to_first_token_seconds_count')" -eq 1 ] || return 1
    [ "$(value router 'vllm:request_success_total.*"length"')" -eq 1 ] || return 1
    [ "$(value prefill-1 '^vllm:generation_tokens_total')" -eq 1 ] || return 1
    [ $(($(value decode-1 '^vllm:generation_tokens_total') + $(value decode-2 '^vllm:generation_tokens_total'))) -eq 23 ] || return 1
    kv=$(value prefill-1 '^tandem_kv_bytes_total')
    [ "$kv" -gt 0 ] && [ "$kv" -eq $(($(value decode-1 '^tandem_kv_bytes_total') + $(value decode-2 '^tandem_kv_bytes_total'))) ] ||
        { echo "$kv bytes of KV were sent"; return 1; }
    [ "$(value prefill-1 '^tandem_flops_total')" != 0 ]
}

probes() {
    local address name
    while read -r address name; do
        for path in /health /ready; do
            [ "$(curl -s -o /dev/null -m 5 -w '%{http_code}' "http://$address$path")" = 200 ] || { echo "$name $path"; return 1; }
        done
    done <"$TMP/addresses"
}

# The client's trace in the answer and in the log of every process that had a part, each a span of its
# own under the router's; and each line of each log is a JSON object.
traced() {
    local span
    span=$(sed -n "s/^traceparent: 00-$trace-\([0-9a-f]*\)-01.*/\1/p" "$TMP/head")
    [ -n "$span" ] && [ "$span" != b7ad6b7169203331 ] || { cat "$TMP/head"; return 1; }
    cat "$TMP"/run/*/*/*.log >"$TMP/logs"
    jq -e . "$TMP/logs" >/dev/null || return 1
    jq -r --arg t "$trace" 'select(.trace == $t) | "\(.process) \(.span) \(.parent)"' "$TMP/logs" | sort >"$TMP/spans"
    grep -qx "router $span b7ad6b7169203331" "$TMP/spans" &&
        grep -qx "prefill-1 [0-9a-f]\{16\} $span" "$TMP/spans" &&
        grep -qx "decode-[12] [0-9a-f]\{16\} $span" "$TMP/spans" &&
        [ "$(cut -d ' ' -f 2 "$TMP/spans" | sort -u | wc -l)" -eq 3 ] || { cat "$TMP/spans"; return 1; }
    jq -e -s --arg t "$trace" 'any(.[]; .trace == $t and .process == "router" and .ttft_ms > 0 and .prefill_ms > 0 and .decode_ms > 0)' "$TMP/logs"
}

ask() {
    curl -sS -m 60 -D "$TMP/head" -H "traceparent: 00-$trace-b7ad6b7169203331-01" -d \
        '{"prompt": "It is a truth universally acknowledged, that", "max_tokens": 24, "ignore_eos": true}' "$URL/v1/completions" |
        jq -e '.usage.completion_tokens == 24'
}

up_json() { MODE=disaggregated PREFILL=1 DECODE=2 up metrics "$DEMO" "log_format: json"; }
t "a cluster with JSON logs" up_json
t "a request with a trace" ask
t "every page is well-formed" well_formed
t "the dashboard's metrics are there" dashboard_has_its_metrics
t "Prometheus's configuration asks for what is there" prometheus_asks_what_is_there
t "the pages agree on what was done" pages_agree
t "probes on every process" probes
t "the trace is in every log" traced
down
