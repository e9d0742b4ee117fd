#!/bin/sh
# Runs the unit tests of one build and prints `N passed, M failed[, K skipped]`.
# usage: run.sh BUILD [PATTERN]     PATTERN: only tests whose path contains it
# A test program prints cmocka's lines; one that dies counts as one failure.
set -u
build=$1
pattern=${2:-}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0 skipped=0

for t in $(find "$build/tests" -type f -name 'test_*' -perm -u+x | sort); do
    case $t in *"$pattern"*) ;; *) continue ;; esac
    "$t" >"$log" 2>&1
    rc=$?
    ok=$(grep -c '^\[       OK \]' "$log")
    bad=$(grep -c '^\[  FAILED  \] [a-z].*[^:]$' "$log")
    skip=$(grep -c '^\[  SKIPPED \] [a-z].*[^:]$' "$log")
    ran=$(grep -c '^\[ RUN      \]' "$log")
    bad=$((ran - ok - skip))
    if [ "$rc" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
    if [ "$ran" -eq 0 ] && [ "$rc" -eq 0 ]; then bad=1; fi # a test program with no test
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
    if [ "$bad" -ne 0 ]; then
        echo "FAIL ${t#"$build"/} (exit code $rc)"
        cat "$log"
    else
        echo "ok   ${t#"$build"/}: $ok passed$([ "$skip" -eq 0 ] || echo ", $skip skipped")"
        [ "$skip" -eq 0 ] || grep -h 'skipped:' "$log" | sort -u
    fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
