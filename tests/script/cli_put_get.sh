#!/bin/bash
# The command against one real node: keys and order, positions, limits, following, formats, exit statuses.
# Usage: cli_put_get.sh (programs of $SLUICE_BUILD, default build/)
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/tests/script/node.bash"
failed=0 passed=0
ok() { passed=$((passed + 1)); }
fail() { echo "FAILED: $*"; failed=1; }
# same WHAT EXPECTED GOT
same() { if [ "$2" = "$3" ]; then ok; else fail "$1: expected '$2', got '$3'"; fi; }
# status WHAT EXPECTED COMMAND...
status() { local what=$1 expected=$2; shift 2; "$@" >"$work/out" 2>"$work/err"; same "$what (exit status)" "$expected" $?; }

node_start --limits off

status "a stream is created" 0 "$sluice" stream create s --shards 4
status "it exists already" 1 "$sluice" stream create s
status "an unknown stream is told" 1 "$sluice" put nosuch <<<x
same "nothing was put" "sluice: line 1 is the first not acknowledged: no such stream, shard or node" "$(tail -n 1 "$work/err" | sed 's/ (.*//')"

# Lines: empty ones, carriage returns, bytes, a last one without a newline.
printf 'one\n\n\r\n\xff\xfe\nlast' >"$work/lines"
status "lines are put" 0 "$sluice" put s "$work/lines"
status "all shards are read" 0 "$sluice" get s
same "the same lines come back" "$({ cat "$work/lines"; echo; } | sort | od -c)" "$(sort "$work/out" | od -c)"
status "no input, no record" 0 "$sluice" put s </dev/null
same "still five records" 5 "$("$sluice" get s | wc -l)"

# Keys: the order of the input holds per key, over several shards.
seq 1 5000 | sed 's/\(.*\)\(.\)$/\1\2 key=\2/' >"$work/keyed"
status "lines with keys are put" 0 "$sluice" put s --key-regex 'key=([0-9])' "$work/keyed"
"$sluice" get s | grep key= >"$work/back"
same "all come back" "$(sort "$work/keyed" | md5sum)" "$(sort "$work/back" | md5sum)"
for k in 0 3 7; do
    same "key $k is in order" "$(grep "key=$k" "$work/keyed" | md5sum)" "$(grep "key=$k" "$work/back" | md5sum)"
done
status "a second stream" 0 "$sluice" stream create one --shards 3
status "one key" 0 "$sluice" put one --key k "$work/keyed"
same "goes to one shard, in order" "$(md5sum <"$work/keyed")" "$("$sluice" get one | md5sum)"
same "the others are empty" "0 0 5000" "$("$sluice" -o json shard list one | tr '{' '\n' | sed -n 's/.*"next":\([0-9]*\).*/\1/p' | sort -n | tr '\n' ' ' | sed 's/ $//')"

# Positions and limits.
shard=$("$sluice" get one --limit 1 --format json | sed 's/.*"shard":\([0-9]*\).*/\1/')
same "a limit" "$(head -n 7 "$work/keyed")" "$("$sluice" get one --limit 7)"
sequence=$("$sluice" -o json get one --limit 100 | tail -n 1 | sed 's/.*"sequence":"\([0-9]*\)".*/\1/')
same "from a sequence number" "$(sed -n 100,104p "$work/keyed")" "$("$sluice" get one --shard "$shard" --from "$sequence" --limit 5)"
status "a sequence number needs its shard" 2 "$sluice" get one --from "$sequence"
same "from a time in the past" 5000 "$("$sluice" get one --from 2020-01-01T00:00:00Z | wc -l)"
same "from a time to come" 0 "$("$sluice" get one --from 2200-01-01 | wc -l)"
same "from latest without following" 0 "$("$sluice" get one --from latest | wc -l)"
status "no such shard" 1 "$sluice" get one --shard 77

# Following: what is put later arrives; the reader ends at its limit.
timeout 20 "$sluice" get one --from latest --follow --limit 3 >"$work/followed" &
follower=$!
sleep 1
{ echo first; sleep 0.5; echo second; printf third; } | "$sluice" put one --key k 2>/dev/null
wait $follower
same "the follower ends at its limit" 0 $?
same "with what was put" "first second third" "$(tr '\n' ' ' <"$work/followed" | sed 's/ $//')"

# A slow reader's pipe that breaks ends the command.
timeout 10 "$sluice" get s --follow 2>/dev/null | head -n 1 >/dev/null
same "a follower whose reader has gone ends" 1 "${PIPESTATUS[0]}"

# json everywhere is json.
if command -v python3 >/dev/null; then
    for command in "stream list" "stream describe s" "shard list s" "cluster status" "node list" "top --count 1" "get one --limit 1"; do
        "$sluice" -o json $command 2>/dev/null | python3 -c 'import json, sys; json.load(sys.stdin)' && ok || fail "not json: $command"
    done
fi

status "streams are deleted" 0 "$sluice" stream delete one
status "and gone" 1 "$sluice" stream describe one

# Without a node: an error in a bounded time, not an endless wait.
kill -9 $node
wait $node 2>/dev/null
node=
status "a line that cannot be put is told" 1 timeout 20 "$sluice" put s --timeout 1 <<<lost
[ $failed -eq 0 ] && echo "cli_put_get: $passed checks passed"
exit $failed
