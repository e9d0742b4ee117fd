#!/bin/sh
# Builds tests/fuzz/fuzz_NAME.c (make fuzz: clang's libFuzzer, ASan and UBSan) and lets it run.
# usage: run.sh NAME [SECONDS [CORPUS_DIR]]     60 seconds and an empty corpus if left out
set -eu
cd "$(dirname "$0")/../.."
name=$1 seconds=${2:-60} corpus=${3:-}
out=build/fuzz
make --no-print-directory "$out/fuzz_$name"
if [ -z "$corpus" ]; then
    corpus=$out/corpus_$name
    mkdir -p "$corpus"
fi
exec "$out/fuzz_$name" -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=1024 \
    -artifact_prefix="$out/" -print_final_stats=1 "$corpus"
