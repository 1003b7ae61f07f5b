#!/bin/bash
# Three real nodes and what a user does with them: streams, puts and gets through kills, pauses, orderly stops and a blackout; the
# forms and exit statuses that outside scripts rely on.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

dir=$work/cluster
must "three nodes start" cluster_up "$dir" --nodes 3 --set limits=off

# ---- forms ----
for name in SLUICE_ENDPOINTS KINESIS_ENDPOINT KINESIS_ENDPOINTS ADMIN_ENDPOINTS AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION; do
    check "up prints $name" grep -q "^$name=." "$dir.endpoints"
done
for n in 1 2 3; do
    check "node $n has its files" [ -s "$dir/node-$n/pid" -a -s "$dir/node-$n/config" -a -e "$dir/node-$n/log" -a -d "$dir/node-$n/data" ]
done
check "status is 0 when all are ready" exits 0 "$cluster" status --dir "$dir"
check "up on a running folder is refused" exits 1 "$cluster" up --dir "$dir"
check "an unknown setting is refused" exits 1 "$cluster" up --dir "$work/bad" --set no-such-setting=1
check "with the reason" says 'no-such-setting'
check "a bad value is refused" exits 1 "$cluster" up --dir "$work/bad2" --set lanes=many
check "and nothing is left running" bash -c '! cat "$1"/bad*/node-*/pid 2>/dev/null | xargs -r ps -o comm= -p 2>/dev/null | grep -q sluiced' sh "$work"

is_json() { jq -e "$1" "$work/out" >/dev/null || { printf 'not %s: ' "$1"; head -c 600 "$work/out"; return 1; }; }
check "cluster status -o json" exits 0 "$sluice" -o json cluster status
check "names three live nodes" is_json '(.nodes | length) == 3 and all(.nodes[]; .state == "alive" and (.node | type) == "number" and (.address | length) > 0)'
check "and a controller leader" is_json '.controller_leader >= 1 and .controller_leader <= 3 and (.cluster | length) == 32'
check "node list -o json" exits 0 "$sluice" node list -o json
check "is a list of three" is_json 'length == 3'
check "with the version of the program" is_json 'all(.[]; .version | test("^[0-9]+[.]"))'
check "a living member is not given another address" exits 1 "$sluice" node add 1 127.0.0.1:1
check "  with the reason" says 'another address'
check "its own address may be told again" exits 0 "$sluice" node add 1 "${SLUICE_ENDPOINTS%%,*}"

check "a stream is created" exits 0 "$sluice" -o json stream create words --shards 4 --retention-hours 48
check "and described" is_json '.name == "words" and .status == "ACTIVE" and .shards == 4 and .retention_hours == 48 and .replicas == 3'
check "creating it again fails" exits 1 "$sluice" stream create words --shards 5
check "with the reason" says 'exists'
check "shard list -o json" exits 0 "$sluice" -o json shard list words
check "has the form of the contract" is_json 'length == 4 and all(.[]; has("shard") and has("parents") and .open == true and (.leader | type) == "number" and (.replicas | length) == 3 and (.start_hash | type) == "string" and (.end_hash | type) == "string" and .first == 0 and .next == 0)'
check "and covers all hash keys" is_json '.[0].start_hash == "0" and .[3].end_hash == "340282366920938463463374607431768211455"'
check "leaders are spread over the nodes" until_ok 20 bash -c '"$1" -o json shard list words | jq -e "[.[].leader] | unique | length == 3"' sh "$sluice"
check "stream list" exits 0 "$sluice" -o json stream list
check "has it" is_json 'map(.name) == ["words"]'
for port in ${ADMIN_ENDPOINTS//,/ }; do
    check "live: $port" curl -fsS -o /dev/null "$port/health/live"
    check "metrics: $port" bash -c 'curl -fsS "$1/metrics" | grep -q "^sluice_"' sh "$port"
done

# ---- exit statuses ----
check "no command is usage" exits 2 "$sluice"
check "an unknown command is usage" exits 2 "$sluice" frobnicate
check "an unknown option is usage" exits 2 "$sluice" stream create --no-such x
check "a missing name is usage" exits 2 "$sluice" stream create
check "a number that is none is usage" exits 2 "$sluice" stream create x --shards many
check "shards 0 is usage" exits 2 "$sluice" stream create x --shards 0
check "retention below a day is usage" exits 2 "$sluice" stream create x --retention-hours 3
check "a bad name is refused" exits 1 "$sluice" stream create 'no/slashes here'
check "more replicas than nodes are refused" exits 1 "$sluice" stream create x --replicas 5
check "an unknown stream: get" exits 1 "$sluice" get nothing
check "an unknown stream: put" exits 1 "$sluice" put nothing <(echo x)
check "an unknown stream: describe" exits 1 "$sluice" stream describe nothing
check "an unknown stream: delete" exits 1 "$sluice" stream delete nothing
check "an unknown stream: update" exits 1 "$sluice" stream update nothing --retention-hours 30
check "an unknown shard" exits 1 "$sluice" get words --shard 77
check "a file that is not there" exits 1 "$sluice" put words "$work/nowhere"
check "nobody at the endpoint" exits 1 timeout 60 "$sluice" --endpoint 127.0.0.1:9 stream list
check "names it and the reason at once" says '^sluice: 127.0.0.1:9: Connection refused; trying again'
check "and at the end" says 'stream list: .*127.0.0.1:9: Connection refused'
check "an empty list of endpoints is usage" exits 2 "$sluice" --endpoint '' stream list
check "nobody to put to" exits 1 timeout 30 "$sluice" --endpoint 127.0.0.1:9 put words --timeout 2 <(echo x)
check "names the line" says 'line 1 '
check "help" exits 0 "$sluice" --help

# ---- a file in and out ----
{
    seq 1 20000 | awk '{ printf "line %d %s\n", $1, substr("abcdefghijklmnopqrstuvwxyz0123456789", 1, $1 % 36) }'
    printf '\n\n\r\ntab\there\n\xc3\x28 no UTF-8\nend without newline'
} >"$work/input"
{ cat "$work/input"; echo; } >"$work/expected"
lines=$(wc -l <"$work/expected")
must "a file is put" exits 0 "$sluice" put words "$work/input"
check "all lines are acknowledged" says "^$lines lines acknowledged"
must "and read back" exits 0 "$sluice" get words
check "line for line" same_lines "$work/expected" "$work/out"
in_order() { # FILE: it is the input with lines left out
    awk 'NR == FNR { line[++n] = $0; next } at < n && $0 "" == line[at + 1] "" { at++ } END { exit at == n ? 0 : 1 }' "$1" "$work/expected"
}
total=0
for shard in 0 1 2 3; do
    check "shard $shard is read" exits 0 "$sluice" get words --shard "$shard"
    check "in the order of the input" in_order "$work/out"
    total=$((total + $(wc -l <"$work/out")))
    check "shard $shard has its share" [ "$(wc -l <"$work/out")" -gt $((lines / 8)) ]
done
check "the shards together have all" [ "$total" -eq "$lines" ]
check "a limit holds over all shards" exits 0 "$sluice" get words --limit 17
check "exactly" [ "$(wc -l <"$work/out")" -eq 17 ]
check "records as JSON" exits 0 "$sluice" get words --limit 5 --shard 2 --format json
check "with their sequence numbers" bash -c 'jq -es "length == 5 and (map(.sequence) | . == sort) and all(.[]; .shard == 2)" "$1" >/dev/null' sh "$work/out"
sequence=$(sed -n 3p "$work/out" | jq -r .sequence)
data=$(sed -n 3p "$work/out" | jq -r .data)
check "from a sequence number" exits 0 "$sluice" get words --shard 2 --from "$sequence" --limit 1
check "that very record" [ "$(cat "$work/out")" = "$data" ]
check "from latest is empty" exits 0 "$sluice" get words --from latest
check "indeed" [ ! -s "$work/out" ]
check "one key, one shard" exits 0 "$sluice" put words --key fixed <(seq 1 500 | sed 's/^/fixed /')
seq 1 500 | sed 's/^/fixed /' >"$work/fixed"
cat "$work/fixed" >>"$work/expected"
"$sluice" get words | grep -a '^fixed ' >"$work/out" || true
check "in order, over the whole stream" cmp -s "$work/fixed" "$work/out"

# ---- settings of a stream ----
check "retention is raised" exits 0 "$sluice" stream update words --retention-hours 72
check "and seen on whichever node is asked, soon" until_ok 5 bash -c '"$1" stream describe words -o json | jq -e ".retention_hours == 72" >/dev/null' sh "$sluice"
check "limits are set" exits 0 "$sluice" stream update words --limits kinesis
check "and seen on whichever node is asked, soon" until_ok 5 bash -c '"$1" stream describe words -o json | jq -e ".limits == \"kinesis\"" >/dev/null' sh "$sluice"
check "and lifted" exits 0 "$sluice" stream update words --limits off
check "retention out of range is usage" exits 2 "$sluice" stream update words --retention-hours 9000
check "nothing to change is usage" exits 2 "$sluice" stream update words

# ---- a follower of the tail ----
"$sluice" get words --from latest --follow >"$work/followed" 2>"$work/followed.err" &
follower=$!
started_pids+=("$follower")
sleep 1.5

# ---- each node dies in turn while puts go on ----
steady() { # NAME COMMAND...: puts 6000 lines over some seconds while the command runs
    local name=$1 status=0 putter
    shift
    seq 1 6000 | sed "s/^/$name /" >"$work/part"
    (
        for ((i = 0; i < 60; i++)); do
            sed -n "$((i * 100 + 1)),$((i * 100 + 100))p" "$work/part"
            sleep 0.06
        done
    ) | "$sluice" put words - >"$work/put.out" 2>"$work/put.err" &
    putter=$!
    sleep 0.7
    "$@" || failed "$name: $*"
    wait "$putter" || status=$?
    if [ "$status" -eq 0 ]; then
        pass "$name: every line was acknowledged"
    else
        failed "$name: put ended with $status: $(tail -n 2 "$work/put.err")"
    fi
    cat "$work/part" >>"$work/expected"
}
kill_and_start() { "$cluster" kill "$1" --dir "$dir" && sleep 1 && "$cluster" start "$1" --dir "$dir"; }
stop_and_start() { "$cluster" stop "$1" --dir "$dir" && "$cluster" start "$1" --dir "$dir"; }
pause_and_resume() { "$cluster" pause "$1" --dir "$dir" && sleep 3 && "$cluster" resume "$1" --dir "$dir"; }
for n in 1 2 3; do
    steady "kill-$n" kill_and_start "$n"
    must "after kill $n everything is read" exits 0 "$sluice" get words
    check "nothing lost, nothing twice" same_lines "$work/expected" "$work/out"
done
steady pause-2 pause_and_resume 2
must "after a pause everything is read" exits 0 "$sluice" get words
check "nothing lost, nothing twice" same_lines "$work/expected" "$work/out"
check "all nodes are well again" until_ok 20 "$cluster" status --dir "$dir"

# ---- SIGTERM hands over: no unknown, hardly a gap ----
check "every shard has a leader" until_ok 20 has_leaders words
busiest_leader() { # in one look: leaders that went to others are on their way back, and one on its way is nobody's
    victim=$("$sluice" -o json shard list words | jq -er 'max_by(.next).leader')
}
must "the busiest shard too" until_ok 20 busiest_leader
steady "stop-$victim" stop_and_start "$victim"
check "the node said goodbye orderly" grep -qiE 'stopp(ed|ing)|goodbye|bye' "$dir/node-$victim/log"
must "after a stop everything is read" exits 0 "$sluice" get words
check "nothing lost, nothing twice" same_lines "$work/expected" "$work/out"
gap_ms() { # the longest time between neighbours of the arrival times of one shard, over all shards
    local shard worst=0 gap
    for shard in 0 1 2 3; do
        gap=$("$sluice" get words --shard "$shard" --format json | jq -r 'select(.data // "" | startswith("'"$1"' ")) | .time_ms' |
            awk 'NR > 1 && $1 - last > worst { worst = $1 - last } { last = $1 } END { print worst + 0 }')
        [ "$gap" -le "$worst" ] || worst=$gap
    done
    printf '%s' "$worst"
}
gap=$(gap_ms "stop-$victim")
say "the longest gap in arrival times over the orderly stop: $gap ms (puts come every 60 ms)"
check "the hand-over costs less than half a second" [ "$gap" -lt 500 ]
for n in 1 2 3; do
    gap=$(gap_ms "kill-$n")
    say "the longest gap over the death of node $n: $gap ms"
    check "failover takes less than 2 s" [ "$gap" -lt 2000 ]
done

# ---- the follower saw all of it ----
followed_all() {
    grep -aE '^(kill|pause|stop)-' "$work/expected" | sort >"$work/wanted"
    sort "$work/followed" | cmp -s "$work/wanted" -
}
check "the follower has every record once" until_ok 15 followed_all
kill "$follower" 2>/dev/null || true
wait "$follower" 2>/dev/null || true

# ---- without a majority: nothing is acknowledged, the outcome is not called a failure ----
must "node 1 is killed" "$cluster" kill 1 --dir "$dir"
sleep 1.2
check "status goes on" exits 0 "$sluice" -o json cluster status
check "and shows the dead node and what lacks it" is_json '([.nodes[] | select(.state == "dead") | .node] == [1]) and .under_replicated == .shards and .shards > 0 and .from_leader'
must "node 2 is killed" "$cluster" kill 2 --dir "$dir"
check "without a majority status ends with 4" exits 4 "$sluice" -o json cluster status
check "and names no leader" is_json '.controller_leader == null and .shards_without_leader == .shards and ([.nodes[] | select(.state == "alive")] | length) == 1'
check "so does node list" exits 4 "$sluice" node list
check "offsets that nobody can tell are not made up" exits 0 "$sluice" -o json shard list words
check "but null" is_json 'all(.[]; .next == null and .first == null)'
check "nothing can be created: clearly not done" exits 1 timeout 60 "$sluice" stream create nobody
check "with the reason" says 'the controller has no leader'
status=0
"$sluice" put words --timeout 4 --key lonely <(echo "lonely line") >"$work/out" 2>"$work/err" || status=$?
say "put without a majority: exit status $status: $(tail -n 1 "$work/err")"
check "a put without a majority is failed or unknown" [ "$status" -eq 1 -o "$status" -eq 3 ]
check "and names the line" grep -qi 'line 1 ' "$work/err"
must "node 1 starts" "$cluster" start 1 --dir "$dir"
must "node 2 starts" "$cluster" start 2 --dir "$dir"
check "leaders are found" until_ok 20 has_leaders words
must "everything is read" exits 0 "$sluice" get words
grep -av '^lonely line$' "$work/out" >"$work/others"
check "the others are untouched" same_lines "$work/expected" "$work/others"
count=$(grep -ac '^lonely line$' "$work/out" || true)
if [ "$status" -eq 1 ]; then
    check "a failed put left nothing" [ "$count" -eq 0 ]
else
    check "an unknown put is there once at most" [ "$count" -le 1 ]
fi
cp "$work/out" "$work/expected"

# ---- unknown: the leaders are frozen after they got the put ----
must "node 1 is frozen" "$cluster" pause 1 --dir "$dir"
must "node 2 is frozen" "$cluster" pause 2 --dir "$dir"
must "node 3 is frozen" "$cluster" pause 3 --dir "$dir"
status=0
timeout 60 "$sluice" put words --timeout 3 <(echo "frozen line") >"$work/out" 2>"$work/err" || status=$?
say "put with all nodes frozen: exit status $status: $(tail -n 1 "$work/err")"
check "with all nodes frozen a put is failed or unknown" [ "$status" -eq 1 -o "$status" -eq 3 ]
for n in 1 2 3; do
    must "node $n thaws" "$cluster" resume "$n" --dir "$dir"
done
check "all nodes are well again" until_ok 30 "$cluster" status --dir "$dir"
check "puts go on" exits 0 "$sluice" put words <(echo "after the frost")
"$sluice" get words >"$work/expected"

# ---- all at once ----
pids=$(cat "$dir"/node-*/pid)
# shellcheck disable=SC2086
kill -KILL $pids
must "after the death of all three they start" cluster_up "$dir"
check "leaders are found" until_ok 20 has_leaders words
must "everything is read" exits 0 "$sluice" get words
check "as it was" same_lines "$work/expected" "$work/out"
must "all three are taken down" "$cluster" down --dir "$dir"
check "none is left" exits 1 "$cluster" status --dir "$dir"
check "down can be repeated" exits 0 "$cluster" down --dir "$dir"
must "and up again" cluster_up "$dir"
must "everything is read" exits 0 "$sluice" get words
check "as it was" same_lines "$work/expected" "$work/out"
check "the settings are kept" bash -c '"$1" stream describe words -o json | jq -e ".retention_hours == 72 and .limits == \"off\"" >/dev/null' sh "$sluice"

# ---- many streams, deleted ----
for i in 1 2 3 4 5 6; do
    check "stream $i is created" exits 0 "$sluice" stream create "many-$i" --shards 2
done
check "they are listed" exits 0 "$sluice" -o json stream list
check "all seven" is_json 'length == 7'
for i in 1 2 3 4 5 6; do
    check "stream $i is deleted" exits 0 "$sluice" stream delete "many-$i"
done
gone() { ! "$sluice" stream describe "many-6" >/dev/null 2>&1; }
check "they are gone" until_ok 20 gone
check "a deleted name can be used again" until_ok 20 exits 0 "$sluice" stream create many-1
check "and is empty" exits 0 "$sluice" get many-1
check "indeed" [ ! -s "$work/out" ]
check "a deleted stream takes nothing" exits 1 "$sluice" put many-2 <(echo x)
check "the first stream is untouched" exits 0 "$sluice" get words
check "as it was" same_lines "$work/expected" "$work/out"

# ---- a fourth node ----
if "$cluster" add --dir "$dir" >"$dir.endpoints"; then
    pass "a fourth node joins"
    set -a
    . "$dir.endpoints"
    set +a
    check "and is listed" until_ok 20 bash -c '"$1" -o json node list | jq -e "length == 4 and all(.[]; .state == \"alive\")" >/dev/null' sh "$sluice"
    check "streams use it" exits 0 "$sluice" stream create wide --shards 8
    check "puts go on" exits 0 "$sluice" put wide <(seq 1000)
    check "and gets" exits 0 "$sluice" get wide
    check "all" [ "$(sort -n "$work/out" | cmp - <(seq 1000) && echo same)" = same ]
else
    failed "a fourth node joins"
fi
