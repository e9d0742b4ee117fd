#!/bin/bash
# The objects of `tandem render kubernetes`: against the schema, and among each other; and the command lines of the
# pods serve with the ConfigMap's files. No Kubernetes runs here.
. tests/lib/cluster.sh
TOOLS=build/tools/kubernetes # the schema: Apache-2.0 packages of npm, for this test alone
started=
trap '[ -z "$started" ] || kill $started 2>/dev/null; wait; finish' EXIT

tools() {
    [ -d $TOOLS/node_modules/yaml ] && return 0
    command -v npm >/dev/null && command -v node >/dev/null || return 1
    mkdir -p $TOOLS
    (cd $TOOLS && echo '{"private": true}' >package.json &&
        timeout 120 npm install --no-audit --no-fund kubernetes-models@4.5.1 typescript@5 yaml@2) >"$TMP/npm" 2>&1 ||
        { rm -rf $TOOLS; return 1; }
}
render() {
    PORT=$(free_port) NODES=$(free_port)
    cat >"$TMP/c.yaml" <<EOF
cluster: pods
model: $DEMO
prefill: {nodes: 1}
decode: {nodes: 1, slots: 5}
router: {http: "0.0.0.0:$PORT", nodes: "tcp://*:$NODES"}
hosts: [{host: local, address: 127.0.0.1}]
EOF
    "$BIN/tandem" render kubernetes "$TMP/c.yaml" --image 'registry.example:5000/tandem@sha256:00' >"$TMP/tandem.yaml"
}
fits() {
    node tests/render/kubernetes.js $TOOLS "$TMP/tandem.yaml" || return 1
    : >"$TMP/api.txt"
    sed "s|router: {|router: {api_keys: $TMP/api.txt, |" "$TMP/c.yaml" >"$TMP/keys.yaml"
    "$BIN/tandem" render kubernetes "$TMP/keys.yaml" >"$TMP/keys-tandem.yaml" &&
        node tests/render/kubernetes.js $TOOLS "$TMP/keys-tandem.yaml"
}
# not_fits SED: an object that is wrong is found
not_fits() {
    sed "$1" "$TMP/tandem.yaml" >"$TMP/wrong.yaml"
    cmp -s "$TMP/tandem.yaml" "$TMP/wrong.yaml" && return 1
    ! node tests/render/kubernetes.js $TOOLS "$TMP/wrong.yaml"
}
wrong_is_found() {
    not_fits 's/replicas: 1/replicas: one/' && not_fits 's/readinessProbe/readynessProbe/' &&
        not_fits 's/targetPort: kv/targetPort: vk/' && not_fits 's/name: run, mountPath/name: ran, mountPath/'
}
# command_of ROLE METRICS-PORT: what its pod executes, on this machine
command_of() {
    node tests/render/kubernetes.js $TOOLS --command "$1" "$TMP/tandem.yaml" |
        sed "1s|^|$BIN/|; s|\$(POD_NAME)|tandem-pods-$1-0|; s|\$(POD_IP):8102|127.0.0.1:0|; s|0.0.0.0:8103|127.0.0.1:$2|
             s|/etc/tandem|$TMP/etc|; s|/models/|$(dirname "$DEMO")/|; s|=/run/tandem/keys|=$TMP/$1.keys|
             s|/run/tandem|$TMP|; s|tandem-pods-router|127.0.0.1|"
}
serves() {
    local role
    METRICS=$(free_port)
    mkdir -p "$TMP/etc"
    "$BIN/tandem" keys "$TMP/router.keys" >/dev/null && cp "$TMP/router.keys.node" "$TMP/prefill.keys" &&
        cp "$TMP/router.keys.node" "$TMP/decode.keys" || return 1
    for role in router prefill decode; do
        node tests/render/kubernetes.js $TOOLS --file $role.yaml "$TMP/tandem.yaml" >"$TMP/etc/$role.yaml"
        # shellcheck disable=SC2046,SC2091 # words on purpose
        $(command_of $role "$([ $role = decode ] && echo "$METRICS" || echo 0)") 2>"$TMP/$role.log" &
        started="$started $!"
    done
    URL=http://127.0.0.1:$PORT
    for _ in $(seq 200); do
        curl -sf -m 5 "$URL/ready" >/dev/null && break
        sleep 0.1
    done
    tail -n 3 "$TMP"/*.log
    [ "$(nodes '[.nodes[] | "\(.name) \(.slots)"] | sort | .[0]')" = "tandem-pods-decode-0 5" ] || return 1
    post /v1/completions '{"prompt": "Emma", "max_tokens": 20, "ignore_eos": true}' | jq -e '.usage.completion_tokens == 20'
}
metrics_are_named() { # what the autoscaler asks for is there
    [ "$(metric tandem_queue_depth)" = 0 ] || return 1
    grep -q 'name: tandem_queue_depth' "$TMP/tandem.yaml" && grep -q '"vllm:kv_cache_usage_perc"' "$TMP/tandem.yaml" || return 1
    curl -sf -m 5 "http://127.0.0.1:$METRICS/metrics" | grep -q '^vllm:kv_cache_usage_perc{' || return 1
    curl -sf -m 5 "http://127.0.0.1:$METRICS/ready" && curl -sf -m 5 "http://127.0.0.1:$METRICS/health"
}
drains() { # as preStop does
    local stop
    stop=$(sed -n 's/^ *- exec tandem \(drain .*\) "$POD_NAME"$/\1/p' "$TMP/tandem.yaml" | head -n 1)
    # shellcheck disable=SC2086 # words on purpose
    "$BIN/tandem" ${stop//tandem-pods-router/127.0.0.1} tandem-pods-decode-0
}
refuses() {
    ! "$BIN/tandem" render kubernetes "$TMP/c.yaml" --cluster Pods_1 2>"$TMP/err" && grep -q 'no name for Kubernetes' "$TMP/err"
}

t "render" render
t "a name that Kubernetes would not take is refused" refuses
tools || { echo "skip kubernetes: no npm, or it brings no kubernetes-models"; exit 0; }
t "the objects fit the schema and each other" fits
t "what is wrong is found" wrong_is_found
t "the pods' commands serve" serves
t "the autoscaler's metrics are there" metrics_are_named
t "preStop drains" drains
