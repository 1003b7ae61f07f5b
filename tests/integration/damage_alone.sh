#!/bin/bash
# A node alone whose journal is damaged has nobody to get the missing from: it ends with 12 or keeps single shards closed, says so, and touches nothing; a copy put back works.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

must "there are free ports" free_ports
home=$work/home
single_start "$home" --lanes 1 --limits off
must "a node starts" until_ok 20 single_ready
must "a stream is created" exits 0 "$sluice" stream create one --shards 1
must "and another" exits 0 "$sluice" stream create two --shards 1
# One is filled and then the other, so that the middle of the journal is the first one's alone, and what was written behind vouches for it: damage there can be no torn tail.
head -c 1500000 /dev/urandom | base64 >"$work/input"
seq 1000 >"$work/later"
must "the first is filled" exits 0 "$sluice" put one "$work/input"
must "then the other" exits 0 "$sluice" put two "$work/later"
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

# Damage to one shard's records only: that shard stays closed, the rest serves.
cp -a "$work/copy" "$work/partly"
segment=$(find "$work/partly/sluice-data/lane-0" -name 'seg-*' | sort | head -n 1)
must "the journal holds all of it" [ "$(stat -c %s "$segment")" -gt 1500000 ]
dd if=/dev/urandom of="$segment" bs=4096 seek=200 count=4 conv=notrunc status=none
single_start "$work/partly" --lanes 1 --limits off
admin=http://127.0.0.1:$((ports_base + 2))
lost() { curl -s -m 2 "$admin/health/ready" | grep -q 'the only copy of 1 shards'; }
check "a damaged shard is told by /health/ready" until_ok 10 lost
check "and in the log" grep -q 'the only copy of some shards is damaged' "$work/partly/log"
leaders() { "$sluice" -o json shard list "$1" | jq -r '.[].leader'; }
led() { [ "$(leaders two)" = 1 ]; }
check "the other stream's shard is led" until_ok 10 led
check "it can be read" exits 0 "$sluice" get two
check "as it was put" same_lines "$work/later" "$work/out"
check "the damaged one is not led" [ "$(leaders one)" != 1 ]
kill -TERM "$single_pid"
check "it stops in order" ends_with 0 20 "$single_pid"

single_start "$work/copy" --lanes 1 --limits off
must "a copy from before starts" until_ok 20 single_ready
check "and has everything" exits 0 "$sluice" get one
check "as it was put" same_lines "$work/input" "$work/out"
