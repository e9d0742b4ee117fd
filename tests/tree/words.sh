#!/bin/sh
# The tree speaks of itself alone: no paths of a developer's machine, no trailing blanks, no tabs
# in C sources.
cd "$(dirname "$0")/../.." || exit 2
bad=0
hits=$(git grep -nI -e '/work/' -e '/home/' -e '/root/' -- . ':!tests/tree/words.sh') && { echo "$hits"; bad=1; }
hits=$(git grep -nIE '[[:space:]]+$' -- '*.c' '*.h' '*.sh' '*.md' '*.proto' '*.yaml') && { echo "$hits"; bad=1; }
hits=$(git grep -nIP '\t' -- '*.c' '*.h' '*.proto') && { echo "$hits"; bad=1; }
exit $bad
