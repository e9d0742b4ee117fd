#!/bin/bash
# make demo keeps its promises: it works, twice, beside others, and leaves nothing, however it ends.
. tests/lib/cluster.sh
yaml=deploy/demo.yaml
out=$TMP/said
mkdir -p "$TANDEM_RUN_DIR"
export TMPDIR=$TMP # where the demo makes its run directory
TANDEM_HTTP=127.0.0.1:$(free_port)
export TANDEM_HTTP

tandem() { "$BIN/tandem" "$@"; }

# has TEXT: $out has it.
has() { grep -qF -- "$1" "$out" || { echo "missing \"$1\" in:"; cat "$out"; return 1; }; }
one_line() { [ "$(wc -l <"$out")" -eq 1 ] || { echo "not one line:"; cat "$out"; return 1; }; }

# Command lines of the living processes with a run directory of ours, the demo's included.
processes() {
    local p
    for p in $(env -u TANDEM_RUN_DIR grep -lszE "^TANDEM_RUN_DIR=($TANDEM_RUN_DIR|$TMP/tandem-demo\.)" /proc/[0-9]*/environ); do
        tr '\0' ' ' <"${p%environ}cmdline" && echo
    done 2>/dev/null
}

# No process and no file is left; one that was just killed is given a moment.
nothing_left() {
    local i left
    for i in $(seq 20); do
        left=$(processes; ls -A "$TANDEM_RUN_DIR"; ls -d "$TMP"/tandem-demo.* 2>/dev/null)
        [ -n "$left" ] || return 0
        sleep 0.1
    done
    echo "left behind: $left"
    return 1
}

demo_runs() {
    deploy/demo.sh "$BIN" >"$out" 2>&1 || { cat "$out"; return 1; }
    for want in "decode-2" "is ready at http://$TANDEM_HTTP" "It is a truth universally acknowledged, that" \
        "TTFT" "TPOT" "prompt tokens" "output tokens" "of KV to decode-" "nothing is left"; do
        has "$want" || return 1
    done
    nothing_left
}

demo_beside_another() {
    local mine=$TANDEM_HTTP
    tandem up "$yaml" || return 1
    TANDEM_HTTP=127.0.0.1:$(free_port) deploy/demo.sh "$BIN" || return 1
    TANDEM_HTTP=$mine tandem run --temperature=0 --max_tokens=8 demo "She was" || return 1
    tandem down && nothing_left
}

# Moments from the first fork to the middle of the stream. The shell starts background jobs with
# SIGINT ignored; env undoes that.
demo_interrupted() {
    local after pid
    for after in 0.02 0.1 0.3 0.6 1 1.5; do
        env --default-signal=INT deploy/demo.sh "$BIN" >/dev/null 2>&1 &
        pid=$!
        sleep "$after"
        kill "-$1" "$pid" 2>/dev/null
        wait "$pid"
        nothing_left || { echo "after $after s"; return 1; }
    done
}

up_killed() {
    local after pid
    for after in 0.02 0.1 0.3 0.6; do
        "$BIN/tandem" up --foreground "$yaml" >/dev/null 2>&1 &
        pid=$!
        sleep "$after"
        kill -KILL "$pid"
        wait "$pid"
        nothing_left || { echo "after $after s"; return 1; }
    done
}

supervisor_killed() {
    tandem up "$yaml" || return 1
    kill -KILL "$(cat "$TANDEM_RUN_DIR"/tandem-*/demo/supervisor.pid)"
    sleep 0.2
    tandem status demo && return 1
    tandem up "$yaml" || return 1 # over what it left behind
    tandem down demo && nothing_left
}

taken() {
    tandem up "$yaml" || return 1
    tandem up --cluster=other "$yaml" >/dev/null 2>"$out" && return 1
    has "router ended at start" && has "$TANDEM_HTTP" && one_line || return 1
    tandem up "$yaml" >"$out" && has "nothing to change" || return 1
    cp "$yaml" "$TMP/demo.yaml"
    tandem up --model="$DEMO" "$TMP/demo.yaml" >/dev/null 2>"$out" && return 1
    has "cluster demo is running already, from" && one_line || return 1
    tandem status && tandem down "$yaml" && nothing_left
}

node_restarted() {
    local i log
    tandem up "$yaml" || return 1
    log=$(ls "$TANDEM_RUN_DIR"/tandem-*/demo/supervisor.log)
    kill -KILL "$(sed -n 's/.*started name=decode-2 pid=//p' "$log")"
    for i in $(seq 100); do
        [ "$(grep -c 'started name=decode-2' "$log")" -lt 2 ] || break
        sleep 0.1
    done
    [ "$(grep -c 'started name=decode-2' "$log")" -ge 2 ] || { cat "$log"; return 1; }
    tandem run --temperature=0 --max_tokens=8 demo "She was" || return 1
    tandem down demo && nothing_left
}

# refuses CODE TEXT ARGS...: exit code, and one sentence with TEXT in it.
refuses() {
    local code=$1 text=$2 rc
    shift 2
    tandem "$@" >/dev/null 2>"$out"
    rc=$?
    [ "$rc" -eq "$code" ] || { echo "tandem $*: exit code $rc"; cat "$out"; return 1; }
    has "$text" && one_line
}

bad_input() {
    local bad=$TMP/bad.yaml cut=$TMP/cut.gguf
    printf 'cluster: x\nrouter:\n  queue_maxx: 1\n' >"$bad"
    refuses 1 'bad.yaml:3:3: unknown key "queue_maxx" in router; did you mean "queue_max"?' up "$bad" &&
        printf 'cluster: x\n\tmodel: y\n' >"$bad" &&
        refuses 1 "bad.yaml:2:1:" plan "$bad" &&
        printf 'model: none.gguf\n' >"$bad" &&
        refuses 1 "none.gguf: cannot open: No such file or directory" up "$bad" &&
        head -c 100000 "$DEMO" >"$cut" &&
        refuses 1 "cut.gguf" up --model="$cut" "$yaml" &&
        refuses 2 "did you mean --foreground?" up --foregruond "$yaml" &&
        refuses 2 'unknown command "pu"; did you mean "up"?' pu &&
        refuses 1 "cluster demo is not running" run "$yaml" hello &&
        refuses 1 "no cluster is running" down &&
        nothing_left
}

t "the demo runs, shows text and figures, and leaves nothing" demo_runs
t "the demo runs again at once" demo_runs
t "the demo runs beside another cluster" demo_beside_another
t "Ctrl-C at any moment leaves nothing" demo_interrupted INT
t "SIGTERM at any moment leaves nothing" demo_interrupted TERM
t "a killed tandem up leaves nothing" up_killed
t "a cluster starts over what a killed supervisor left" supervisor_killed
t "a port or a name that is taken is one sentence" taken
t "a dead node is started again" node_restarted
t "bad input is one sentence" bad_input
