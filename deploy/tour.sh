#!/bin/bash
# tour.sh: a cluster on several hosts, from nothing to a report: three hosts come up from one file with one
# command; how much load keeps its latency targets is measured; then, under load, a fourth host joins,
# a node is drained and a host loses its power; the same command mends the cluster, and it is measured
# again. The hosts are network namespaces of this machine (tests/lib/netns.sh), reached by ssh.
# usage: tour.sh BIN OUT     leaves report.html, its picture, one of the router's page, and the results in OUT
# Exit code 1 if a request failed or a token changed.
cd "$(dirname "$0")/.." || exit 2
OUT=$(mkdir -p "$2" && cd "$2" && pwd) || exit 2
TANDEM_BIN=$1
. tests/lib/cluster.sh
. tests/lib/netns.sh
FILE=$TMP/cluster.yaml
from_h1
# One sequence for each core that a real host would have for it: the hosts here share the machine's
# processors, and what a host more is worth must not depend on how many those are.
SLOTS=2
TARGETS="ttft:250 tpot:50"
REQUESTS="--random-input-len 100 --random-output-len 64 --num-prompts 100 --request-rate 8"
bad=0

say() { printf '\n== %s\n' "$*"; }
run() {
    local line="$*"
    line=${line#on h1 }
    for d in "$TMP" "$BIN" "$OUT" "$PWD"; do line=${line//$d\//}; done
    printf '$ %s\n' "$line"
    "$@"
}
step() { # step WHAT COMMAND...: the tour ends where a step fails
    local what=$1
    shift
    "$@" || { echo "tour: failed: $what"; exit 1; }
}
file() { # file HOST...: decode nodes there
    {
        printf '%s\n' "cluster: tour" "model: $DEMO" "ssh: ssh -F $TMP/ssh/config -o BatchMode=yes" \
            'router: {http: "127.0.0.1:8000", mode: disaggregated}' "decode: {slots: $SLOTS}" "hosts:" \
            "  - {host: local, address: 10.77.0.1, cores: $(cpu h1), prefill: 1}"
        for h in "$@"; do echo "  - {host: $h, address: 10.77.0.${h#h}, cores: $(cpu "$h"), decode: 1}"; done
    } >"$FILE"
    sed "s|$TMP/||; s/^/    /" "$FILE"
}
goodput() { # goodput NAME [OPTION...]
    local name=$1
    shift
    # shellcheck disable=SC2086 # lists of words
    run on h1 "$BIN/tandem-bench" --base-url "$URL" --tokenizer "$DEMO" $REQUESTS --find-goodput --goodput $TARGETS \
        --result-filename "$OUT/$name.json" --html "$OUT/$name.html" "$@" 2>&1 | tee "$OUT/$name.txt" |
        sed -n '/^\$/p; /^tandem-bench:/p; /^   rate/,/^$/p; /^goodput:/p; /^before:/p; /^short at/p'
    return "${PIPESTATUS[0]}"
}
# picture NAME URL: OUT/NAME.png, as a browser on h1 shows it
picture() {
    local chromium
    chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
        { echo "no picture: there is no chromium (deploy/install-deps.sh web)"; return; }
    on h1 timeout 120 "$chromium" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$TMP/chromium" \
        --window-size=1280,1500 --timeout=4000 --screenshot="$OUT/$1.png" "$2" >"$TMP/chromium.log" 2>&1
    [ -s "$OUT/$1.png" ] && echo "$OUT/$1.png" || { echo "tour: no picture came of $2"; tail -n 3 "$TMP/chromium.log"; bad=1; }
}
router_log() { on h1 cat /tmp/tandem-0/tour/router.log; }

missing=$(net_missing)
[ -z "$missing" ] || { echo "tour: there can be no hosts here: $missing"; exit 1; }

say "three hosts, 10.77.0.1 to .3, each with an sshd; one file"
step "the hosts" net_up 3
file h2 h3
echo "(They share this machine's $(nproc) processors, whose load is $(cut -d' ' -f1 /proc/loadavg) before we begin: figures that are"
echo "small or fall say more of that than of the cluster.)"
say "one command"
step "up" run tandem up "$FILE"
step "three nodes serve" await 10 serving 3
run tandem status "$FILE"
say "how many requests a second keep $TARGETS (ms) for 90 % of requests?"
step "goodput before" goodput before

say "six streams at a time from here on; every token is compared with those of a run without faults"
step "load" load_start --endpoint=ipc:///tmp/tandem-0/tour/clients.sock --streams=6
say "under load: a fourth host joins, by the same command"
step "host h4" host_add h4
file h2 h3 h4
step "h4 joins" run tandem up "$FILE"
step "four nodes serve" await 10 serving 4
say "under load: the node of h2 is drained"
drained=$(decode_on h2)
step "drain" run tandem drain "$FILE" "$drained"
step "it leaves" await 30 gone "$drained"
say "under load: h3 loses its power"
step "within 2 s" vanish host_kill h3
sleep 1
say "under load: h3 is back; the same command starts what is missing there and on h2"
step "host h3" host_add h3
step "up" run tandem up "$FILE"
step "four nodes serve" await 30 serving 4
picture cluster "$URL/"
load_end || bad=1
echo "$(metric tandem_streams_restarted_total) streams were moved to another node"
run tandem status "$FILE"

say "and now?"
step "goodput after" goodput report --before "$OUT/before.json"
for name in before report; do
    failed=$(jq '.failed' "$OUT/$name.json")
    [ "$failed" = 0 ] || { echo "$name: $failed requests failed"; bad=1; }
done
run tandem down "$FILE"

say "the report"
echo "$OUT/report.html"
picture report "file://$OUT/report.html"
say "$([ $bad = 0 ] && echo "no request failed, no token changed" || echo "FAILED")"
exit $bad
