#!/bin/bash
# One file starts a cluster on several hosts: "hosts" of this machine, each with folders and an address
# of its own, reached by tests/lib/fake-ssh instead of ssh.
. tests/lib/cluster.sh
export FAKE_SSH=$TMP/ssh
export HOME=$TMP
unset XDG_CACHE_HOME
mkdir -p "$FAKE_SSH"/{h1,h2,h3} "$TANDEM_RUN_DIR"
CLUSTER=hosts
HTTP=127.0.0.1:$(free_port)
PORT=$(free_port)
yaml=$TMP/hosts.yaml
said=$TMP/said

tandem() { timeout 60 "$BIN/tandem" "$@"; }

# file ENTRY...: the cluster file with these hosts.
file() {
    {
        echo "cluster: $CLUSTER"
        echo "model: $DEMO"
        echo "ssh: $PWD/tests/lib/fake-ssh -o BatchMode=yes"
        echo "router: {http: \"$HTTP\", nodes: \"tcp://127.0.0.1:$PORT\"}"
        echo "hosts:"
        printf '  - {%s}\n' "$@"
    } >"$yaml"
}
H1="host: h1, address: 127.0.0.1, prefill: 1, decode: 1"
H2="host: h2, address: 127.0.0.2, decode: 1"
H3="host: h3, address: 127.0.0.3, decode: 1"

# has TEXT...: $said has each.
has() {
    local text
    for text in "$@"; do grep -qF -- "$text" "$said" || { echo "missing \"$text\" in:"; cat "$said"; return 1; }; done
}
up_ok() { tandem up "$@" "$yaml" >"$said" 2>&1 || { cat "$said"; return 1; }; }
# up_fails TEXT...: exit code 1, a sentence for each text, and nothing is left.
up_fails() {
    tandem up "$yaml" >/dev/null 2>"$said"
    [ $? = 1 ] || { echo "exit code is not 1"; cat "$said"; return 1; }
    [ "$(wc -l <"$said")" = $# ] || { echo "not $# lines:"; cat "$said"; return 1; }
    has "$@" && nothing_left
}
# Processes of the hosts, and of this machine's run directory.
processes() {
    local p
    for p in $(env -u TANDEM_RUN_DIR grep -lszE "^TANDEM_RUN_DIR=($FAKE_SSH|$TANDEM_RUN_DIR)" /proc/[0-9]*/environ); do
        [ "$(readlink "${p%environ}exe")" = "$BIN/tandem" ] || continue
        tr '\0' ' ' <"${p%environ}cmdline" && echo
    done 2>/dev/null
}
nothing_left() {
    local i left
    for i in $(seq 30); do
        left=$(processes; ls -A "$TANDEM_RUN_DIR" "$FAKE_SSH"/*/run 2>/dev/null | grep -v ':$')
        [ -n "$left" ] || return 0
        sleep 0.1
    done
    echo "left behind: $left"
    return 1
}
ready() { nodes '[.nodes[] | select(.state == "ready") | .name] | sort | join(" ")'; }
URL=http://$HTTP

starts() {
    up_ok && has "h1: loads" "h2: loads" "cluster hosts is ready at http://$HTTP on h1" &&
        [ "$(ready)" = "decode-1 decode-2 prefill-1" ] && [ -z "$(processes | grep -w up)" ]
}
works() {
    tandem run --temperature=0 --max_tokens=8 hosts "It is a truth" >"$said" 2>&1 && has "8 output tokens" &&
        tandem status hosts >"$said" && has decode-2 prefill-1
}
goes() { tandem down hosts >"$said" && has "cluster hosts is down" && nothing_left; }

file "$H1" "$H2"
t "up starts the cluster on two hosts" starts
t "run and status go to the router's host" works
t "down ends it everywhere" goes
