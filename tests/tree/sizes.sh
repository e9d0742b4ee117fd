#!/bin/sh
# A file of ours has at most 600 lines, a header at most 150 (tables of the wire and of kernels
# excepted), a function at most 70 (kernels and option tables excepted).
cd "$(dirname "$0")/../.." || exit 2
bad=0
for f in $(find common router prefill-node decode-node deploy bench -name '*.[ch]'); do
    n=$(wc -l <"$f")
    max=600
    case $f in common/net/msg.h | common/kernels/*.h) ;; *.h) max=150 ;; esac
    [ "$n" -le "$max" ] || { echo "$f: $n lines, at most $max"; bad=1; }
    case $f in *.h | common/kernels/*) continue ;; esac
    awk -v f="$f" '
        /^[a-zA-Z_].*[^;]$/ && !/^#/ { name = $0; at = NR }
        /^{/ { start = NR }
        /^}/ && start { if (NR - start - 1 > 70) {
            printf "%s:%d: %s has %d lines, at most 70\n", f, start, name, NR - start - 1; bad = 1 }
            start = 0 }
        END { exit bad }' "$f" || bad=1
done
exit $bad
