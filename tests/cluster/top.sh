#!/bin/bash
# What `tandem top` shows of a cluster under load: pages in a pipe, a screen on a terminal.
. tests/lib/cluster.sh
SCREEN="tmux -L tandem-$$"
trap '$SCREEN kill-server 2>/dev/null; finish' EXIT

load() { # some long streams, in the background
    for _ in 1 2 3 4 5 6; do
        post /v1/completions '{"prompt": "It is", "max_tokens": 900, "ignore_eos": true, "stream": true}' >/dev/null &
    done
}
pages() {
    load
    "$BIN/tandem" top top -d 0.5 -n 2 >"$TMP/pages"
    wait
    cat "$TMP/pages"
    [ "$(grep -c '^node ' "$TMP/pages")" = 2 ] || return 1
    grep -q 'TTFT p50' "$TMP/pages" || return 1
    # tokens/s of a decode node, in the last column but one
    awk '/^decode-/ && $(NF - 1) > 0 { seen = 1 } END { exit !seen }' "$TMP/pages"
}
by_url() { "$BIN/tandem" top -d 0.1 -n 1 "$URL" | grep -q '^prefill-1 .* ready'; }
# shown TEXT: within 5 s the screen holds it
shown() {
    for _ in $(seq 50); do
        $SCREEN capture-pane -p >"$TMP/screen"
        grep -q -- "$1" "$TMP/screen" && return 0
        sleep 0.1
    done
    echo "no '$1' in:"
    cat "$TMP/screen"
    return 1
}
screen() {
    $SCREEN new-session -d -x 80 -y 24 "'$BIN/tandem' top top -d 0.2; echo ended with \$?; exec sleep 60" || return 1
    shown '^node .* host .*mfu/mbu' && shown '^decode-2 .* ready' && shown 'sorts: name' || return 1
    $SCREEN send-keys s && shown 'sorts: tokens' || return 1
    $SCREEN resize-window -x 40 -y 9 && shown '^node  *queue  *batch  *tok/s mfu/mbu$' || return 1
    [ "$(awk '{ if (length > w) w = length } END { print w }' "$TMP/screen")" -le 40 ] || return 1
    $SCREEN send-keys q && shown 'ended with 0'
}
refuses() {
    "$BIN/tandem" top nobody 2>"$TMP/err" && return 1
    grep -q 'cluster nobody is not running' "$TMP/err" || return 1
    # port 1: refused at once
    "$BIN/tandem" top -d 0.1 http://127.0.0.1:1 2>"$TMP/err" && return 1
    [ "$(wc -l <"$TMP/err")" = 1 ]
}

t up up top "$DEMO"
t pages pages
t by_url by_url
if command -v tmux >/dev/null; then t screen screen; else echo "skip screen: no tmux"; fi
t refuses refuses
