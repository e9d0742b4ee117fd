#!/bin/bash
# tandem over several hosts: one file, one command, over ssh and with keys; a fourth host joins under
# load, a node is drained, a host is killed, another's link is cut: no stream fails, no token changes.
. tests/lib/cluster.sh
. tests/lib/netns.sh
missing=$(net_missing)
[ -z "$missing" ] || { echo "skip a cluster on several hosts: $missing"; exit 0; }
from_h1
FILE=$TMP/nets.yaml
RUN=/tmp/tandem-0/nets # on every host its own

# write HOST...: the file with those as decode hosts
write() {
    {
        printf '%s\n' "cluster: nets" "model: $DEMO" "ssh: ssh -F $TMP/ssh/config -o BatchMode=yes" \
            "router: {http: \"127.0.0.1:8000\", mode: disaggregated}" \
            "hosts:" "  - {host: local, address: 10.77.0.1, cores: $(cpu h1), prefill: 1}"
        for h in "$@"; do echo "  - {host: $h, address: 10.77.0.${h#h}, cores: $(cpu "$h"), decode: 1}"; done
    } >"$FILE"
}
up_hosts() { net_up 3 && write h2 h3 && tandem up "$FILE" && await 5 serving 3; }
on_their_hosts() { # each node says where it is
    nodes '.nodes[] | "\(.role) \(.host)"' | sort | tee "$TMP/where"
    diff "$TMP/where" - <<<$'decode h2\ndecode h3\nprefill h1'
}
pid_on() { nodes ".nodes[] | select(.host == \"$1\" and .role == \"decode\") | .pid"; }
secrets() { # the router's is its host's alone; a file is its owner's alone
    local h
    for h in h1 h2 h3; do
        [ "$(on $h stat -c %a $RUN/keys)" = 600 ] || return 1
        on $h awk '$1 == "router" { print $1, NF }' $RUN/keys
    done | tee "$TMP/secrets"
    diff "$TMP/secrets" - <<<$'router 4\nrouter 3\nrouter 3'
}
joins() { # by the same command, and no other node is touched
    local before
    before="$(pid_on h2) $(pid_on h3)"
    host_add h4 && write h2 h3 h4 && tandem up "$FILE" && await 10 serving 4 || return 1
    echo "$before: $(pid_on h2) $(pid_on h3)"
    [ "$before" = "$(pid_on h2) $(pid_on h3)" ]
}
drains() {
    local name
    name=$(decode_on h2)
    tandem drain "$FILE" "$name" && await 20 gone "$name"
}
router_log() { on h1 cat $RUN/router.log; }
no_more() { # on that host
    ! on "$1" pgrep -a tandem
}

t "three hosts come up from one file with one command" up_hosts
t "every node is where the file says" on_their_hosts
t "each host has its keys, the router's secret only its own" secrets
t "load" load_start --endpoint="ipc://$RUN/clients.sock" --streams=6
t "a fourth host joins under load, by the same command" joins
t "a node is drained under load" drains
t "the same command brings it back" eval 'tandem up "$FILE" && await 10 serving 4'
t "a host that is killed under load leaves within 2 s" vanish host_kill h3
t "a host whose link is cut under load leaves within 2 s" vanish link_cut h4
t "the cluster goes on with one decode node" await 5 serving 2
t "the cut host is back when its link is" eval 'link_heal h4 && await 20 serving 3'
t "a dead host is back when it is, by the same command" eval 'host_add h3 && tandem up "$FILE" && await 10 serving 4'
t "no stream failed, no token changed" load_end
t "streams moved to other nodes meanwhile" restarted
t "all KV pages are free afterwards" all_free
t "down ends it on every host that is there, and names the other" eval \
    'host_kill h3; tandem down "$FILE" >"$TMP/down" 2>&1; cat "$TMP/down"; grep -q h3 "$TMP/down" && no_more h1 && no_more h2 && no_more h4'
