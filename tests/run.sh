#!/bin/sh
# Runs the unit tests of one build and prints `N passed, M failed, K skipped`.
# usage: run.sh BUILD [PATTERN]     PATTERN: only tests whose path contains it (grep -E)
# With TALLY=FILE the three numbers go into FILE instead, for check.sh to add up.
# EMULATOR=COMMAND runs programs of another machine.
# A test program prints cmocka's lines; one that dies, or runs no test, counts as one failure.
set -u
build=$1
pattern=${2:-.}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0 skipped=0

for t in $(find "$build/tests" -type f -name 'test_*' -perm -u+x | grep -E "$pattern" | sort); do
    ${EMULATOR:-} "$t" >"$log" 2>&1
    rc=$?
    ran=$(grep -c '^\[ RUN      \]' "$log")
    ok=$(grep -c '^\[       OK \]' "$log")
    # cmocka names a skipped test twice: where it stands, and in a list at the end
    skip=$(grep '^\[  SKIPPED \] [a-z_0-9]*$' "$log" | sort -u | wc -l)
    bad=$((ran - ok - skip))
    if [ "$bad" -le 0 ]; then
        bad=0
        if [ "$rc" -ne 0 ] || [ "$ran" -eq 0 ]; then bad=1; fi
    fi
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
    if [ "$bad" -ne 0 ]; then
        echo "FAIL ${t#"$build"/} (exit code $rc)"
        cat "$log"
    else
        echo "ok   ${t#"$build"/}: $ok$([ "$skip" -eq 0 ] || echo ", $skip skipped")"
        [ "$skip" -eq 0 ] || grep -h '^skipped:' "$log" | sort -u
    fi
done
if [ -n "${TALLY:-}" ]; then
    echo "$passed $failed $skipped" >>"$TALLY"
else
    echo "$passed passed, $failed failed, $skipped skipped"
fi
[ "$failed" -eq 0 ]
