#!/bin/sh
# make demo: starts the cluster of demo.yaml, has it write some Jane Austen, ends it, and looks that
# nothing is left. TANDEM_HTTP=host:port takes another port.
# usage: demo.sh BIN_DIR
set -u
[ $# -eq 1 ] || { echo "usage: demo.sh BIN_DIR" >&2; exit 2; }
tandem=$1/tandem
file=$(dirname "$0")/demo.yaml
prompt="It is a truth universally acknowledged, that"

# A run directory of its own: another cluster called demo is not touched. What we start has it in its
# environment, by which it is found again. Made once the traps stand.
TANDEM_RUN_DIR=${TMPDIR:-/tmp}/tandem-demo.$$
export TANDEM_RUN_DIR

say() { printf '\n== %s\n' "$1"; }

# The processes that have our run directory in their environment. This shell has not: it was started
# before; and a dead one that nobody has waited for has no environment left.
processes() {
    env -u TANDEM_RUN_DIR grep -lsz "^TANDEM_RUN_DIR=$TANDEM_RUN_DIR\$" /proc/[0-9]*/environ
}

# Ends what runs; says what is left, which should be nothing. A second Ctrl-C does not cut it short.
finish() {
    rc=$1
    trap '' EXIT INT TERM HUP
    "$tandem" down demo >/dev/null 2>&1
    left=$(processes; ls -A "$TANDEM_RUN_DIR" 2>/dev/null; find /dev/shm -name '*tandem*' 2>/dev/null)
    rmdir "$TANDEM_RUN_DIR" 2>/dev/null
    if [ -n "$left" ]; then
        printf 'demo: left behind:\n%s\n' "$left" >&2
        exit 1
    fi
    exit "$rc"
}
trap 'finish $?' EXIT
trap 'finish 130' INT
trap 'finish 143' TERM
trap 'finish 129' HUP
mkdir -m 700 "$TANDEM_RUN_DIR" || exit 1

say "tandem up deploy/demo.yaml"
"$tandem" up "$file" || exit 1

say "tandem run \"$prompt\""
printf '%s' "$prompt"
"$tandem" run demo --temperature=0 --max_tokens=96 "$prompt" || exit 1

say "tandem status"
sleep 0.5 # nodes tell their counts with each heartbeat
"$tandem" status demo || exit 1

say "tandem down"
"$tandem" down demo || exit 1
left=$(processes; ls -A "$TANDEM_RUN_DIR")
[ -z "$left" ] && echo "nothing is left: no process, no socket, no shared memory"
