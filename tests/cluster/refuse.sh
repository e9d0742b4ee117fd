#!/bin/bash
# What does not belong is refused in one sentence, and the cluster goes on serving the others.
. tests/lib/cluster.sh

RUN=$TANDEM_RUN_DIR/tandem-$(id -u)/refuse
ask='{"prompt": "It is a truth", "max_tokens": 20, "temperature": 0}'

# sentence PATTERN COMMAND...: it fails, with one line on stderr besides the log, and says PATTERN.
sentence() {
    local want=$1
    shift
    if timeout 20 "$@" >"$TMP/stdout" 2>"$TMP/stderr"; then
        echo "it did not fail"
        return 1
    fi
    grep -v '^[0-9-]*T[0-9:.]*Z ' "$TMP/stderr" >"$TMP/words"
    cat "$TMP/words"
    [ "$(wc -l <"$TMP/words")" = 1 ] && grep -qE "$want" "$TMP/words" && serves
}
serves() { post /v1/completions "$ask" | jq -e '.choices[0].text | length > 0' >/dev/null; }

# node MODEL CLUSTER [OPTION...]: a decode node by hand
node() {
    "$BIN/tandem-decode" --cluster "$2" --name by-hand --model "$1" \
        --router "ipc://$RUN/nodes.sock" --kv "ipc://$RUN/by-hand.sock" "${@:3}"
}
export -f node
export BIN RUN

# status PATTERN CODE PATH BODY: the answer's code and its error's message.
status() {
    local code
    code=$(curl -sS -m 20 -o "$TMP/body" -w '%{http_code}' -H 'Content-Type: application/json' -d "$4" "$URL$3")
    cat "$TMP/body"
    [ "$code" = "$2" ] && jq -r .error.message "$TMP/body" | grep -qE "$1" && serves
}

# One step of training apart: the same shape, other weights.
cp "$DEMO" "$TMP/other.gguf"
printf '\377' | dd of="$TMP/other.gguf" bs=1 seek=$(($(stat -c %s "$DEMO") - 100)) conv=notrunc 2>/dev/null
head -c 1000000 "$DEMO" >"$TMP/short.gguf"
printf 'GGUF\003\000\000\000' >"$TMP/tiny.gguf"

up refuse "$DEMO" || { echo "not ok the cluster starts"; exit 1; }
t "a node with another model" sentence "hash [0-9a-f]{16}.*[0-9a-f]{16}" bash -c "node $TMP/other.gguf refuse"
t "a node of another cluster" sentence "'elsewhere'.*'refuse'" bash -c "node $DEMO elsewhere"
t "a swap without room for a page" sentence "swap: 1024 bytes hold no KV page, which has [0-9]+; give 0 for none" \
    bash -c "node $DEMO refuse --swap=1KiB"
t "a truncated model" sentence "short.gguf: .*1000000" bash -c "node $TMP/short.gguf refuse"
t "a model of eight bytes" sentence "tiny.gguf: " bash -c "node $TMP/tiny.gguf refuse"
t "a model that is missing" sentence "nowhere.gguf.*No such file" bash -c "node $TMP/nowhere.gguf refuse"
t "a directory as a model" sentence "$TMP.*regular file" bash -c "node $TMP refuse"
if [ -r "$DATA/golden/gpt2.gguf" ]; then
    t "an architecture we do not run" sentence '"gpt2"' bash -c "node $DATA/golden/gpt2.gguf refuse"
else
    echo "skip an architecture we do not run: no test data golden/gpt2.gguf"
fi
t "a prompt over the context: 400 with both numbers" status "[0-9]{4} tokens.*1024" 400 /v1/completions \
    "{\"prompt\": \"$(printf 'Emma %.0s' $(seq 1100))\", \"max_tokens\": 5}"
t "a field of the wrong type: 400 with its name" status "temperature" 400 /v1/completions '{"prompt": "x", "temperature": "hot"}'
t "a field we do not know: 400 with its name" status "tempreature" 400 /v1/completions '{"prompt": "x", "tempreature": 1}'
t "no JSON: 400 with the place" status "line 1" 400 /v1/completions '{"prompt": '
t "another model's name: 404 with ours" status "austen-5m-q8_0" 404 /v1/completions '{"prompt": "x", "model": "gpt-9"}'
t "an unknown endpoint: 404" status "/v1/complete" 404 /v1/complete '{}'
t "all KV pages are free afterwards" all_free
