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
nothing_left() { # [2]: nor below the folder of this user, which may be there if its maker was killed
    local i left
    for i in $(seq 30); do
        left=$(processes; find "$TANDEM_RUN_DIR" "$FAKE_SSH"/*/run -mindepth "${1:-1}" 2>/dev/null)
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
        [ "$(ready)" = "decode-1 decode-2 prefill-1" ] && [ -z "$(processes | grep -w up)" ] &&
        grep -E "^process +role +host +domain " "$said" &&
        tandem status hosts >"$said" && has "cluster hosts at http://$HTTP on h1, model"
}
works() {
    tandem run --temperature=0 --max_tokens=8 hosts "It is a truth" >"$said" 2>&1 && has "8 output tokens" &&
        tandem status hosts >"$said" && has "cluster hosts at http://$HTTP" decode-1 prefill-1
}
goes() { tandem down hosts >"$said" && has "cluster hosts is down" && nothing_left; }


again() { up_ok && has "nothing to change" && [ "$(ready)" = "decode-1 decode-2 prefill-1" ]; }
from_elsewhere() {
    cp "$yaml" "$TMP/other.yaml"
    ! tandem up "$TMP/other.yaml" 2>"$said" && has "running already, from $yaml"
}
# changed_under_load: streams that run while hosts come and go are whole.
stream() { post /v1/completions '{"prompt": "It is a truth", "max_tokens": 400, "temperature": 0, "stream": true, "ignore_eos": true}' | sse_text; }
changed() {
    local i bad=0
    stream >"$TMP/want"
    for i in 1 2 3 4; do stream >"$TMP/got.$i" & done
    file "$H1" "$H3"
    up_ok && has "h2: decode-2 drained, to run elsewhere" "h3: decode-2 added" "h2: this host left" "3 changes" || bad=1
    wait
    for i in 1 2 3 4; do cmp "$TMP/want" "$TMP/got.$i" || bad=1; done
    [ "$(ready)" = "decode-1 decode-2 prefill-1" ] && [ ! -e "$FAKE_SSH"/h2/run/*/hosts ] && [ $bad = 0 ]
}
router_changed() {
    sed -i "s/nodes: \"tcp/queue_max: 77, nodes: \"tcp/" "$yaml"
    up_ok && has "h1: router replaced" "1 change" || return 1
    works && grep -q -- --queue_max=77 <(pgrep -af "tandem-router --cluster=$CLUSTER")
}
node_broken() { # what runs goes on, the node that could not be replaced too
    file "$H1" "$H3"
    sed -i "s/^hosts:/decode: {swap: 1TiB}\nhosts:/" "$yaml"
    tandem up "$yaml" >"$TMP/out1" 2>"$said" && { cat "$TMP/out1"; return 1; }
    cat "$TMP/out1" >>"$said"
    has "ended at start" "is as it was" && [ "$(ready)" = "decode-1 decode-2 prefill-1" ] || return 1
    file "$H1" "$H3"
    up_ok && has "nothing to change"
}
scaled() {
    tandem scale hosts decode=3 --host=h1 >"$said" && has "decode-3 is up" "of h1" &&
        tandem scale hosts decode=4 >>"$said" && [ "$(ready)" = "decode-1 decode-2 decode-3 decode-4 prefill-1" ] &&
        tandem scale hosts decode=2 >"$said" && has "decode-4 is drained and gone" "decode-3 is drained and gone" &&
        [ "$(ready)" = "decode-1 decode-2 prefill-1" ]
}
drained() {
    tandem drain --wait_s=20 hosts decode-2 >"$said" && has "decode-2 has left" && up_ok && has "h3: decode-2 added"
}
# router_gone: its host's supervisor and processes are: each command says so, and nothing is begun.
router_gone() {
    local command
    kill -9 "$(cat "$FAKE_SSH"/h1/run/*/hosts/supervisor.pid)"
    sleep 0.5
    for command in "status hosts" "drain hosts decode-2" "run hosts hello" "top -n 1 hosts" "scale hosts decode=5"; do
        # shellcheck disable=SC2086
        tandem $command 2>"$said" && return 1
        has "h1: " "$HTTP: Connection refused" || return 1
    done
    has "tandem scale: nothing was changed: " && up_ok && [ "$(ready)" = "decode-1 decode-2 prefill-1" ]
}
supervisor_killed() { # one host's supervisor: `up` starts that host again
    kill -9 "$(cat "$FAKE_SSH"/h3/run/*/hosts/supervisor.pid)"
    sleep 0.2
    up_ok && has "h3: decode-2 added" && [ "$(ready)" = "decode-1 decode-2 prefill-1" ]
}
logs() {
    tandem logs -n 100 hosts >"$said" && has "h1 router | " "h1 prefill-1 | " "h3 decode-2 | " "h3 supervisor | " || return 1
    sed 's/.*| //' "$said" | grep -E '^[0-9]{4}-' | cut -c1-24 | sort -c || return 1 # in order, whatever the host
    tandem logs -n 1 decode-2 >"$said" && [ "$(wc -l <"$said")" = 1 ] && grep " decode-2 " "$said" &&
        ! tandem logs hosts decode-9 2>"$said" && has 'cluster hosts has no process "decode-9" with a log'
}
logs_follow() {
    local pid i
    "$BIN/tandem" logs -f -n 0 hosts router >"$said" 2>&1 &
    pid=$!
    for i in $(seq 50); do
        tandem run --max_tokens=4 hosts "It is" >/dev/null 2>&1
        grep -q "finish=length" "$said" && break
        sleep 0.1
    done
    kill $pid
    has "finish=length"
}
unreachable() {
    printf 'ssh: connect to host h2 port 22: %s\n' "$1" >"$FAKE_SSH/h2/refuse"
    up_fails "$2"
    local rc=$?
    rm "$FAKE_SSH/h2/refuse"
    return $rc
}
two_wrong() {
    echo "Host key verification failed." >"$FAKE_SSH/h1/refuse"
    echo "a@h2: Permission denied (publickey)." >"$FAKE_SSH/h2/refuse"
    up_fails "tandem up: h1: its host key is not known here; \`ssh h1\` once shows it and asks" \
        "tandem up: h2: it does not let us in; \`ssh-copy-id h2\` gives it a key of ours"
    local rc=$?
    rm "$FAKE_SSH"/h[12]/refuse
    return $rc
}
absent() {
    file "$H1" "$H2, programs: /nowhere/bin"
    up_fails "tandem up: h2: /nowhere/bin/tandem is not there; install tandem, or say where it is"
}
other_version() { # its greeting comes from something that is not ours
    mkdir -p "$TMP/bin"
    cat >"$TMP/bin/tandem" <<'END'
#!/bin/sh
echo '{"re": "hello", "version": "0.0.9"}'
cat >/dev/null
END
    chmod +x "$TMP/bin/tandem"
    file "$H1" "$H2, programs: $TMP/bin"
    up_fails "tandem up: h2: $TMP/bin/tandem there is version 0.0.9, here it is"
}
model_absent() {
    file "$H1" "$H2, model: $FAKE_SSH/h2/models/m.gguf"
    up_fails "tandem up: h2: the model is not there: no $FAKE_SSH/h2/models/m.gguf; \`tandem up --sync\` copies it"
}
model_cut() { # the connection breaks in the middle of the copy
    echo 2000000 >"$FAKE_SSH/h2/cut"
    tandem up --sync "$yaml" >"$said" 2>&1 && return 1
    rm "$FAKE_SSH/h2/cut"
    has "tandem up: h2: the connection to it ended" && [ ! -e "$FAKE_SSH/h2/models/m.gguf" ] &&
        [ "$(stat -c %s "$FAKE_SSH"/h2/models/m.gguf.*.part)" -gt 1000000 ] && nothing_left
}
model_resumed() {
    up_ok --sync && has "h2: copies the rest of the model" && cmp "$DEMO" "$FAKE_SSH/h2/models/m.gguf" &&
        [ "$(ls "$FAKE_SSH/h2/models")" = m.gguf ] && goes
}
model_other() {
    printf '\377' | dd of="$FAKE_SSH/h2/models/m.gguf" bs=1 seek=1000000 conv=notrunc 2>/dev/null
    up_fails "tandem up: h2: $FAKE_SSH/h2/models/m.gguf is another model than ours" &&
        ! tandem up --sync "$yaml" 2>/dev/null && nothing_left
}
killed() { # up is killed while the hosts load: nothing goes on there
    file "$H1" "$H2"
    local after pid i
    for after in 0.05 0.15 0.3; do
        "$BIN/tandem" up --foreground "$yaml" >/dev/null 2>&1 &
        pid=$!
        sleep "$after"
        kill -"$1" "$pid"
        wait "$pid"
        for i in $(seq 40); do [ -z "$(processes)" ] && break; sleep 0.1; done
        [ "$1" = KILL ] && tandem down hosts >/dev/null 2>&1 # forgets what `up` could not
        nothing_left "$([ "$1" = KILL ] && echo 2)" || { echo "after $after s"; return 1; }
    done
}
keyed() { # the router wants a key, and its host's agent has not got ours
    echo "ops 0123456789abcdefgh admin" >"$TMP/api_keys"
    chmod 600 "$TMP/api_keys"
    file "$H1" "$H2"
    sed -i "s|router: {|router: {api_keys: $TMP/api_keys, |" "$yaml"
    TANDEM_API_KEY=0123456789abcdefgh up_ok && ! tandem drain hosts decode-2 2>"$said" &&
        TANDEM_API_KEY=0123456789abcdefgh tandem scale hosts decode=1 >"$said" && has "decode-2 is drained and gone" &&
        goes
}
local_too() { # this machine is one of them, and has the router
    file "host: local, address: 127.0.0.1, prefill: 1" "$H2"
    up_ok && works && again_two && goes
}
kept() { # h1 has more room, but is for prefill; h2 gives one core
    local cpus
    cpus=$(awk '/^Cpus_allowed_list/ {print $2}' /proc/self/status)
    file "host: h1, address: 127.0.0.1, prefill: 1" "$H2, cores: '${cpus%%[-,]*}'"
    up_ok && tandem scale hosts decode=2 >"$said" && has "decode-2 is up, 1 core of domain" "of h2, shared" && goes
}
# keyed_alone: a cluster of this machine alone that listens for nodes of others has keys, and keeps them.
keyed_alone() {
    local keys=$TANDEM_RUN_DIR/tandem-$UID/hosts/keys.all
    printf '%s\n' "cluster: hosts" "model: $DEMO" 'hosts: [{host: local, address: 127.0.0.1}]' \
        "router: {http: \"$HTTP\", nodes: \"tcp://0.0.0.0:$PORT\"}" >"$yaml"
    up_ok && [ "$(stat -c %a "$keys")" = 600 ] && works || return 1
    cp "$keys" "$TMP/before"
    sed -i 's/nodes: "tcp/queue_max: 77, nodes: "tcp/' "$yaml"
    up_ok && has "router replaced" && cmp "$TMP/before" "$keys" && works && goes
}
again_two() { up_ok && has "nothing to change"; }

file "$H1" "$H2"
t "up starts the cluster on two hosts" starts
t "run and status go to the router's host" works
t "up again changes nothing" again
t "another file of the same name is refused" from_elsewhere
t "up with another host moves a node there, under load" changed
t "up with another option of the router starts that anew" router_changed
file "$H1" "$H3"
up_ok
t "a node that does not start as told goes on as it was" node_broken
t "logs of all hosts, in order of time" logs
t "logs that are followed" logs_follow
t "scale adds where it is told, or where there is room, and drains" scaled
t "drain, then up brings it back" drained
t "up starts again a host whose supervisor was killed" supervisor_killed
t "commands say that the router is gone, and up starts its host again" router_gone
t "down ends it everywhere" goes
file "$H1" "$H2"
t "a host that does not answer" unreachable "Connection timed out" "tandem up: h2: h2 is unreachable: it does not answer"
t "a host without ssh" unreachable "Connection refused" "tandem up: h2: no ssh server answers at h2"
t "two hosts that refuse: a sentence each" two_wrong
t "no tandem there" absent
t "another version there" other_version
t "a host that is no host" eval 'file "$H1" "host: nowhere, decode: 1"; up_fails "nowhere"'
t "no model there, without --sync" model_absent
t "a copy that is cut" model_cut
t "goes on where it was cut, and the cluster starts" model_resumed
t "another model there is not overwritten" model_other
t "up that is killed leaves nothing on the hosts" killed KILL
t "up that is interrupted leaves nothing on the hosts" killed TERM
t "a router that asks for a key is given ours" keyed
t "this machine is one of the hosts" local_too
t "scale keeps to the hosts and cores that the file names" kept
t "one host that listens for others' nodes has keys" keyed_alone
