#!/bin/bash
# `tandem doctor`: what is wrong on the hosts of a file, before and while they serve. The other host is this machine,
# by an ssh that goes nowhere.
. tests/lib/cluster.sh
cat >"$TMP/ssh" <<'EOF'
#!/bin/sh
[ "$1" != gone ] || { echo "ssh: connect to host gone port 22: No route to host" >&2; exit 255; }
shift
exec sh -c "$*"
EOF
chmod +x "$TMP/ssh"

# file PORT HOST: a cluster on this machine and on HOST
file() {
    cat >"$TMP/two.yaml" <<EOF
cluster: sick
model: $DEMO
ssh: $TMP/ssh
router: {http: "127.0.0.1:$1", nodes: "tcp://127.0.0.1:$(free_port)"}
hosts: [{host: local, address: 127.0.0.1}, {host: $2, address: 127.0.0.1, programs: ${3:-$BIN}}]
EOF
}
doctor() { "$BIN/tandem" doctor "$@" >"$TMP/said" 2>"$TMP/err"; }
both_are_looked_at() {
    file "$(free_port)" other
    doctor --json "$TMP/two.yaml"
    jq -e . "$TMP/said" >/dev/null && [ "$(jq -r .host "$TMP/said" | tr '\n' ' ')" = "local other " ] || return 1
    # each has its programs, its model and enough memory, and says how KV goes; their one clock is not apart
    [ "$(jq -r '.findings[] | select(.check == "programs" or .check == "model" or .check == "memory") | .state' "$TMP/said" | tr '\n' ' ')" = \
        "ok ok ok ok ok ok " ] || { cat "$TMP/said"; return 1; }
    [ "$(jq -r '.findings[] | select(.check == "kv") | .value' "$TMP/said" | grep -c '^nodes of this host')" = 2 ] || return 1
    jq -e 'select(.host == "other") | .findings[] | select(.check == "clock" and (.value | contains("this machine")))' "$TMP/said" |
        jq -e '.state == "ok"'
}
port_is_named() {
    local port
    port=$(free_port)
    file "$port" other
    "$BIN/tandem-router" --model="$DEMO" --http="127.0.0.1:$port" --nodes="ipc://$TMP/n.sock" --clients="ipc://$TMP/c.sock" 2>/dev/null &
    local pid=$!
    for _ in $(seq 50); do curl -s "127.0.0.1:$port/health" >/dev/null && break || sleep 0.1; done
    doctor "$TMP/two.yaml" && { kill $pid; return 1; }
    kill $pid
    wait $pid
    grep "^  wrong  port  .* $port is taken by tandem-router, process $pid  ->  kill $pid" "$TMP/said" || { cat "$TMP/said"; return 1; }
}
gone_is_one_line() {
    file "$(free_port)" gone
    ! doctor "$TMP/two.yaml" && grep -A1 '^host gone$' "$TMP/said" | grep '^  wrong  connection' || { cat "$TMP/said" "$TMP/err"; return 1; }
    [ "$(sed -n '/^host gone/,$p' "$TMP/said" | wc -l)" = 2 ] && grep -q '^  ok     model' "$TMP/said"
}
missing_programs() {
    file "$(free_port)" other "$TMP/nowhere"
    ! doctor "$TMP/two.yaml" && grep '^  wrong' "$TMP/said"
}
running_is_well() {
    up well "$DEMO" || return 1
    doctor "$TMP/well.yaml" || { cat "$TMP/said" "$TMP/err"; return 1; }
    grep -q "port .* is the running cluster's" "$TMP/said"
}

t "each host is looked at" both_are_looked_at
t "who has a port is named" port_is_named
t "a host that does not answer is one line" gone_is_one_line
t "programs that are missing are told" missing_programs
t "a cluster that runs is well" running_is_well
