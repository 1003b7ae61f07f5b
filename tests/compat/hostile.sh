#!/bin/bash
# Hostile HTTP at the Kinesis port of one of three nodes; others put and get at all of them meanwhile.
. "$(dirname "${BASH_SOURCE[0]}")/compat.bash"

ulimit -S -n "$(ulimit -H -n)" 2>/dev/null || true
dir=$work/cluster
must "three nodes start" cluster_up "$dir" --nodes 3 --set limits=off --set memory=256MiB --set cache=64MiB --set fetch-memory=32MiB
pids=()
for n in 1 2 3; do
    pids+=(--pid "$(node_pid "$dir" "$n")")
done
program 150 "$python" "$compat/hostile_http.py" "${pids[@]}" --rss-max 768
nodes_well "$dir"
for n in 1 2 3; do
    check "node $n's log is bounded" [ "$(stat -c %s "$dir/node-$n/log")" -lt 2000000 ]
done
