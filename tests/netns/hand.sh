#!/bin/bash
# Nodes started by hand on several hosts, their sockets under keys: they join by the router's address,
# under load too; one that vanishes, with its processes or with its link, leaves within 2 s; no stream
# fails and no token changes. Who has not the right key does not get in.
. tests/lib/cluster.sh
. tests/lib/netns.sh
missing=$(net_missing)
[ -z "$missing" ] || { echo "skip several hosts, nodes by hand: $missing"; exit 0; }

# Greedy, by way of h1's prefill node and another host, equals one process alone.
equals_alone() {
    local prompt="It is a truth universally acknowledged"
    post /v1/completions "$(jq -nc --arg p "$prompt" \
        '{prompt: $p, max_tokens: 40, temperature: 0, ignore_eos: true, return_token_ids: true}')" |
        jq -r '.choices[0].token_ids | map(tostring) | join(" ")' >"$TMP/got"
    "$BIN/tandem" tokenize --model "$DEMO" "$prompt" >"$TMP/ids"
    "$BIN/tandem" eval --model "$DEMO" --tokens "$TMP/ids" --kv_type f16 --greedy 40 >"$TMP/alone" &&
        [ "$(wc -w <"$TMP/got")" = 40 ] && diff "$TMP/alone" "$TMP/got"
}
# The stranger's key gets a line, and the node that waits is in; without it the next connection is not.
permitted_and_withdrawn() {
    local rc pid
    hand_stranger --keys="$TMP/stranger"
    pid=$!
    await 20 grep -F "does not let us in" "$TMP/stranger.log" &&
        (umask 077 && { cat "$TMP/keys" && awk '$1 == "node" { print $1, "stranger", $3 }' "$TMP/stranger"; } >"$TMP/keys.new") &&
        mv "$TMP/keys.new" "$TMP/keys" && await 10 serving 4 &&
        (umask 077 && grep -v '^node stranger' "$TMP/keys" >"$TMP/keys.new") && mv "$TMP/keys.new" "$TMP/keys" &&
        serving 4
    rc=$?
    on h1 pkill -f name=stranger
    wait "$pid"
    await 10 gone stranger && [ $rc = 0 ] && turned_away "does not let us in" "" --keys="$TMP/stranger"
}
hand_stranger() {
    on h1 "$BIN/tandem-prefill" --cores="$(cpu h1)" --model="$DEMO" --name=stranger --router="$ROUTER" "$@" \
        >"$TMP/stranger.log" 2>&1 &
}
join_under_load() {
    host_add h4 && hand_node h4 decode d4 && await 20 serving 4
}
router_log() { cat "$TMP/router.log"; }
return_of() { link_heal "$1" && await 20 serving "$2"; }
# turned_away SENTENCE-OF-NODE SENTENCE-OF-ROUTER OPTION...: a node with these does not get in.
turned_away() {
    local node=$1 router=$2 pid rc
    shift 2
    hand_stranger "$@"
    pid=$!
    await 20 grep -F "$node" "$TMP/stranger.log" && { [ -z "$router" ] || await 5 grep -F "$router" "$TMP/router.log"; } &&
        gone stranger
    rc=$?
    on h1 pkill -f name=stranger
    wait "$pid"
    return $rc
}

t "nodes started by hand on three hosts, under keys" hand_up
t "nodes join by the router's address alone" await 20 serving 3
t "a greedy stream over hosts equals one process" equals_alone
t "load from a client with a key" hand_load 6
on h1 "$BIN/tandem" keys "$TMP/foreign" >/dev/null
(umask 077 && { grep ^router "$TMP/keys.node" && grep ^node "$TMP/foreign.node"; } >"$TMP/stranger")
(umask 077 && sed 's/^client/node/' "$TMP/keys.tester" >"$TMP/climber")
t "a node with a foreign key does not get in" turned_away "does not let us in: our key is not let in there" \
    "connection from 10.77.0.1 refused: its key" --keys="$TMP/stranger"
t "until its line is in the router's file, and when it is out again" permitted_and_withdrawn
t "a client's key is no node's" turned_away "does not let us in: our key is not let in there" \
    "its key is that of client tester" --keys="$TMP/climber"
t "another cluster's keys do not get in" turned_away "does not let us in: it hung up" "" --keys="$TMP/foreign.node"
t "who has no keys and does not mind does not get in" turned_away "keys are in use there, but not here" "" --insecure
t "without keys nothing is sent to another host" turned_away "is beyond this machine, and there are no keys" ""
t "a host joins under load" join_under_load
t "a host whose processes all die leaves within 2 s" vanish host_kill h3
t "a host whose link is cut leaves within 2 s" vanish link_cut h2
t "it comes back when the link is healed" return_of h2 3
t "no stream failed, no token changed" load_end
t "streams moved to other nodes meanwhile" restarted
t "all KV pages are free afterwards" all_free
