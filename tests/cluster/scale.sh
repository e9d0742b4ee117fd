#!/bin/bash
# Nodes come and go, and change their role, while streams run: no byte of any stream changes.
. tests/lib/cluster.sh

N=6
words="Mr. Darcy, who had been standing near the window, observed that"

body() {
    jq -nc --argjson i "$1" --arg p "$words" \
        '{prompt: ([range(8) | $p] | join(" ")), max_tokens: (250 + $i), temperature: 0.8, seed: $i, stream: true, ignore_eos: true}'
}
# during COMMAND...: runs it while N streams run; they must come out as alone, and it must succeed.
during() {
    local bad=0
    begin
    sleep 0.1
    "$@" || bad=1
    wait
    as_alone sse_text || bad=1
    return $bad
}
ready() { nodes "[.nodes[] | select(.state == \"ready\" and .role == \"$1\")] | length"; }
scaled() { # KIND N
    timeout 60 "$BIN/tandem" scale "$CLUSTER" "$1=$2" && [ "$(ready "$1")" = "$2" ]
}
no_restart() { # a node that was scaled away is not started again
    sleep 1
    [ "$(ready decode)" = "$1" ] && [ "$(pgrep -cf -- "--cluster=$CLUSTER .*--name=decode-")" = "$1" ]
}
refused() { # SENTENCE ARGUMENTS
    # shellcheck disable=SC2086
    ! "$BIN/tandem" scale "$CLUSTER" $2 2>"$TMP/said" && grep -F "$1" "$TMP/said"
}
fixed() { # NODE SENTENCE
    ! "$BIN/tandem" role "$CLUSTER" "$1" decode 2>"$TMP/said" && grep -F "$2" "$TMP/said"
}
by_hand() { # a node that somebody starts joins, serves, and is given up within 2 s of its death
    local i hand
    "$BIN/tandem-decode" --cluster="$CLUSTER" --name=hand-1 --model="$DEMO" --kv="ipc://$TMP/hand.sock" \
        --router="ipc://$(echo "$TMP"/run/tandem-*/"$CLUSTER")/nodes.sock" >"$TMP/hand.log" 2>&1 &
    hand=$!
    disown # or the wait for the streams waits for it too
    for i in $(seq 100); do [ "$(ready decode)" = 2 ] && break; sleep 0.1; done
    during sleep 0.5 || return 1
    nodes '.nodes[] | select(.name == "hand-1") | .tokens' | grep -v '^0$' || { cat "$TMP/hand.log"; return 1; }
    kill -9 $hand
    sleep 2
    [ "$(ready decode)" = 1 ]
}
become() { # NODE ROLE: told by hand, it goes on in that role as the same process
    local i pid
    pid=$(nodes ".nodes[] | select(.name == \"$1\") | .pid")
    timeout 30 "$BIN/tandem" role "$CLUSTER" "$1" "$2" || return 1
    for i in $(seq 100); do
        [ "$(nodes ".nodes[] | select(.name == \"$1\") | \"\(.role) \(.state) \(.pid)\"")" = "$2 ready $pid" ] && return 0
        sleep 0.1
    done
    nodes '.nodes[] | "\(.name) \(.role) \(.state) \(.pid)"'
    return 1
}

# Fewer slots than streams: some go to the node started by hand, however slow it was measured to be.
up scale "$DEMO" "decode: {nodes: 1, slots: 4}" || { echo "not ok the cluster starts"; exit 1; }
t "streams alone" alone sse_text
t "one decode node becomes three under $N streams" during scaled decode 3
t "three decode nodes become one under $N streams" during scaled decode 1
t "what was scaled away stays away" no_restart 1
t "one prefill node becomes two under $N streams" during scaled prefill 2
t "a node started by hand joins, and leaves when it dies" by_hand
t "no node at all is refused" refused 'decode: "0" is not a number of nodes, 1 .. 4096' decode=0
t "one number a kind" refused 'decode is said twice, 2 and 3' "prefill=1 decode=2 decode=3"
t "a router is not scaled" refused '"router=2" is neither prefill=N nor decode=N' router=2
t "a node that may not change its role is named" fixed prefill-1 "node 'prefill-1' was started without change_role"
t "all KV pages are free afterwards" all_free
down
up roles "$DEMO" "prefill: {nodes: 2, change_role: on}" "decode: {nodes: 2, change_role: on}" ||
    { echo "not ok a cluster of nodes that change roles starts"; exit 1; }
t "a prefill node becomes a decode node under $N streams" during become prefill-2 decode
t "a decode node becomes a prefill node under $N streams" during become decode-1 prefill
t "and back" during become prefill-2 prefill
t "roles count, not programs: one more decode node" scaled decode 2
t "decode nodes are drained down to one" during scaled decode 1
t "all KV pages are free after the changes" all_free
