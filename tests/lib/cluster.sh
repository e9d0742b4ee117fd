# What the cluster tests share: start a cluster of real processes from a YAML text, ask it things,
# take it down. Each test script sources this, runs its cases with `t NAME command...`, and ends.
# shellcheck shell=bash
set -u
BIN=$(cd "${TANDEM_BIN:-build/bin}" && pwd)
DEMO=$PWD/deploy/demo/austen-5m-q8_0.gguf
DATA=${TANDEM_TEST_DATA:-../shared/data}
TMP=$(mktemp -d /tmp/tandem-test.XXXXXX)
export TANDEM_RUN_DIR=$TMP/run
CLUSTER=
URL=

finish() {
    local d
    for d in "$TANDEM_RUN_DIR"/tandem-*/*/; do # what a failed test left, too
        [ -d "$d" ] && "$BIN/tandem" down "$(basename "$d")" >/dev/null 2>&1
    done
    rm -rf "$TMP"
}
trap finish EXIT
trap 'exit 130' INT TERM

# t NAME COMMAND...: one test; its output is shown if it fails.
t() {
    local name=$1
    shift
    if "$@" >"$TMP/out" 2>&1; then
        echo "ok $name"
    else
        echo "not ok $name"
        sed 's/^/    /' "$TMP/out"
        [ -z "$CLUSTER" ] || tail -n 5 "$TMP"/run/*/*/*.log 2>/dev/null | sed 's/^/    /'
    fi
}

# A port of 127.0.0.1 that nobody listens on.
free_port() {
    local p
    while :; do
        p=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null || { echo "$p"; return; }
    done
}

# up NAME MODEL [YAML lines]: writes $TMP/NAME.yaml with $PREFILL (1) and $DECODE (2) nodes, the router in $MODE if
# that is set and with the options of $ROUTER_MORE, and starts it.
up() {
    local port
    CLUSTER=$1
    port=$(free_port)
    URL=http://127.0.0.1:$port
    mkdir -p "$TANDEM_RUN_DIR"
    {
        echo "cluster: $1"
        echo "model: $(realpath "$2")"
        case "$*" in *prefill:*) ;; *) echo "prefill: {nodes: ${PREFILL:-1}}" ;; esac
        case "$*" in *decode:*) ;; *) echo "decode: {nodes: ${DECODE:-2}}" ;; esac
        echo "router: {http: \"127.0.0.1:$port\"${MODE:+, mode: $MODE}${ROUTER_MORE:+, $ROUTER_MORE}}"
        shift 2
        printf '%s\n' "$@"
    } >"$TMP/$CLUSTER.yaml"
    "$BIN/tandem" up "$TMP/$CLUSTER.yaml" >"$TMP/up.log" 2>&1 || { cat "$TMP/up.log"; return 1; }
}

down() {
    "$BIN/tandem" down "$TMP/$CLUSTER.yaml" >/dev/null 2>&1
    CLUSTER=
}

# post PATH JSON: the body of the answer.
post() { curl -sS -m 120 -H 'Content-Type: application/json' -d "$2" "$URL$1"; }

# The text of a streamed completion or chat.
sse_text() {
    sed -n 's/^data: //p' | grep -v '^\[DONE\]' | jq -j '.choices[0] | (.text // .delta.content // "")'
}

# Streams that must not change, whatever happens to nodes: a script has N of them, and body I prints the request
# of the I-th.
# alone READ: each by itself; what READ, say sse_text, makes of it is what they must be.
alone() {
    local i
    for i in $(seq "$N"); do
        post /v1/completions "$(body "$i")" | "$1" >"$TMP/want.$i"
        [ -s "$TMP/want.$i" ] || { echo "nothing came for request $i"; return 1; }
    done
}
# begin: all at once, in the background.
begin() {
    local i
    for i in $(seq "$N"); do post /v1/completions "$(body "$i")" >"$TMP/raw.$i" & done
}
# as_alone READ: once they have ended, whether they are.
as_alone() {
    local i bad=0
    for i in $(seq "$N"); do
        "$1" <"$TMP/raw.$i" >"$TMP/got.$i"
        cmp "$TMP/want.$i" "$TMP/got.$i" || { bad=1; tail -c 300 "$TMP/raw.$i"; }
    done
    return $bad
}

# metric NAME: the value of a metric, labels summed.
metric() {
    curl -sS -m 5 "$URL/metrics" | awk -v n="$1" '{ split($1, a, "{") } a[1] == n { s += $2 } END { print s + 0 }'
}

# nodes JQ-FILTER: of GET /v1/cluster.
nodes() { curl -sS -m 5 "$URL/v1/cluster" | jq -r "$1"; }

# All KV pages of all nodes are free (or only cached) and nothing runs or waits, within 5 s.
all_free() {
    local i
    for i in $(seq 50); do
        [ "$(nodes '[.nodes[] | .pages_total - .pages_free + .queued + .running] | add')" = 0 ] && return 0
        sleep 0.1
    done
    nodes '.nodes[] | "\(.name): \(.pages_free) of \(.pages_total) pages free, \(.running) running, \(.queued) queued"'
    return 1
}
