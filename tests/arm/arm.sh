#!/bin/bash
# The Arm tiers under qemu-user: instructions, bits, and a cluster of x86 and Arm with equal streams.
# usage: arm.sh     Run from the top; builds build/aarch64. Programs of this machine: TANDEM_BIN.
# shellcheck source=tests/lib/cluster.sh
. tests/lib/cluster.sh
if [ "$(uname -m)" != x86_64 ]; then
    echo "skip arm: this machine is not x86_64, where the tiers of both would be compared"
    exit 0
fi
if ! deploy/install-deps.sh arm >"$TMP/deps" 2>&1; then
    echo "skip arm: the cross compiler, qemu or the arm64 libraries cannot be installed: $(tail -n 1 "$TMP/deps")"
    exit 0
fi

ARM=build/aarch64
here=avx2
"$BIN/tandem-decode" --model="$DEMO" --cpu=avx2 --print-config >/dev/null 2>&1 || here=ref
units=$(printf "$ARM/tests/common/%s " host/test_cpu kernels/test_{attention,exp,matmul,panels,vector})
arm() { # CPU PROGRAM...
    local cpu=$1
    shift
    qemu-aarch64 -L $ARM/sysroot -cpu "$cpu" "$@"
}

# shellcheck disable=SC2086 # a list of words on purpose
compiles() { ${MAKE:-make} --no-print-directory ARCH=aarch64 -j"$(nproc)" all $units; }

# owned PATTERN SUFFIX...: only objects with these suffixes have such instructions, and each has.
owned() {
    local pattern=$1 o has may bad=0
    shift
    while read -r o; do
        has=$(aarch64-linux-gnu-objdump -d --no-show-raw-insn "$o" | grep -cP "\t($pattern)\t")
        may=
        for s in "$@"; do case $o in *_"$s".o) may=1 ;; esac; done
        if [ -n "$may" ] && [ "$has" = 0 ]; then echo "$o has none of $pattern"; bad=1; fi
        if [ -z "$may" ] && [ "$has" != 0 ]; then echo "$o has $has of $pattern"; bad=1; fi
    done < <(find $ARM/common/kernels -name '*.o')
    return $bad
}

unit() { # CPU
    local t bad=0
    for t in $units; do arm "$1" "$t" || bad=1; done
    return $bad
}

# The same logits, byte for byte, as this machine's tier, and the same greedy tokens.
same_logits() { # CPU TIER
    printf '%s\n' "1111 330 279 340 269 960" "1640 285 2047" >"$TMP/ids"
    "$BIN/tandem" eval --cpu "$here" --model "$DEMO" --tokens "$TMP/ids" --greedy 60 --logits "$TMP/x86.f32" >"$TMP/x86.ids" &&
        arm "$1" $ARM/bin/tandem eval --cpu "$2" --model "$DEMO" --tokens "$TMP/ids" --greedy 60 --logits "$TMP/arm.f32" >"$TMP/arm.ids" &&
        [ -s "$TMP/x86.f32" ] && cmp "$TMP/x86.f32" "$TMP/arm.f32" && diff "$TMP/x86.ids" "$TMP/arm.ids"
}

PIDS=()
stop() {
    [ ${#PIDS[@]} -eq 0 ] || kill "${PIDS[@]}" 2>/dev/null
    wait
    PIDS=()
}
trap 'stop; finish' EXIT

# start COMMAND...: router and prefill node of this machine, and the decode node that COMMAND runs.
start() {
    local p i
    p=$(free_port)
    URL=http://127.0.0.1:$p
    set -- "$@" --name=decode-1 --router="tcp://127.0.0.1:$((p + 1))" --kv="tcp://127.0.0.1:$((p + 3))"
    "$BIN/tandem-router" --model="$DEMO" --mode=disaggregated --http="127.0.0.1:$p" --nodes="tcp://127.0.0.1:$((p + 1))" \
        --clients="tcp://127.0.0.1:$((p + 2))" --dead_ms=20000 >"$TMP/router.log" 2>&1 &
    PIDS+=($!)
    "$BIN/tandem-prefill" --model="$DEMO" --cpu="$here" --router="tcp://127.0.0.1:$((p + 1))" >"$TMP/prefill.log" 2>&1 &
    PIDS+=($!)
    "$@" --model="$DEMO" >"$TMP/decode.log" 2>&1 &
    PIDS+=($!)
    for i in $(seq 300); do
        [ "$(nodes '.nodes | length' 2>/dev/null)" = 2 ] && return 0
        sleep 0.2
    done
    tail -n 3 "$TMP"/{router,prefill,decode}.log
    return 1
}

# streams FILE: token ids of prompts of several lengths at once, greedy and sampled.
streams() {
    local i words="It is a truth universally acknowledged, that a single man in possession of a good fortune" p=
    local clients=()
    for i in 1 2 3 4; do
        for ((j = 0; j < i * i; j++)); do p="$p $words and number $j."; done
        post /v1/completions "$(jq -nc --arg p "${p:0:2000}" --argjson i "$i" '{prompt: $p, max_tokens: (20 + 10 * $i),
            temperature: ($i % 2 * 0.8), top_p: 0.95, seed: $i, ignore_eos: true, return_token_ids: true}')" >"$TMP/stream.$i" &
        clients+=($!)
    done
    wait "${clients[@]}"
    for i in 1 2 3 4; do jq -c '.choices[0].token_ids' "$TMP/stream.$i"; done >"$1"
    cat "$1"
    [ "$(jq -s 'map(length) | add' "$1")" = 180 ]
}

mixed() {
    start "$BIN/tandem-decode" --cpu="$here" && streams "$TMP/alike" || return 1
    stop
    start qemu-aarch64 -L $ARM/sysroot -cpu neoverse-n1 $ARM/bin/tandem-decode --cpu=neon-dotprod && streams "$TMP/mixed" || return 1
    nodes '.nodes[] | "\(.name) \(.tier)"'
    [ "$(nodes '[.nodes[] | .role + " " + .tier] | sort | join(", ")')" = "decode neon-dotprod, prefill $here" ] && diff "$TMP/alike" "$TMP/mixed"
}

t "arm: compiles" compiles
t "arm: SMMLA and its kind in the i8mm files only" owned 'smmla|ummla|usmmla|usdot|sudot|bfdot|bfmmla' i8mm
t "arm: SDOT in the dotprod files only" owned 'sdot|udot' dotprod
t "arm: kernels give the bits of ref, as neoverse-n1" unit neoverse-n1
t "arm: kernels give the bits of ref, as max" unit max
t "arm: neon-dotprod gives the logits of x86" same_logits neoverse-n1 neon-dotprod
t "arm: neon-i8mm gives the logits of x86" same_logits max neon-i8mm
t "arm: a decode node in qemu goes on with an x86 node's prompts as an x86 one" mixed
stop
