#!/bin/sh
# Includes point down: in common/ a folder includes itself and those before it in the list; a daemon
# includes common/ and itself; nobody includes a daemon. Only net/ knows protobuf, only sock.c ZeroMQ.
cd "$(dirname "$0")/../.." || exit 2
layers="base config host model kv kernels engine net daemon"
daemons="router prefill-node decode-node deploy bench"
bad=0
say() { echo "$1"; bad=1; }

allowed=
for l in $layers; do
    allowed="$allowed $l"
    for up in $layers $daemons tests; do
        # kernels and kv know each other's layouts through kv_layout.h, which has no code above it
        case " $allowed " in *" $up "*) continue ;; esac
        hits=$(grep -rn "^#include \"$up/" "common/$l" --include='*.[ch]') && say "$hits"
    done
done
for d in $daemons; do
    for other in $daemons tests; do
        [ "$d" = "$other" ] && continue
        hits=$(grep -rn "^#include \"$other/" "$d" --include='*.[ch]') && say "$hits"
    done
done
hits=$(grep -rln 'pb-c\.h"\|protobuf-c' common router prefill-node decode-node deploy bench --include='*.[ch]' |
    grep -v '^common/net/codec') && say "protobuf outside common/net/codec: $hits"
hits=$(grep -rln '<zmq\.h>' common router prefill-node decode-node deploy bench --include='*.[ch]' |
    grep -v '^common/net/sock') && say "ZeroMQ outside common/net/sock: $hits"
exit $bad
