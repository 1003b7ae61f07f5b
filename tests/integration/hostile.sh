#!/bin/bash
# Bad input on the ports of real nodes: sluice-hostile attacks a node of three; no process dies or swells, nothing changes. Then the admin
# port, and a crowd that must not keep the nodes from each other.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

hostile=$build/sluice-hostile
must "sluice-hostile is built" [ -x "$hostile" ]
dir=$work/cluster
must "three nodes start" cluster_up "$dir" --nodes 3 --set limits=off --set connections-max=500 --set memory=256MiB --set cache=64MiB --set fetch-memory=32MiB
must "a stream is created" exits 0 "$sluice" stream create victim --shards 2
# Some megabytes, so that a reader that does not read has something not to read.
head -c 3000000 /dev/urandom | base64 -w 400 >"$work/input"
must "it is filled" exits 0 "$sluice" put victim "$work/input"
check "shards have leaders" until_ok 20 has_leaders victim
endpoint=${SLUICE_ENDPOINTS%%,*}
pids=()
for n in 1 2 3; do
    pids+=(--pid "$(node_pid "$dir" "$n")")
done
status=0
# Unfinished payloads of a crowd are the most that is held at a time; what readers that never read may hold is bounded by fetch-memory.
"$hostile" --endpoint "$endpoint" --stream victim "${pids[@]}" --rss-max 512 || status=$?
check "the node withstands sluice-hostile" [ "$status" -eq 0 ]
check "the CLI reads everything" exits 0 "$sluice" get victim
check "as it was put" same_lines "$work/input" "$work/out"
for n in 1 2 3; do
    check "node $n did not assert or crash" bash -c '! grep -qiE "assertion failed|AddressSanitizer|runtime error|SEGV" "$1/node-$2/log"' sh "$dir" "$n"
    check "its log is bounded" [ "$(stat -c %s "$dir/node-$n/log")" -lt 2000000 ]
done

# ---- the admin port ----
admin=${ADMIN_ENDPOINTS%%,*}
at=${admin#http://}
raw() { # sends standard input to the admin port, prints what comes back
    timeout 8 bash -c 'exec 3<>"/dev/tcp/${1%:*}/${1##*:}" || exit 9; cat >&3; timeout 6 cat <&3' raw "$at" 2>/dev/null || true
}
code() { curl -s -o /dev/null -m 5 -w '%{http_code}' "$@" || true; }
check "ready" [ "$(code "$admin/health/ready")" = 200 ]
check "an unknown page is 404" [ "$(code "$admin/nothing")" = 404 ]
check "a path upwards is 404 or 400" bash -c '[ "$1" = 404 ] || [ "$1" = 400 ]' sh "$(code --path-as-is "$admin/../../etc/passwd")"
check "DELETE is refused" bash -c '[ "${1:0:1}" = 4 ]' sh "$(code -X DELETE "$admin/metrics")"
head -c 100000 /dev/urandom | raw >/dev/null || true
head -c 3000000 /dev/zero | tr '\0' 'a' | raw >/dev/null || true
printf 'GET / HTTP/9.9\r\n\r\n' | raw >/dev/null || true
printf 'GET /metrics' | raw >/dev/null || true
{ printf 'GET /metrics HTTP/1.1\r\n'; for ((i = 0; i < 20000; i++)); do printf 'X-%d: y\r\n' "$i"; done; } | raw >/dev/null || true
check "after garbage it answers" [ "$(code "$admin/health/live")" = 200 ]
check "and the nodes are well" exits 0 "$cluster" status --dir "$dir"

# ---- a crowd at node 1 while node 2 dies and comes back: clients must not take the places of nodes ----
mkfifo "$work/leash"
"$hostile" hold "$endpoint" 1500 <"$work/leash" >"$work/held" &
started_pids+=("$!")
exec 8>"$work/leash"
until_ok 60 [ -s "$work/held" ] || failed "the crowd gathers"
say "node 1 holds $(cat "$work/held") connections"
must "node 2 is killed" "$cluster" kill 2 --dir "$dir"
check "node 2 comes back past the crowd" "$cluster" start 2 --dir "$dir" --timeout 30
export SLUICE_ENDPOINTS=${SLUICE_ENDPOINTS#*,}
must "node 3 is killed" "$cluster" kill 3 --dir "$dir"
# Now nodes 1 and 2 must form the majority of every shard, over connections made while the crowd is there. New clients find no place at
# node 1, so node 2 is to lead: a put there needs node 1 for its majority.
lead_2() {
    "$sluice" -o json shard list victim | jq -e 'all(.[]; .leader == 2)' >/dev/null && return 0
    "$sluice" shard transfer victim 0 --to 2
    "$sluice" shard transfer victim 1 --to 2
    return 1
}
check "node 2 is made leader" until_ok 30 lead_2 2>"$work/lead.err"
check "nodes 1 and 2 serve alone" exits 0 timeout 60 "$sluice" put victim <(echo "past the crowd") --timeout 20
exec 8>&-
check "node 3 comes back" "$cluster" start 3 --dir "$dir"
check "everything is there" exits 0 "$sluice" get victim
echo "past the crowd" >>"$work/input"
check "and nothing else" same_lines "$work/input" "$work/out"
