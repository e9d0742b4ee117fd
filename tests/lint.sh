#!/bin/sh
# clang-tidy and cppcheck over our C, and the shape of the tree. Prints findings; silent when clean.
set -u
cd "$(dirname "$0")/.." || exit 2
make --no-print-directory -j"$(nproc)" all tests || exit 1 # -Wall -Wextra -Wshadow -Werror, and build/proto
rc=0
for t in tests/tree/*.sh; do "$t" || rc=1; done
flags="-std=c11 -D_GNU_SOURCE '-DTANDEM_VERSION=\"x\"' -Icommon -Ibuild/proto -I." # words of sh
files=$(find common router prefill-node decode-node deploy bench -name '*.c' | sort)
# Kernels need their instruction set to parse.
for f in $files; do
    isa=
    case $f in
    *_avx2.c) isa="-mavx2 -mfma -mf16c" ;;
    *_avx512vnni.c) isa="-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni" ;;
    *_amx.c) isa="-mavx512f -mavx512bw -mavx512bf16 -mamx-tile -mamx-bf16 -mamx-int8" ;;
    */arm/*) # against the libraries of `install-deps.sh arm`, if they are there
        [ -d build/aarch64/sysroot/usr ] || continue
        isa="--target=aarch64-linux-gnu --sysroot=build/aarch64/sysroot -march=armv8.2-a+dotprod+i8mm" ;;
    esac
    # no blank at the end: to xargs -L it would mean that the line goes on
    echo "$f${isa:+ $isa}"
done | xargs -P "$(nproc)" -L 1 sh -c '
    f=$0
    clang-tidy --quiet "$f" -- '"$flags"' "$@" 2>/dev/null | grep -E "(warning|error):" && exit 1
    exit 0' || rc=1
cppcheck --quiet --std=c11 --enable=warning,portability --inline-suppr --suppress=missingIncludeSystem \
    --suppress='invalidPointerCast:common/kernels/*' --suppress=normalCheckLevelMaxBranches --error-exitcode=1 -D__x86_64__ -DTANDEM_VERSION='"x"' \
    -Icommon -I. common router prefill-node decode-node deploy bench || rc=1
[ "$rc" -eq 0 ] && echo "lint: clean"
exit $rc
