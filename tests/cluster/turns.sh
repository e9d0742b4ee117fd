#!/bin/bash
# A turn of a conversation finds the KV of the turn before, the answer included, though it comes back as text.
. tests/lib/cluster.sh

begins=("It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife."
    "Emma Woodhouse, handsome, clever, and rich, with a comfortable home," "Mr. Darcy drew his chair a little nearer to hers,"
    "She was the youngest of the two daughters of a most affectionate father," "Elizabeth could not but smile at such a conclusion,")
ids() { "$BIN/tandem" tokenize --model "$DEMO" "$1"; }
answer() { jq -r '.choices[0] | .text // .message.content' "$TMP/$1"; }
# first_turn ASK: of the beginnings one is taken whose answer, read as text, has the tokens that were
# generated: that of any other is found up to the first one that is spelled otherwise, or has no text at all.
first_turn() {
    local p
    for p in "${begins[@]}"; do
        "$1" "$p" >"$TMP/first"
        [ "$(ids "$p") $(jq -r '.choices[0].token_ids | join(" ")' "$TMP/first")" = "$(ids "$p$(answer first)")" ] || continue
        P=$p
        return 0
    done
    echo "no answer has the tokens of its text"
    return 1
}
# covered: all full blocks of the first turn, whose last token no step has read, were found by the next.
covered() {
    local n cached
    n=$(jq '.usage | .prompt_tokens + .completion_tokens - 1' "$TMP/first")
    cached=$(jq .usage.prompt_tokens_details.cached_tokens "$TMP/next")
    echo "$cached of the $n tokens"
    [ "$cached" -ge $((n - n % 32)) ] && [ "$n" -gt 64 ]
}
MORE='max_tokens: 70, temperature: 0, ignore_eos: true, return_token_ids: true'
text() { post /v1/completions "$(jq -nc --arg p "$1" "{prompt: \$p, $MORE}")"; }
chat() { post /v1/chat/completions "$(jq -nc --arg p "$1" "{messages: [{role: \"user\", content: \$p}], user: \"chat\", $MORE}")"; }
text_turns() {
    first_turn text && text "$P$(answer first) She was silent." >"$TMP/next" && covered
}
chat_turns() { # user: the cache has nothing of what was asked as text
    first_turn chat || return 1
    post /v1/chat/completions "$(jq -nc --arg p "$P" --slurpfile a "$TMP/first" \
        "{messages: [{role: \"user\", content: \$p}, \$a[0].choices[0].message, {role: \"user\", content: \"And then?\"}],
          user: \"chat\", $MORE}")" >"$TMP/next"
    covered
}

PREFILL=0 DECODE=1 up turns "$DEMO" || { echo "not ok the cluster starts"; exit 1; }
t "a text goes on behind its answer" text_turns
t "a chat without a template of the model" chat_turns
t "no page is lost" all_free
