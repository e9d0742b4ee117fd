#!/bin/bash
# Kills and stops nodes of a real cluster under load. No stream may be lost, and no token lost,
# repeated or changed; the longest gap of a stream is at most 2 s at the 99th percentile.
# usage: chaos.sh STREAMS-PROGRAM     TANDEM_BIN as in tests/lib/cluster.sh
#   N=10: so many kill -9 of decode nodes and as many of prefill nodes; STOPS=5 (N / 2): SIGSTOPs of
#   1 .. STOP_MAX_S (4; 30 from N = 100 on) seconds; STREAMS=8 at once; SEED: of the moments;
#   GAP_S=2: bound of that percentile, and of the time until a stopped node is given up; none: they are only said
# The full run, make chaos N=200, takes half an hour, most of it waiting for what is stopped.
# Last line: `chaos: ..., N failed`.
. tests/lib/cluster.sh
streams=$(realpath "$1")
N=${N:-10} STOPS=${STOPS:-$((${N:-10} / 2))} STREAMS=${STREAMS:-8}
STOP_MAX_S=${STOP_MAX_S:-$((N >= 100 ? 30 : 4))}
RANDOM=${SEED:-$$}

# Pids are used again: only what runs in our cluster is ours to kill. A stopped one serves nobody.
serves() {
    { tr '\0' ' ' <"/proc/$1/cmdline" | grep -qF "$TANDEM_RUN_DIR/" &&
        ! grep -q '^State:.[TZ]' "/proc/$1/status"; } 2>/dev/null
}
# The role's nodes that the router thinks ready and that are.
serving() {
    local pid
    for pid in $(nodes ".nodes[] | select(.role == \"$1\" and .state == \"ready\") | .pid" 2>/dev/null); do
        serves "$pid" && echo "$pid"
    done
}
# hit SIGNAL ROLE: a random node of the role, if another is left to serve; waits for that. Sets pid.
hit() {
    local i pids
    for i in $(seq 300); do
        exec 9>"$TMP/lock"
        flock 9
        mapfile -t pids < <(serving "$2")
        pid=${pids[RANDOM % (${#pids[@]} + 1)]-}
        [ ${#pids[@]} -ge 2 ] && [ -n "$pid" ] && kill "$1" "$pid" 2>/dev/null && return 0
        exec 9>&-
        sleep 0.1
    done
    echo "no two $2 nodes served in 300 tries"
    return 1
}
pause() {
    exec 9>&-
    sleep "0.$((RANDOM % 7 + 1))"
}
ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }
# given_up PID MS: waits so long; writes how many ms passed until the router did not think it ready any more.
given_up() {
    local began now seen=
    began=$(ms)
    while now=$(ms) && [ $((now - began)) -lt "$2" ]; do
        if [ -z "$seen" ] && [ "$(nodes "[.nodes[] | select(.pid == $1 and .state == \"ready\")] | length" 2>/dev/null)" = 0 ]; then
            seen=$(($(ms) - began))
            echo "$seen" >>"$TMP/given_up"
        fi
        sleep 0.05
    done
}
stop_some() {
    local i pid
    for i in $(seq "$STOPS"); do
        hit -STOP "$([ $((i % 2)) = 0 ] && echo prefill || echo decode)" || return 1
        exec 9>&-
        given_up "$pid" $(((1 + RANDOM % STOP_MAX_S) * 1000 + RANDOM % 10 * 100))
        grep -qF "$TANDEM_RUN_DIR/" "/proc/$pid/cmdline" 2>/dev/null && kill -CONT "$pid"
        pause
    done
}
kill_some() {
    local i pid
    for i in $(seq $((2 * N))); do
        hit -9 "$([ $((i % 2)) = 0 ] && echo prefill || echo decode)" || return 1
        pause
    done
}

PREFILL=2 DECODE=3 up chaos "$DEMO" || { echo "chaos: the cluster does not start, 1 failed"; exit 1; }
"$streams" --endpoint="ipc://$(echo "$TANDEM_RUN_DIR"/*/*/clients.sock)" --streams="$STREAMS" >"$TMP/streams" & load=$!
for _ in $(seq 600); do grep -q '^reference ready' "$TMP/streams" && break; sleep 0.1; done
began=$SECONDS
bad=0
stop_some & stops=$!
kill_some || bad=1
wait $stops || bad=1
sleep 1
kill "$load"
wait "$load" || bad=$((bad + 1))
tail -n 12 "$TMP/streams"
p99=$(sed -n 's/^longest gap of a stream: .*p99 \([0-9.]*\) s.*/\1/p' "$TMP/streams")
[ "${GAP_S:-2}" = none ] || awk -v p="${p99:-99}" -v bound="${GAP_S:-2}" 'BEGIN { exit p > bound }' || { echo "p99 of the longest gaps is over ${GAP_S:-2} s"; bad=$((bad + 1)); }
slowest=$(sort -n "$TMP/given_up" 2>/dev/null | tail -n 1)
[ "${GAP_S:-2}" = none ] || awk -v s="${slowest:-0}" -v bound="${GAP_S:-2}" 'BEGIN { exit s > bound * 1000 }' || { echo "a stopped node was thought ready for over ${GAP_S:-2} s"; bad=$((bad + 1)); }
all_free || bad=$((bad + 1))
zombies=$(awk '/ after the end$/ { for (i = 2; i <= NF; i++) if ($i ~ /^(repeated|changed|after)/) n += $(i - 1); print n }' "$TMP/streams")
echo "$STOPS stops of 1 to $STOP_MAX_S s: ${zombies:-?} zombie tokens delivered, $(metric tandem_stale_messages_total)" \
    "messages of older attempts fenced; $(metric tandem_streams_restarted_total) restarts"
echo "$(cat "$TMP/given_up" 2>/dev/null | wc -l) of them given up after ${slowest:-0} ms at most"
down
echo "chaos: $N + $N kills, $STOPS stops, $((SECONDS - began)) s, $bad failed"
[ "$bad" = 0 ]
