#!/bin/bash
# sluice tail against one real node: live pushes, positions, formats, a split and a merge in the middle, the place of a consumer, interruption, exit statuses.
# Usage: cli_tail.sh (programs of $SLUICE_BUILD, default build/)
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/tests/script/node.bash"
failed=0 passed=0
ok() { passed=$((passed + 1)); }
fail() { echo "FAILED: $*"; failed=1; }
# same WHAT EXPECTED GOT
same() { if [ "$2" = "$3" ]; then ok; else fail "$1: expected '$2', got '$3'"; fi; }
# status WHAT EXPECTED COMMAND...
status() { local what=$1 expected=$2; shift 2; timeout 30 "$@" >"$work/out" 2>"$work/err"; same "$what (exit status)" "$expected" $?; }
told() { if grep -q -- "$2" "$work/err"; then ok; else fail "$1: '$2' is not in '$(cat "$work/err")'"; fi; }

# Until a file has so many lines; false after 20 s.
lines() {
    for _ in $(seq 200); do
        [ "$(wc -l <"$1")" -ge "$2" ] && return 0
        sleep 0.1
    done
    fail "only $(wc -l <"$1") of $2 lines are in ${1##*/}"
    return 1
}

# tail_start NAME OPTION...: in the background, until it has subscribed; its pid is $tail.
tail_start() {
    local name=$1
    shift
    "$sluice" tail "$@" >"$work/$name" 2>"$work/$name.err" &
    tail=$!
}

# interrupt NAME: SIGINT, and its exit status.
interrupt() {
    kill -INT $tail
    wait $tail
    same "$1: interrupted in order" 130 $?
    same "$1: without complaint" "" "$(cat "$work/$1.err")"
}

# How many hold a place, as the node counts them.
subscriptions() { curl -sf "http://$admin/metrics" | awk '$1 ~ /^sluice_subscriptions({|$)/ { n += $2 } END { print n + 0 }'; }
# held WHAT N: within 5 s so many.
held() {
    for _ in $(seq 50); do
        [ "$(subscriptions)" = "$2" ] && { ok; return; }
        sleep 0.1
    done
    fail "$1: $(subscriptions) subscriptions instead of $2"
}

# A consumer of the stream that nobody read as before, $consumer: within 5 s nobody else gets its place, not even after it was left.
made=0
fresh() {
    consumer=c$((++made))
    "$sluice" consumer register "${1:-s}" $consumer 2>/dev/null || fail "consumer $consumer was not registered"
}

node_start --limits off

status "a stream is created" 0 "$sluice" stream create s --shards 2
status "a consumer is needed" 2 "$sluice" tail s
status "an unknown stream is told" 1 "$sluice" tail nosuch --consumer c
status "an unknown consumer is told" 1 "$sluice" tail s --consumer c
told "how to make it" "sluice consumer register s c"
fresh
status "no such shard" 1 "$sluice" tail s --consumer $consumer --shard 77
status "a wrong position" 2 "$sluice" tail s --consumer $consumer --from yesterday

# Live, over several shards; what is there already is not of interest. The order of the input holds per key.
seq 1 100 | sed 's/^/old /' | "$sluice" put s 2>/dev/null
tail_start live s --consumer $consumer
held "both shards are subscribed" 2
seq 1 5000 | sed 's/\(.*\)\(.\)$/\1\2 key=\2/' >"$work/keyed"
status "lines with keys are put" 0 "$sluice" put s --key-regex 'key=([0-9])' "$work/keyed"
lines "$work/live" 5000
same "all were pushed, nothing else" "$(sort "$work/keyed" | md5sum)" "$(sort "$work/live" | md5sum)"
for k in 0 3 7; do
    same "key $k is in order" "$(grep "key=$k\$" "$work/keyed" | md5sum)" "$(grep "key=$k\$" "$work/live" | md5sum)"
done

# One record into one of two shards is written at once: the other one, which is idle, does not hold it up.
before=$(date +%s%N)
echo alone | "$sluice" put s --key k 2>/dev/null
lines "$work/live" 5001
same "within two seconds" yes "$([ $((($(date +%s%N) - before) / 1000000)) -lt 2000 ] && echo yes)"

# A split and a merge: parents before children, each key in order.
seq 1 2000 | sed 's/\(.*\)\(.\)$/\1\2 split=\2/' >"$work/split"
{ head -n 700 "$work/split"; sleep 0.3; sed -n 701,1400p "$work/split"; sleep 0.3; sed -n '1401,$p' "$work/split"; } | "$sluice" put s --key-regex 'split=([0-9])' 2>/dev/null &
putting=$!
status "a split meanwhile" 0 "$sluice" shard split s 0
mapfile -t children < <("$sluice" -o json shard list s | tr '{' '\n' | sed -n 's/.*"shard":\([0-9]*\),.*"parents":\[0\].*/\1/p')
same "two children" 2 "${#children[@]}"
status "and their merge" 0 "$sluice" shard merge s "${children[@]}"
wait $putting
lines "$work/live" 7001
grep split= "$work/live" >"$work/back"
same "all came through the split and the merge" "$(sort "$work/split" | md5sum)" "$(sort "$work/back" | md5sum)"
for k in 0 1 2 3 4 5 6 7 8 9; do
    same "key $k is in order through them" "$(grep "split=$k\$" "$work/split" | md5sum)" "$(grep "split=$k\$" "$work/back" | md5sum)"
done
interrupt live
held "the places are free" 0

# Positions and --limit.
fresh
status "from the horizon" 0 "$sluice" tail s --consumer $consumer --from trim-horizon --limit 7101
same "all there is" "$({ seq 1 100 | sed 's/^/old /'; cat "$work/live"; } | sort | md5sum)" "$(sort "$work/out" | md5sum)"
fresh
status "as json" 0 "$sluice" -o json tail s --consumer $consumer --from trim-horizon --shard 1 --limit 20
same "with all fields" 20 "$(grep -c '^{"shard":1,"sequence":"[0-9]*","offset":[0-9]*,"time_ms":[0-9]*,"key":.*,"data":.*}$' "$work/out")"
sequence=$(tail -n 1 "$work/out" | sed 's/.*"sequence":"\([0-9]*\)".*/\1/')
tenth=$(tail -n 1 "$work/out" | sed 's/.*"data":"\([^"]*\)".*/\1/')
fresh
status "from a sequence number" 0 "$sluice" tail s --consumer $consumer --shard 1 --from "$sequence" --limit 1
same "that record" "$tenth" "$(cat "$work/out")"
status "a sequence number needs its shard" 2 "$sluice" tail s --consumer $consumer --from "$sequence"
fresh
status "from a time" 0 "$sluice" tail s --consumer $consumer --from 2020-01-01 --limit 7101
same "all there is" 7101 "$(wc -l <"$work/out")"
fresh
status "a closed shard ends" 0 "$sluice" tail s --consumer $consumer --from trim-horizon --shard shardId-000000000000

# Two under one name: the second is refused for 5 s, then it takes over and the first is told.
fresh
tail_start first s --consumer $consumer
held "the first holds the places" 2
status "refused" 1 "$sluice" tail s --consumer $consumer
told "why" "in use"
told "what to do" "register another consumer"
sleep 5.2
first=$tail
tail_start second s --consumer $consumer
wait $first
same "the first one ends" 1 $?
cp "$work/first.err" "$work/err"
told "why" "took over"
told "what to do" "register another consumer"
echo taken | "$sluice" put s 2>/dev/null
lines "$work/second" 1
same "the second one reads on" taken "$(cat "$work/second")"

# A consumer that is removed, and a stream that is deleted.
status "the consumer is removed" 0 "$sluice" consumer remove s $consumer
wait $tail
same "its reader ends" 1 $?
fresh
tail_start gone s --consumer $consumer
held "another reader" 2
status "the stream is deleted" 0 "$sluice" stream delete s
wait $tail
same "its reader ends, too" 1 $?

# A pipe that breaks ends the command, also when nothing comes.
"$sluice" stream create p --shards 2 2>/dev/null
fresh p
seq 1 10 | "$sluice" put p 2>/dev/null
timeout 10 "$sluice" tail p --consumer $consumer --from trim-horizon 2>/dev/null | head -n 1 >/dev/null
same "a reader has gone" 1 "${PIPESTATUS[0]}"

# What comes later waits for what came earlier to another shard, no more of it than a bound; a reader that is slow loses nothing.
seq 1 200000 | sed 's/$/ 0123456789012345678901234567890123456789/' >"$work/many"
"$sluice" put p --key a "$work/many" 2>/dev/null
sed 's/^/b/' "$work/many" | "$sluice" put p --key b 2>/dev/null
fresh p
"$sluice" tail p --consumer $consumer --from trim-horizon --limit 400010 2>/dev/null | { sleep 1; tail -n 400000; } >"$work/slow"
same "all of it, by time of arrival" "$({ cat "$work/many"; sed 's/^/b/' "$work/many"; } | md5sum)" "$(md5sum <"$work/slow")"
[ $failed -eq 0 ] && echo "cli_tail: $passed checks passed"
exit $failed
