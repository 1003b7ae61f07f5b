#!/bin/bash
# A node alone whose journal is damaged has nobody to get the missing from: it ends with 12 or keeps single shards closed, says so, and touches nothing; a copy put back works.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

must "there are free ports" free_ports
home=$work/home
single_start "$home" --lanes 1 --limits off
must "a node starts" until_ok 20 single_ready
must "a stream is created" exits 0 "$sluice" stream create one --shards 2
seq 20000 >"$work/input"
must "it is filled" exits 0 "$sluice" put one "$work/input"
kill -KILL "$single_pid"
await_end "$single_pid" 5
cp -a "$home" "$work/copy"

# The first blocks of the journal hold what the cluster and its groups are: half a megabyte of it becomes noise.
segment=$(find "$home/sluice-data/lane-0" -name 'seg-*' | sort | head -n 1)
dd if=/dev/urandom of="$segment" bs=4096 seek=2 count=128 conv=notrunc status=none
size=$(stat -c %s "$segment")
single_start "$home" --lanes 1 --limits off
check "it does not wait for others that there are not: exit 12" ends_with 12 10 "$single_pid"
check "and says what happened" grep -q 'damage.*no other node is known' "$home/log"
check "and what can be done" grep -q 'Put back a copy of the whole folder' "$home/log"
check "the data is still there" [ -f "$segment" -a "$(stat -c %s "$segment")" -eq "$size" ]
single_start "$home" --lanes 1 --limits off
check "a second start says the same" ends_with 12 10 "$single_pid"

single_start "$work/copy" --lanes 1 --limits off
must "a copy from before starts" until_ok 20 single_ready
check "and has everything" exits 0 "$sluice" get one
check "as it was put" same_lines "$work/input" "$work/out"
