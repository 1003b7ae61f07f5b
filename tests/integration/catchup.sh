#!/bin/bash
# A node that was down while more was written than any node may hold in memory gets it from the others' journals. Puts go on meanwhile,
# and nobody's memory grows beyond its bounds. Then everything must be there when one of those that gave it is gone.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

memory_mib=128 cache_mib=16 other_mib=64 # other: the program and what the allocator keeps
records=400000 more=3000

dir=$work/cluster
must "three nodes start" cluster_up "$dir" --nodes 3 --set limits=off --set memory=${memory_mib}MiB --set cache=${cache_mib}MiB
IFS=, read -r -a admin <<<"$ADMIN_ENDPOINTS"

metric() { # NODE NAME
    curl -fsS -m 5 "${admin[$(($1 - 1))]}/metrics" | awk -v name="$2" '$1 == name { printf "%d\n", $2 }'
}
within_memory() { # NODE
    local mib
    mib=$(awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$(node_pid "$dir" "$1")/status")
    [ "$mib" -lt $((memory_mib + cache_mib + other_mib)) ] || { say "node $1: $mib MiB"; return 1; }
}
caught_up() {
    [ "$(metric 3 sluice_seeded_bytes_total)" -ge $((records * 1024)) ] &&
        exits 0 "$sluice" -o json cluster status && jq -e '.under_replicated == 0' "$work/out" >/dev/null
}

must "a stream is created" exits 0 "$sluice" stream create much --shards 4
must "node 3 stops" exits 0 "$cluster" stop 3 --dir "$dir"
must "400 MB are written without it" exits 0 "$sluice" bench put --stream much --records $records --depth 2000
check "node 1 held to its memory" within_memory 1
check "node 2 held to its memory" within_memory 2
must "node 3 starts" exits 0 "$cluster" start 3 --dir "$dir"
check "puts go on meanwhile" exits 0 "$sluice" bench put --stream much --records $more --rate 1000
must "it gets what it lacks" until_ok 120 caught_up
for n in 1 2 3; do
    check "node $n held to its memory" within_memory $n
done
must "node 1 stops" exits 0 "$cluster" stop 1 --dir "$dir"
must "the shards are led again" until_ok 20 has_leaders much
check "every record can be read without it" [ "$("$sluice" get much --format json | wc -l)" = $((records + more)) ]
