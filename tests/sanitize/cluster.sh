#!/bin/bash
# Three real nodes of a sanitized build, two lanes each: puts, gets and a follower through the death, the freezing and the orderly stop
# of a node. Nothing is lost, and no sanitizer has anything to report, not even leaks of those who were asked to end.
# Usage: SLUICE_BUILD=build-tsan cluster.sh
. "$(dirname "${BASH_SOURCE[0]}")/../integration/common.bash"

dir=$work/cluster
must "three nodes start" cluster_up "$dir" --nodes 3 --timeout 120 --set limits=off --set lanes=2
must "a stream is created" exits 0 "$sluice" stream create s --shards 6
check "every shard has a leader" until_ok 30 has_leaders s
"$sluice" get s --follow >"$work/followed" 2>"$work/followed.err" &
follower=$!
started_pids+=("$follower")

# Records of many sizes, some of which go between nodes in pieces and through every class of the journal.
awk 'BEGIN { x = "x"; for (i = 0; i < 17; i++) { x = x x }
             for (i = 1; i <= 6000; i++) { print "line " i " " substr(x, 1, i % 500 == 0 ? 100000 : i % 700) } }' >"$work/input"
put_paced() {
    for ((i = 0; i < 60; i++)); do
        sed -n "$((i * 100 + 1)),$((i * 100 + 100))p" "$work/input"
        sleep 0.1
    done | "$sluice" put s - --timeout 60 >"$work/put.out" 2>"$work/put.err"
}
put_paced &
putter=$!
victim=$("$sluice" -o json shard list s | jq -r '.[0].leader')
sleep 1
must "node $victim is killed" "$cluster" kill "$victim" --dir "$dir"
sleep 2
must "and starts again" "$cluster" start "$victim" --dir "$dir" --timeout 120
second=$((victim % 3 + 1))
must "node $second is frozen" "$cluster" pause "$second" --dir "$dir"
sleep 2
must "and thaws" "$cluster" resume "$second" --dir "$dir"
status=0
wait "$putter" || status=$?
check "every line was acknowledged" [ "$status" -eq 0 ]
must "everything is read" exits 0 "$sluice" get s
check "nothing lost, nothing twice" same_lines "$work/input" "$work/out"
followed_all() { cmp -s <(sort "$work/input") <(sort "$work/followed"); }
check "the follower saw all of it" until_ok 30 followed_all
kill "$follower" 2>/dev/null || true
wait "$follower" 2>/dev/null || true
third=$((second % 3 + 1))
must "node $third is stopped" "$cluster" stop "$third" --dir "$dir"
must "and starts again" "$cluster" start "$third" --dir "$dir" --timeout 120
must "the stream is deleted" exits 0 "$sluice" stream delete s
for n in 1 2 3; do
    must "node $n is stopped" "$cluster" stop "$n" --dir "$dir"
done
for n in 1 2 3; do
    if grep -qE 'Sanitizer|runtime error' "$dir/node-$n/log"; then
        failed "node $n has nothing to report"
        grep -E -A 40 'Sanitizer|runtime error' "$dir/node-$n/log" | head -n 80
    else
        pass "node $n has nothing to report"
    fi
done
if grep -qE 'Sanitizer|runtime error' "$work"/*.err; then
    failed "nor has a client"
    grep -hE -A 40 'Sanitizer|runtime error' "$work"/*.err | head -n 60
else
    pass "nor has a client"
fi
