#!/bin/bash
# Kills and stops nodes of a real cluster under load. No stream may be lost, and no token lost,
# repeated or changed; the longest gap of a stream is at most 2 s at the 99th percentile.
# usage: chaos.sh STREAMS-PROGRAM     TANDEM_BIN as in tests/lib/cluster.sh
#   N=10: so many kill -9 of decode nodes and as many of prefill nodes; STOPS=4 (N / 2): SIGSTOPs of
#   1 .. STOP_MAX_S (4; 30 from N = 100 on) seconds; STREAMS=8 at once; SEED: of the moments
# Last line: `chaos: ..., N failed`.
. tests/lib/cluster.sh
streams=$(realpath "$1")
N=${N:-10} STOPS=${STOPS:-$((${N:-10} * 2 / 5))} STREAMS=${STREAMS:-8}
STOP_MAX_S=${STOP_MAX_S:-$((N >= 100 ? 30 : 4))}
RANDOM=${SEED:-$$}

# Pids are used again: only what runs in our cluster is ours to kill.
ours() { tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -qF "$TANDEM_RUN_DIR/"; }
# Pids of the role's nodes that are ready and not stopped by us.
ready() { nodes "[.nodes[] | select(.role == \"$1\" and .state == \"ready\") | .pid] | .[]" 2>/dev/null; }
# A random one of them, if one more is left to serve; waits for that.
victim() {
    local i pid pids
    for i in $(seq 300); do
        mapfile -t pids < <(ready "$1")
        pid=${pids[RANDOM % (${#pids[@]} + 1)]-}
        [ ${#pids[@]} -ge 2 ] && [ -n "$pid" ] && ours "$pid" && { echo "$pid"; return; }
        sleep 0.1
    done
    echo "no two $1 nodes were ready in 300 tries" >&2
    return 1
}
pause() { sleep "0.$((RANDOM % 7 + 1))"; }
stop_some() {
    local i pid role
    for i in $(seq "$STOPS"); do
        role=$([ $((i % 2)) = 0 ] && echo prefill || echo decode)
        pid=$(victim "$role") || return 1
        kill -STOP "$pid" 2>/dev/null
        sleep "$((1 + RANDOM % STOP_MAX_S)).$((RANDOM % 10))"
        ours "$pid" && kill -CONT "$pid" 2>/dev/null # it may have been killed meanwhile
        pause
    done
}
kill_some() {
    local i pid role
    for i in $(seq $((2 * N))); do
        role=$([ $((i % 2)) = 0 ] && echo prefill || echo decode)
        pid=$(victim "$role") || return 1
        kill -9 "$pid" 2>/dev/null
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
p99=$(sed -n 's/.*p99 \([0-9.]*\) s.*/\1/p' "$TMP/streams")
awk -v p="${p99:-99}" 'BEGIN { exit p > 2 }' || { echo "p99 of the longest gaps is over 2 s"; bad=$((bad + 1)); }
all_free || bad=$((bad + 1))
echo "fenced: $(metric tandem_stale_messages_total) messages of older attempts; $(metric tandem_streams_restarted_total) restarts"
down
echo "chaos: $N + $N kills, $STOPS stops, $((SECONDS - began)) s, $bad failed"
[ "$bad" = 0 ]
