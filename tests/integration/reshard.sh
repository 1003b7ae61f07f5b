#!/bin/bash
# Three real nodes whose shards are split, merged and counted anew while eight writers put and one reader follows; the leader of a parent, of a child and of the
# controller is killed during some. Every line is acknowledged, there once, and in the order of its key, over parents and children.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

dir=$work/cluster
writers=4 lines=20000 rounds=14
must "three nodes start" cluster_up "$dir" --nodes 3 --set limits=off
must "a stream is created" exits 0 "$sluice" stream create s --shards 2

"$sluice" get s --follow --format json >"$work/followed" 2>"$work/follow.err" &
follower=$!
started_pids+=("$follower")

# ---- writers: each its own keys, numbered lines, for as long as the rounds last ----
feed() { awk -v w="$1" -v n="$lines" 'BEGIN { for (i = 1; i <= n; i++) { printf "w%d-k%d %d\n", w, i % 40, i; if (i % 40 == 0) { fflush(); system("sleep 0.06") } } }'; }
putters=()
for w in $(seq "$writers"); do
    feed "$w" | "$sluice" put s --key-regex '^([^ ]+) ' >"$work/put-$w.out" 2>&1 &
    putters+=("$!")
    started_pids+=("$!")
done

shards() { "$sluice" -o json shard list s; }
node_of() { shards | jq -r --argjson s "$1" '.[] | select(.shard == $s) | .leader // 0'; }
controller() { "$sluice" -o json cluster status | jq -r '.controller_leader'; }
# What is told of the open shards covers every hash key exactly once.
tiles() {
    shards | python3 -c '
import json, sys
s = sorted(((int(x["start_hash"]), int(x["end_hash"])) for x in json.load(sys.stdin) if x["open"]))
sys.exit(not (s[0][0] == 0 and s[-1][1] == 2**128 - 1 and all(a[1] + 1 == b[0] for a, b in zip(s, s[1:]))))'
}
victim=
kill_node() {
    victim=$1
    [ "$victim" -gt 0 ] && "$cluster" kill "$victim" --dir "$dir" >/dev/null 2>&1
}
revive() {
    [ -z "$victim" ] || "$cluster" start "$victim" --dir "$dir" >/dev/null 2>&1
    victim=
}
begin() { # with a node that dies a moment later
    "$sluice" "$@" >"$work/out" 2>"$work/err" &
    order=$!
}

open_shards() { shards | jq -r '[.[] | select(.open)] | sort_by(.start_hash | (. | length), .) | .[].shard'; }
done_rounds=0
for round in $(seq "$rounds"); do
    mapfile -t open < <(open_shards)
    n=${#open[@]}
    parent=${open[$((RANDOM % n))]}
    case $((round % 7)) in
        1) begin shard split s "$parent" ;;
        2) begin shard split s "$parent"; sleep 0.0$((RANDOM % 9)); kill_node "$(node_of "$parent")" ;;
        3) begin shard merge s "${open[0]}" "${open[1]}" ;;
        4) begin stream update s --shards $((n + 1)); sleep 0.0$((RANDOM % 9)); kill_node "$(controller)" ;;
        5) begin shard split s "$parent"; sleep 0.05; kill_node "$(node_of "$(shards | jq '[.[].shard] | max')")" ;;
        6) begin shard merge s "${open[$((n - 2))]}" "${open[$((n - 1))]}"; sleep 0.0$((RANDOM % 9)); kill_node "$(node_of "${open[$((n - 1))]}")" ;;
        0) begin stream update s --shards $(((n + 1) / 2)) ;;
    esac
    if wait "$order"; then
        done_rounds=$((done_rounds + 1))
    else
        say "round $round was not carried out: $(tail -n 1 "$work/err")" # undone, or refused for what an earlier one left: the old state, or the new one
    fi
    check "round $round: the open shards tile all hash keys" tiles
    revive
    until_ok 20 bash -c '"$1" -o json stream describe s | jq -e ".status == \"ACTIVE\"" >/dev/null' sh "$sluice" || failed "round $round: ACTIVE again"
done
check "most rounds were carried out ($done_rounds of $rounds)" [ "$done_rounds" -ge $((rounds - 3)) ]

# ---- what was written ----
for w in $(seq "$writers"); do
    wait "${putters[$((w - 1))]}" && status=0 || status=$?
    check "writer $w: every line was acknowledged" [ "$status" -eq 0 ]
done
total=$((writers * lines))
check "the follower has everything" until_ok 30 bash -c '[ "$(wc -l <"$1")" -ge "$2" ]' sh "$work/followed" "$total"
kill "$follower" 2>/dev/null || true
check "everything is read back" exits 0 "$sluice" get s --format json
cp "$work/out" "$work/read"

# in_order FILE: each line once; each key's lines in their order; sequence numbers rise along each key.
in_order() {
    python3 - "$1" "$total" <<'P'
import json, sys
last, number, n, wrong = {}, {}, 0, []
for line in open(sys.argv[1]):
    r = json.loads(line)
    key, i = r["data"].split()
    i, q = int(i), int(r["sequence"])
    if i <= last.get(key, 0) or q <= number.get(key, 0):
        wrong.append((key, last.get(key), i, r["shard"]))
    last[key], number[key] = i, q
    n += 1
print(n, "records,", len(wrong), "out of order", wrong[:3])
sys.exit(bool(wrong) or n != int(sys.argv[2]))
P
}
check "the follower: each line once, in the order of its key" in_order "$work/followed"
check "read again: each line once, in the order of its key" in_order "$work/read"
check "parents are listed closed, with children behind them" bash -c '"$1" -o json shard list s | jq -e "([.[] | select(.open | not)] | length) > 5 and all(.[]; .parents as \$p | .shard as \$s | all(\$p[]; . < \$s))" >/dev/null' sh "$sluice"

# ---- what is refused ----
closed=$(shards | jq '[.[] | select(.open | not)][0].shard')
check "a closed shard is not split" exits 1 "$sluice" shard split s "$closed"
check "  with the reason" says 'closed'
check "nor one that does not exist" exits 1 "$sluice" shard split s 9999
check "  with the reason" says 'could not find'
check "shards that are no neighbours are not merged" exits 1 "$sluice" shard merge s "$(open_shards | tail -n 1)" "$(open_shards | head -n 1)"
check "  with the reason" says 'adjacent'
check "a hash key outside" exits 1 "$sluice" shard split s "$(open_shards | head -n 1)" --at 0
check "more than twice as many" exits 1 "$sluice" stream update s --shards 1000
check "  with the reason" says 'twice'

