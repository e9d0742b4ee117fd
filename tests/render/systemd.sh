#!/bin/bash
# The units of `tandem render systemd`: systemd reads them without a word, their command lines serve,
# and what the programs then ask of the kernel is what the sandbox grants.
. tests/lib/cluster.sh
UNITS=$TMP/units
started=
trap '[ -z "$started" ] || kill $started 2>/dev/null; wait; finish' EXIT

render() {
    PORT=$(free_port)
    cat >"$TMP/c.yaml" <<EOF
cluster: units
model: $DEMO
ratio: "1:1"
prefill: {nodes: 1}
decode: {nodes: 1, slots: 4}
router: {http: "127.0.0.1:$PORT"}
EOF
    "$BIN/tandem" render systemd "$TMP/c.yaml" -o "$UNITS" || return 1
    [ "$(cd "$UNITS" && echo *)" = "sysusers.conf tandem-units-decode-1.service tandem-units-prefill-1.service tandem-units-router.service tandem-units.target" ]
}
# systemd-analyze leaves with 0 after a complaint, too
verified() {
    (cd "$UNITS" && systemd-analyze verify ./*.service ./*.target) >"$TMP/said" 2>&1 || { cat "$TMP/said"; return 1; }
    cat "$TMP/said"
    [ ! -s "$TMP/said" ]
}
complains() { # that `verified` can fail
    sed 's/^RestartSec=.*/RestartSecs=1/' "$UNITS/tandem-units-router.service" >"$TMP/wrong.service"
    systemd-analyze verify "$TMP/wrong.service" 2>&1 | grep -q RestartSecs
}
sandboxed() {
    local u
    for u in "$UNITS"/*.service; do
        systemd-analyze security --offline=true --threshold=20 "$u" >"$TMP/said" 2>&1 || { tail -n 3 "$TMP/said"; return 1; }
    done
}
# command UNIT: its ExecStart with the test's own run directory
command_of() {
    sed -n '/^ExecStart=/,/[^\\]$/p' "$UNITS/tandem-units-$1.service" | sed 's/^ExecStart=//; s/\\$//' |
        tr '\n' ' ' | sed "s|/run/tandem/units|$TMP|g"
}
serves() {
    local u
    for u in router prefill-1 decode-1; do
        # shellcheck disable=SC2046 # words on purpose
        ${STRACE:+strace -f -qq -o "$TMP/$u.calls"} $(command_of "$u") 2>"$TMP/$u.log" &
        started="$started $!"
    done
    URL=http://127.0.0.1:$PORT
    for u in $(seq 200); do
        curl -sf -m 5 "$URL/ready" >/dev/null && break
        sleep 0.1
    done
    post /v1/completions '{"prompt": "Emma", "max_tokens": 20, "ignore_eos": true}' | jq -e '.usage.completion_tokens == 20' ||
        { tail -n 3 "$TMP"/*.log; return 1; }
}
stops() { # as ExecStop does
    local stop
    stop=$(sed -n 's/^ExecStop=-//p' "$UNITS/tandem-units-decode-1.service")
    [ -n "$stop" ] && $stop && nodes '[.nodes[].name] | join(" ")' | grep -qx prefill-1
}
# flat SET: its calls, sets within it resolved
flat() {
    systemd-analyze syscall-filter "$1" | sed '1d; s/^ *//; s/#.*//; /^$/d' | while read -r word; do
        case $word in @*) flat "$word" ;; *) echo "$word" ;; esac
    done
}
within() {
    flat @system-service | sort -u >"$TMP/service"
    flat @privileged | sort -u | comm -23 "$TMP/service" - >"$TMP/granted"
    sed -n 's/^[0-9]* *\([a-z_0-9]*\)(.*/\1/p' "$TMP"/*.calls | sort -u >"$TMP/made"
    [ "$(wc -l <"$TMP/made")" -gt 20 ] || return 1
    comm -23 "$TMP/made" "$TMP/granted" >"$TMP/beyond"
    cat "$TMP/beyond"
    [ ! -s "$TMP/beyond" ] || return 1
    # MemoryDenyWriteExecute, RestrictAddressFamilies
    ! grep -h 'PROT_WRITE|PROT_EXEC' "$TMP"/*.calls || return 1
    ! grep -ho 'socket(AF_[A-Z0-9]*' "$TMP"/*.calls | grep -v 'AF_UNIX$\|AF_INET$\|AF_INET6$\|AF_NETLINK$'
}

command -v systemd-analyze >/dev/null || { echo "skip systemd: no systemd-analyze"; exit 0; }
# a sanitizer's own calls are none of ours, and its leak check does not run under strace
command -v strace >/dev/null && ! grep -q __asan_init "$BIN/tandem-router" && STRACE=yes
t "render" render
t "systemd has nothing to say about the units" verified
t "systemd does say what it does not know" complains
t "the sandbox scores below 2.0" sandboxed
t "the command lines serve" serves
t "a node that is stopped is drained" stops
for p in $started; do
    pkill -P "$p" # strace's child
    kill "$p"
done 2>/dev/null
wait
started=
if [ -n "${STRACE:-}" ]; then t "system calls are those the sandbox grants" within; else echo "skip system calls: no strace, or sanitized"; fi
