#!/bin/bash
# What can be wrong with hosts: one sentence each, with the host or the file's line, and what runs keeps
# running: a cluster of two hosts under load, whose streams do not notice. Without FULL=1 those that wait
# for nothing, and not all.
. tests/lib/cluster.sh
. tests/lib/netns.sh
missing=$(net_missing)
[ -z "$missing" ] || { echo "skip what can be wrong with hosts: $missing"; exit 0; }
from_h1
SSH="ssh -F $TMP/ssh/config -o BatchMode=yes"

# file NAME [LINE...]: the head of a cluster file, then these lines
file() {
    local name=$1
    shift
    printf '%s\n' "cluster: $name" "model: $DEMO" "$@" >"$TMP/$name.yaml"
}
# says PATTERN NAME [OPTION...]: `up` of that file fails with one sentence that has the pattern, leaves
# nothing behind, and the cluster still serves
says() {
    local want=$1 name=$2 rc=0
    shift 2
    timeout 40 nsenter -t "${INIT[h1]}" -m -n -u -p --wd="$PWD" -- env -u TANDEM_RUN_DIR \
        "$BIN/tandem" up "$TMP/$name.yaml" "$@" >"$TMP/stdout" 2>"$TMP/stderr" && { echo "it did not fail"; return 1; }
    cat "$TMP/stdout" "$TMP/stderr"
    cat "$TMP/stderr" >>"$TMP/sentences"
    grep -qE "$want" "$TMP/stderr" || { echo "no sentence has: $want"; rc=1; }
    [ "$(wc -l <"$TMP/stderr")" = 1 ] || { echo "not one sentence"; rc=1; }
    for h in h1 h2; do
        on $h pgrep -af "[c]luster=$name " && { echo "left on $h"; rc=1; }
    done
    serving 2 || { echo "the other cluster suffers"; rc=1; }
    return $rc
}
start() {
    net_up 3 || return 1
    file runs "ssh: $SSH" 'router: {http: "127.0.0.1:8000", mode: disaggregated}' \
        'hosts: [{host: local, address: 10.77.0.1, prefill: 1}, {host: h2, address: 10.77.0.2, decode: 1}]'
    tandem up "$TMP/runs.yaml" && await 5 serving 2
}
BASE=('router: {http: "127.0.0.1:8001", nodes: "tcp://10.77.0.1:5600"}' 'hosts:' '  - {host: local, address: 10.77.0.1, prefill: 1}')

t "two hosts under load" start
t "load" load_start --endpoint="ipc:///tmp/tandem-0/runs/clients.sock" --streams=3

ssh-keygen -q -t ed25519 -N '' -f "$TMP/ssh/stranger"
sed "s|^IdentityFile.*|IdentityFile $TMP/ssh/stranger|" "$TMP/ssh/config" >"$TMP/ssh/config.stranger"
file keyless "ssh: ssh -F $TMP/ssh/config.stranger -o BatchMode=yes" "${BASE[@]}" '  - {host: h2, address: 10.77.0.2, decode: 1}'
t "an ssh key that the host does not know" says "h2.*key" keyless
file twice "ssh: $SSH" "${BASE[@]}" '  - {host: h2, address: 10.77.0.2, decode: 1}' '  - {host: h2, address: 10.77.0.2}'
t "a host that is named twice" says "twice.yaml:8:.*h2 is listed twice" twice
file taken "ssh: $SSH" 'router: {http: "127.0.0.1:8001", nodes: "tcp://10.77.0.1:5555"}' 'hosts:' \
    '  - {host: local, address: 10.77.0.1, prefill: 1}' '  - {host: h2, address: 10.77.0.2, decode: 1}'
t "a port that is taken, of nodes" says "5555.*in use" taken
file fat "ssh: $SSH" 'decode: {kv_pages: 16777216}' "${BASE[@]}" '  - {host: h2, address: 10.77.0.2, decode: 1}'
t "a host without the memory" says "h2.*(GiB|TiB|memory)" fat
file modelless "ssh: $SSH" "${BASE[@]}" '  - {host: h2, address: 10.77.0.2, decode: 1, model: /tmp/none.gguf}'
t "a host without the model" says "h2.*/tmp/none.gguf.*--sync" modelless
if [ -n "${FULL-}" ]; then
    file away "ssh: $SSH" "${BASE[@]}" '  - {host: h9, address: 10.77.0.9, decode: 1}'
    t "a host that is not there" says "h9" away
    file dark "ssh: $SSH -o ConnectTimeout=2" "${BASE[@]}" '  - {host: h3, address: 10.77.0.3, decode: 1}'
    link_cut h3
    t "a host behind a cut link" says "h3" dark
    link_heal h3
    file web "ssh: $SSH" 'router: {http: "127.0.0.1:8000", nodes: "tcp://10.77.0.1:5600"}' 'hosts:' \
        '  - {host: local, address: 10.77.0.1, prefill: 1}' '  - {host: h2, address: 10.77.0.2, decode: 1}'
    t "a port that is taken, of HTTP" says "8000.*in use" web
    file bare "ssh: $SSH" "${BASE[@]}" '  - {host: h2, address: 10.77.0.2, decode: 1, programs: /opt/nowhere}'
    t "a host without the programs" says "h2.*/opt/nowhere" bare
    on h2 sh -c 'head -c 100000 /dev/zero >/tmp/other.gguf'
    file other "ssh: $SSH" "${BASE[@]}" '  - {host: h2, address: 10.77.0.2, decode: 1, model: /tmp/other.gguf}'
    t "a host with another model" says "h2.*/tmp/other.gguf" other
    file plain 'router: {http: "127.0.0.1:8001", nodes: "tcp://0.0.0.0:5600"}' 'hosts: [{host: local}]'
    t "no address for nodes elsewhere" says "address" plain
    file cores "ssh: $SSH" "${BASE[@]}" '  - {host: h2, address: 10.77.0.2, decode: 1, cores: "900-901"}'
    t "cores that a host has not" says "h2.*900" cores
fi
t "no stream failed, no token changed" load_end
[ -z "${FULL-}" ] || sed 's/^/    /' "$TMP/sentences"
