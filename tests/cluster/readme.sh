#!/bin/bash
# The commands that README.md shows work as they stand there, in its order, with its cluster file.
. tests/lib/cluster.sh
port=$(free_port)
mkdir -p "$TANDEM_RUN_DIR" "$TMP/models"
cp "$DEMO" "$TMP/models/model.gguf"
CLUSTER=cluster

# README.md with a port that is free.
readme() { sed "s/127\.0\.0\.1:8000/127.0.0.1:$port/g" README.md; }

# Its shell lines: indented by four; a backslash joins two; without comments.
commands() { readme | sed -n 's/^    //p' | sed -e ':a' -e '/\\$/{N;s/\\\n//;ba' -e '}' -e 's/  *#.*//' | grep -E '^(tandem|curl)'; }

works() {
    local out
    out=$(cd "$TMP" && PATH=$BIN:$PATH bash -c "$1" 2>&1 </dev/null)
    local rc=$?
    echo "$out"
    [ "$rc" = 0 ] && [ -n "$out" ] && [[ $out != *'"error"'* ]]
}

# Its Nth YAML.
yaml() { readme | awk -v n="$1" '/^```/ { i += /^```yaml$/; in_yaml = /^```yaml$/; next } in_yaml && i == n'; }

yaml 1 >"$TMP/cluster.yaml"
commands >"$TMP/commands"
while read -r line; do
    t "README: $line" works "$line"
done <"$TMP/commands"

# Its file of several hosts is read; what is on them is not known here.
{ yaml 1 | grep -v '^hosts:'; yaml 2; } >"$TMP/hosts.yaml"
asks() { (cd "$TMP" && "$BIN/tandem" plan hosts.yaml 2>&1) | grep -q '^tandem plan: host alice@arm1: record its topology'; }
t "README: a file of several hosts" asks
