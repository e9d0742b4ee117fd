#!/bin/sh
# Every test: shape of the tree, unit tests plain and under sanitizers, clusters of real processes.
# Ends with the line `N passed, M failed, K skipped`; exits non-zero if any failed.
set -u
cd "$(dirname "$0")/.." || exit 2
MAKE=${MAKE:-make}
jobs=$(nproc)
TALLY=$(mktemp)
export TALLY
trap 'rm -f "$TALLY" "$TALLY".*' EXIT

# Runs one script as one test.
one() {
    if out=$("$@" 2>&1); then
        echo "ok   $*"
        echo "1 0 0" >>"$TALLY"
    else
        echo "FAIL $*"
        echo "$out"
        echo "0 1 0" >>"$TALLY"
    fi
}
build() {
    "$MAKE" --no-print-directory -j"$jobs" "$@" || { echo "does not compile: make $*"; exit 1; }
}

echo "== the tree"
for t in tests/tree/*.sh; do one "$t"; done

echo "== unit tests"
build all tests
tests/run.sh build

echo "== unit tests under AddressSanitizer and UndefinedBehaviorSanitizer"
build SAN=1 all tests
tests/run.sh build/san

echo "== threads under ThreadSanitizer"
# not of sockets: what passes through libzmq, which is not instrumented, looks like a race
threads="base/test_ring host/test_team engine/test_engine daemon/test_compute"
# shellcheck disable=SC2086,SC2046 # words on purpose
build TSAN=1 $(printf 'build/tsan/tests/common/%s ' $threads)
tests/run.sh build/tsan "/($(echo $threads | tr ' ' '|'))\$"

# clusters BIN [FOLDER]: every test of tests/FOLDER, cluster, with the programs there
clusters() {
    log=$TALLY.${2:-cluster}
    for t in "tests/${2:-cluster}"/*.sh; do
        TANDEM_BIN=$1 "$t" >"$log" 2>&1
        rc=$?
        cat "$log"
        p=$(grep -c '^ok ' "$log") f=$(grep -c '^not ok ' "$log")
        s=$(grep -c '^skip ' "$log")
        rm -f "$log"
        # a script that dies, or says nothing, failed
        if [ "$f" -eq 0 ] && { [ "$rc" -ne 0 ] || [ $((p + s)) -eq 0 ]; }; then
            echo "FAIL $t (exit code $rc)"
            f=1
        fi
        echo "$p $f $s" >>"$TALLY"
    done
}
# What only computes goes beside the clusters, which mostly wait; it is shown when it is done.
aside() {
    echo "== 64-bit Arm in qemu, alone and in a cluster with this machine"
    clusters build/bin arm
    echo "== simulated faults, plain and sanitized"
    one build/tests/tandem-sim --schedules=10000 --jobs=1
    one build/san/tests/tandem-sim --schedules=300 --jobs=1
    one build/tests/tandem-sim --nodes=4000 --rate=4000 --requests=2000
    trace=${TANDEM_TEST_DATA:-../shared/data}/traces/mooncake-conversation.jsonl
    [ ! -r "$trace" ] || one build/tests/tandem-sim --nodes=1000 --trace="$trace" --requests=1000
}
(renice -n 15 "$(exec sh -c 'echo "$PPID"')" >/dev/null 2>&1; aside) >"$TALLY.aside" 2>&1 &

echo "== clusters of real processes"
clusters build/bin
echo "== clusters under AddressSanitizer and UndefinedBehaviorSanitizer"
clusters build/san/bin

echo "== what tandem render writes for systemd, Slurm and Kubernetes"
clusters build/bin render

echo "== the router's page in headless Chromium"
clusters build/bin web

echo "== several hosts, in network namespaces (make check-netns: all of it)"
clusters build/bin netns

wait
cat "$TALLY.aside"

echo "== nodes killed and stopped under load; the router alone under load"
one env TANDEM_BIN=build/bin N=6 GAP_S=none tests/chaos/chaos.sh build/tests/tandem-streams
one env STREAMS=300 TOKENS=40 LIMIT_US=none bench/mock/router.sh build/bin build/tests/tandem-mock http

awk '{p += $1; f += $2; s += $3} END {
    printf "%d passed, %d failed, %d skipped\n", p, f, s
    exit f > 0 || p == 0
}' "$TALLY"
