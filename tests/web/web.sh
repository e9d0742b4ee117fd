#!/bin/bash
# The router's web page, in a headless Chromium; screenshots go to build/web.
. tests/lib/cluster.sh
modules=$PWD/build/web
out=$PWD/build/web/$(basename "$(dirname "$BIN")")

skip() { echo "skip the router's page: $1"; exit 0; }
mkdir -p "$modules"
deploy/install-deps.sh web >"$TMP/deps.log" 2>&1 || skip "chromium and npm cannot be installed: $(tail -n 1 "$TMP/deps.log")"
if ! cmp -s tests/web/package-lock.json "$modules/package-lock.json" || [ ! -d "$modules/node_modules/playwright-core" ]; then
    cp tests/web/package.json tests/web/package-lock.json "$modules/"
    (cd "$modules" && npm ci --no-audit --no-fund --ignore-scripts) >"$TMP/npm.log" 2>&1 ||
        skip "npm ci: $(grep -m 1 'npm error' "$TMP/npm.log")"
fi

started() { PREFILL=1 DECODE=2 MODE=disaggregated up web "$DEMO" "decode: {nodes: 2, slots: 8, kv_pages: 64}"; }
t "a cluster for the page" started
"$BIN/tandem-bench" --base-url "$URL" --tokenizer "$DEMO" --random-input-len 96 --random-output-len 40 \
    --max-concurrency 6 --num-prompts 100000 >/dev/null 2>&1 &
load=$!
WEB_MODULES=$modules node tests/web/page.mjs "$URL" "$(nodes '.nodes[] | select(.name == "decode-2") | .pid')" \
    "$(sed -n 's/.*started name=router pid=//p' "$TMP"/run/*/*/supervisor.log | tail -n 1)" "$out"
rc=$?
kill "$load"
wait "$load" 2>/dev/null
down
exit "$rc"
