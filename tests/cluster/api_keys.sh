#!/bin/bash
# A cluster with a file of API keys: who is let in, to what, and how much at a time.
. tests/lib/cluster.sh

ask='{"prompt": "It is a truth", "max_tokens": 20, "temperature": 0}'
long='{"prompt": "It is a truth", "max_tokens": 900, "temperature": 0, "ignore_eos": true, "stream": true}'
user=sk-user-0123456789abcdef admin=sk-admin-fedcba9876543210

keys() {
    umask 077
    printf '%s\n' "shop $user concurrent=1" "ops sha256:$(printf %s $admin | sha256sum | cut -d' ' -f1) admin" "$@" >"$TMP/keys.new"
    mv "$TMP/keys.new" "$TMP/keys"
}
# says CODE PATTERN KEY CURL-ARGUMENTS: the status, and the body
says() {
    local code=$1 want=$2 key=$3 got
    shift 3
    got=$(curl -sS -m 20 ${key:+-H "Authorization: Bearer $key"} -o "$TMP/body" -D "$TMP/head" -w '%{http_code}' "$@")
    echo "$got"
    cat "$TMP/body"
    [ "$got" = "$code" ] && grep -q -- "$want" "$TMP/body"
}
needs_a_key() { ! up keys "$DEMO" && grep -q 'put one of that file in TANDEM_API_KEY' "$TMP/up.log"; }
refuses_another() { # and does not wait for 300 s
    (TANDEM_API_KEY=sk-wrong-0123456789abcdef; export TANDEM_API_KEY; ! timeout 60 "$BIN/tandem" up "$TMP/keys.yaml" 2>"$TMP/up.log") &&
        cat "$TMP/up.log" && grep -q 'refuses what is in TANDEM_API_KEY: the API key is not known here' "$TMP/up.log"
}
with() { TANDEM_API_KEY=$1 "$BIN/tandem" "${@:2}" 2>&1; }
when_to_come_back() { grep -qiE '^retry-after: [1-9]' "$TMP/head" || { cat "$TMP/head"; return 1; }; }
# waiting JQ-FILTER N: GET /v1/cluster says so, within 10 s
waiting() {
    local i
    for i in $(seq 200); do
        [ "$(curl -sS -m 5 -H "Authorization: Bearer $user" "$URL/v1/cluster" | jq "$1")" = "$2" ] && return 0
        sleep 0.05
    done
    return 1
}
send() { curl -sS -N -m 100 -H "Authorization: Bearer $1" -d "$2" "$URL/v1/completions" >"$TMP/flood.$3" & flood[$3]=$!; }
# flood BODY: of the administrator a long request runs, and 5 of those wait
flood() {
    local i
    flood=()
    send $admin "$long" 1
    waiting .router.running 1 || return 1
    for i in 2 3 4 5 6; do send $admin "$1" "$i"; done
    waiting .router.queued 5
}
ebb() { kill "${flood[@]}"; wait "${flood[@]}"; } 2>/dev/null
full() {
    local bad=0
    flood "$ask" || bad=1
    says 503 '5 requests are waiting already, and queue_max is 5' "$admin" -d "$ask" "$URL/v1/completions" && when_to_come_back || bad=1
    ebb
    return $bad
}
last_of_all() { # 4 wait, and one of another tenant behind them
    flood '{"prompt": "It is a truth", "max_tokens": 25, "temperature": 0, "ignore_eos": true}' || return 1
    kill "${flood[6]}"
    waiting .router.queued 4 && send $user '{"prompt": "It is a truth", "max_tokens": 21, "temperature": 0, "ignore_eos": true}' 6 &&
        waiting .router.queued 5
}
own_turn() {
    local i
    for i in 1 2 3; do last_of_all && break; ebb; done # the long one may have ended before
    kill "${flood[1]}"
    wait "${flood[@]}"
    grep -h ' request=.* finish=length ' "$TANDEM_RUN_DIR"/*/*/router.log | tail -n 5 | grep -o ' request=.* output=[0-9]*' | tee "$TMP/ends"
    [ "$(grep -n 'output=21$' "$TMP/ends" | cut -d: -f1)" -le 3 ] # two may go before
}
one_at_a_time() {
    local i
    curl -sS -N -m 60 -H "Authorization: Bearer $user" -d "$long" "$URL/v1/completions" >"$TMP/long" & slow=$!
    for i in $(seq 100); do [ -s "$TMP/long" ] && break; sleep 0.02; done
    says 429 'you have 1 requests under way, and may have 1 at a time' "$user" -d "$ask" "$URL/v1/completions" && when_to_come_back
    i=$?
    kill $slow
    wait $slow
    return $i
}
read_again() {
    local i
    keys "late sk-late-0123456789abcdef"
    for i in $(seq 50); do
        says 200 object "sk-late-0123456789abcdef" "$URL/v1/models" && return 0
        sleep 0.1
    done
    return 1
}
mistakes_change_nothing() {
    echo "oops" >"$TMP/keys"
    sleep 1.5
    grep -q 'the API keys stay as they were: .*keys:1: oops has no key' "$TANDEM_RUN_DIR"/*/*/router.log && says 200 object "$user" "$URL/v1/models"
}

keys
unset TANDEM_API_KEY
ROUTER_MORE="api_keys: keys, queue_max: 5"
t "up asks for a key first" needs_a_key
t "up with a key that the file does not have ends with the router's sentence" refuses_another
TANDEM_API_KEY=$admin up keys "$DEMO" "decode: {nodes: 1, slots: 1}" || { echo "not ok the cluster starts"; exit 1; }
t "no key: 401 in OpenAI's shape" says 401 '"code":"invalid_api_key"' "" -d "$ask" "$URL/v1/completions"
t "a key that is not known: 401" says 401 'the API key is not known here' "${user}x" -d "$ask" "$URL/v1/completions"
t "a known key is served" says 200 '"finish_reason"' "$user" -d "$ask" "$URL/v1/completions"
t "probes and scrapers need none" says 200 tandem_requests "" "$URL/metrics"
t "the tenant is the key's holder" says 200 '"tenant":"shop"' "$admin" "$URL/tandem/explain/$(jq -r .id "$TMP/body" 2>/dev/null; curl -sS -H "Authorization: Bearer $user" -d "$ask" "$URL/v1/completions" | jq -r .id)"
t "a key that is no administrator's: 403" says 403 'the API key of shop is not an administrator' "$user" -d '{"node": "decode-1"}' "$URL/tandem/drain"
t "a second request of one at a time: 429" one_at_a_time
t "more than may wait, of all together: 503" full
t "a tenant's request is not behind all of another's" own_turn
t "tandem status with the key" grep -q decode-1 <(with $user status keys)
t "tandem status without: the router's sentence" grep -q 'an API key is needed here' <("$BIN/tandem" status keys 2>&1)
t "tandem run with the key" test -n "$(with $user run keys 'It is a truth')"
t "a file that changed is read again" read_again
t "one that is wrong changes nothing" mistakes_change_nothing
t "the log has no key" test "$(grep -lE "$user|$admin" "$TANDEM_RUN_DIR"/*/*/*.log | wc -l)" = 0
down
