# Several hosts on one machine: each is a network namespace with an address of its own (10.77.0.N, which
# only these namespaces know), a mount, pid and uts namespace, its own /tmp and /run, and an sshd. A link
# is a veth pair to a bridge in a namespace of its own, so nothing of the machine's network is touched:
#
#     h1 10.77.0.1 --+
#     h2 10.77.0.2 --+-- br0 (namespace sw)
#     h3 10.77.0.3 --+
#
# A host that is killed loses all its processes at once, as by a power cut. Scripts source this after
# tests/lib/cluster.sh; everything goes away when they end, however they end.
# shellcheck shell=bash
NET=tandem-$$
STREAMS=$BIN/../tests/tandem-streams
WIRE=$BIN/../tests/tandem-wire
ROUTER=tcp://10.77.0.1:5555
declare -A INIT # the pid of each host's first process, as seen from here

# The reason why there can be no such hosts here, or nothing.
net_missing() {
    local p
    [ "$(id -u)" = 0 ] || { echo "network namespaces need root"; return; }
    for p in ip nsenter unshare nft tc sshd ssh ssh-keygen; do
        command -v $p >/dev/null || { echo "no program $p here (deploy/install-deps.sh check)"; return; }
    done
    ip netns add "$NET-sw" 2>/dev/null || { echo "network namespaces are not permitted here"; return; }
    ip -n "$NET-sw" link add br0 type bridge 2>/dev/null &&
        ip -n "$NET-sw" link add probe type veth peer name eborp 2>/dev/null || echo "no veth and bridges in this kernel"
    ip netns del "$NET-sw"
}

# Namespaces of a script that was killed; its hosts died with it.
net_sweep() {
    ip netns list | sed -n 's/^\(tandem-\([0-9]*\)-[^ ]*\).*/\2 \1/p' | while read -r pid ns; do
        kill -0 "$pid" 2>/dev/null || ip netns del "$ns"
    done
}

# net_up N: h1 .. hN.
net_up() {
    local i
    net_sweep
    trap 'net_down; finish' EXIT
    ip netns add "$NET-sw" && ip -n "$NET-sw" link add br0 type bridge && ip -n "$NET-sw" link set br0 up || return 1
    mkdir -p "$TMP/ssh" "$TMP/hosts"
    ssh-keygen -q -t ed25519 -N '' -f "$TMP/ssh/id" && ssh-keygen -q -t ed25519 -N '' -f "$TMP/ssh/host" || return 1
    echo "10.77.0.* $(cut -d' ' -f1,2 "$TMP/ssh/host.pub")" >"$TMP/ssh/known"
    {
        echo "IdentityFile $TMP/ssh/id"
        printf '%s\n' "IdentitiesOnly yes" "UserKnownHostsFile $TMP/ssh/known" "GlobalKnownHostsFile none" \
            "StrictHostKeyChecking yes" "ConnectTimeout 3" "User root"
        for i in $(seq 9); do printf 'Host h%s\n  HostName 10.77.0.%s\n' "$i" "$i"; done
    } >"$TMP/ssh/config"
    for i in $(seq "$1"); do host_add "h$i" || return 1; done
}

net_down() {
    local h ns
    for h in "${!INIT[@]}"; do host_kill "$h"; done
    for ns in $(ip netns list | awk -v n="$NET-" 'index($1, n) == 1 { print $1 }'); do
        ip netns pids "$ns" | xargs -r kill -9 2>/dev/null
        ip netns del "$ns"
    done
}

host_wire() {
    ip netns add "$NET-$1" &&
        ip -n "$NET-sw" link add "$1" type veth peer name eth0 netns "$NET-$1" &&
        ip -n "$NET-sw" link set "$1" master br0 up &&
        ip -n "$NET-$1" addr add "10.77.0.${1#h}/24" dev eth0 &&
        ip -n "$NET-$1" link set eth0 up && ip -n "$NET-$1" link set lo up
}

# host_add hN: what is in the test's folder it sees under the same path. One that was killed starts anew,
# with an empty /run and the /tmp that it had.
host_add() {
    local h=$1 n
    mkdir -p "$TMP/hosts/$h"
    [ -e "/run/netns/$NET-$h" ] || host_wire "$h" || return 1

    cat >"$TMP/ssh/$h.conf" <<END
ListenAddress 10.77.0.${h#h}
HostKey /run/test/ssh/host
AuthorizedKeysFile /run/test/ssh/id.pub
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PidFile none
SetEnv XDG_CACHE_HOME=/tmp/cache
END
    # shellcheck disable=SC2016 # the host's shell expands these
    setpriv --pdeathsig KILL ip netns exec "$NET-$h" unshare -m -u -p -f --kill-child --mount-proc --propagation private bash -c '
        hostname "$1" && mount -t tmpfs tmpfs /run && mkdir /run/test /run/sshd && mount --bind "$2" /run/test &&
            mount --bind "$2/hosts/$1" /tmp && mkdir -p "$2" && mount --bind /run/test "$2" &&
            exec "$(command -v sshd)" -D -e -f "/run/test/ssh/$1.conf"' \
        host "$h" "$TMP" </dev/null >"$TMP/hosts/$h.log" 2>&1 &
    n=$!
    disown
    for _ in $(seq 100); do
        INIT[$h]=$(pgrep -P "$n")
        grep -q '^Server listening' "$TMP/hosts/$h.log" && return 0
        sleep 0.05
    done
    cat "$TMP/hosts/$h.log"
    return 1
}

# cpu hN: the processor that the host may compute on. Hosts share those of the machine; were each to use
# them all, the threads of one would wait for those of the others.
cpu() {
    local all
    mapfile -t all < <(taskset -pc $$ | sed 's/.*: //' | tr , '\n' | awk -F- '{ for (i = $1; i <= ($2 == "" ? $1 : $2); i++) print i }')
    echo "${all[${1#h} % ${#all[@]}]}"
}

# on hN COMMAND...: there.
on() {
    local pid=${INIT[$1]}
    shift
    nsenter -t "$pid" -m -n -u -p --wd="$PWD" -- \
        env -u TANDEM_RUN_DIR -u XDG_RUNTIME_DIR XDG_CACHE_HOME=/tmp/cache "$@"
}

# All its processes, at once. Its link stays, and answers for them (RST).
host_kill() {
    [ -z "${INIT[$1]-}" ] || kill -9 "${INIT[$1]}" 2>/dev/null
    unset "INIT[$1]"
}

link_cut() { ip -n "$NET-sw" link set "$1" down; }
link_heal() { ip -n "$NET-sw" link set "$1" up; }

# link_slow hN RATE: both ways, as in 20mbit; link_fast hN ends it.
link_slow() {
    tc -n "$NET-sw" qdisc replace dev "$1" root tbf rate "$2" burst 64kb latency 100ms &&
        tc -n "$NET-$1" qdisc replace dev eth0 root tbf rate "$2" burst 64kb latency 100ms
}
link_fast() {
    tc -n "$NET-sw" qdisc del dev "$1" root && tc -n "$NET-$1" qdisc del dev eth0 root
}

# link_lossy hN N: of 1000 frames N are lost, both ways; link_clean hN ends it.
link_lossy() {
    local end
    for end in "$NET-sw $1" "$NET-$1 eth0"; do
        # shellcheck disable=SC2086 # two words
        set -- $end "$1" "$2"
        ip netns exec "$1" nft -f - <<END || return 1
table netdev lossy-$3 { chain in { type filter hook ingress device "$2" priority 0; numgen random mod 1000 < $4 drop; }; }
END
        shift 2
    done
}
link_clean() {
    ip netns exec "$NET-sw" nft delete table netdev "lossy-$1" && ip netns exec "$NET-$1" nft delete table netdev "lossy-$1"
}

# link_long hN MS [LOSS_PERCENT]: every frame is so long under way, each way (tests/netns/wire.c);
# link_short hN ends it.
link_long() {
    ip -n "$NET-sw" link set "$1" nomaster &&
        ip -n "$NET-sw" link add "$1-a" type veth peer name "$1-b" &&
        ip -n "$NET-sw" link set "$1-b" master br0 up && ip -n "$NET-sw" link set "$1-a" up || return 1
    ip netns exec "$NET-sw" "$WIRE" "$1" "$1-a" "$2" "${3:-0}" &
    echo $! >"$TMP/wire.$1"
    disown
    sleep 0.2
    kill -0 "$(cat "$TMP/wire.$1")"
}
link_short() {
    kill "$(cat "$TMP/wire.$1")" && ip -n "$NET-sw" link del "$1-a" && ip -n "$NET-sw" link set "$1" master br0
}

# await SECONDS COMMAND...: until it succeeds.
await() {
    local end=$((SECONDS + $1 + 1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || { echo "still not: $*"; return 1; }
        sleep 0.1
    done
}
# serving N: so many nodes are ready.
serving() { [ "$(nodes '[.nodes[] | select(.state == "ready")] | length' 2>/dev/null)" = "$1" ]; }
# gone NAME: the router has no such node (any more).
gone() { [ "$(nodes "[.nodes[] | select(.name == \"$1\")] | length" 2>/dev/null)" = 0 ]; }

# left NAME SINCE: the router gave the node up within 2 s of SINCE (`date +%s.%N`), as its log says, which the script's
# router_log prints.
left() {
    local at
    await 5 gone "$1" || return 1
    at=$(router_log | grep "node=$1 .* lost:" | tail -n 1 | cut -d' ' -f1)
    [ -n "$at" ] || { echo "the router's log has no loss of $1"; return 1; } # `date` takes nothing for midnight
    at=$(date -d "$at" +%s.%N) || return 1
    awk -v n="$1" -v a="$at" -v s="$2" 'BEGIN { printf "%s left after %.2f s\n", n, a - s; exit !(a >= s && a - s <= 2.0) }'
}
# decode_on hN: the name of the decode node there.
decode_on() { nodes "[.nodes[] | select(.host == \"$1\" and .role == \"decode\") | .name][0]"; }
# vanish HOW hN: host_kill or link_cut takes that node away.
vanish() {
    local name since
    name=$(decode_on "$2")
    since=$(date +%s.%N)
    "$1" "$2" && left "$name" "$since"
}
restarted() { [ "$(metric tandem_streams_restarted_total)" -gt 0 ]; }

# from_h1: what asks $URL, and tandem, run there from here on.
from_h1() {
    URL=http://127.0.0.1:8000
    curl() { on h1 curl "$@"; }
    tandem() { on h1 "$BIN/tandem" "$@"; }
}

# load_start OPTION...: tandem-streams on h1; load_end: no stream failed, no token is another.
load_start() {
    on h1 "$STREAMS" "$@" >"$TMP/streams" 2>&1 &
    LOAD=$!
    await 60 grep -q '^reference ready' "$TMP/streams"
}
load_end() {
    on h1 pkill -TERM -x tandem-streams
    wait "$LOAD"
    LOAD_RC=$?
    tail -n 4 "$TMP/streams"
    return $LOAD_RC
}

# hand_up [ROUTER-OPTION...]: by hand, under keys, a router and a prefill node on h1, decode nodes on h2
# and h3.
hand_up() {
    from_h1
    net_up 3 && tandem keys "$TMP/keys" --client tester || return 1
    on h1 "$BIN/tandem-router" --model="$DEMO" --http=127.0.0.1:8000 --nodes="$ROUTER" --mode=disaggregated \
        --clients=tcp://10.77.0.1:5556 --keys="$TMP/keys" "$@" >"$TMP/router.log" 2>&1 &
    hand_node h1 prefill p1
    hand_node h2 decode d2
    hand_node h3 decode d3
    await 20 serving 3
}
# hand_node hN KIND NAME [OPTION...]
hand_node() {
    local h=$1 kind=$2 name=$3
    shift 3
    [ "$kind" = prefill ] || set -- --kv="tcp://10.77.0.${h#h}:0" "$@"
    on "$h" "$BIN/tandem-$kind" --cores="$(cpu "$h")" --model="$DEMO" --name="$name" --router="$ROUTER" --keys="$TMP/keys.node" "$@" \
        >"$TMP/$name.log" 2>&1 &
}
hand_load() { load_start --endpoint=tcp://10.77.0.1:5556 --keys="$TMP/keys.tester" --streams="$1"; }
