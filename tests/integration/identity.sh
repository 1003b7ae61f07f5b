#!/bin/bash
# A node starts only on a folder that is its own and of the present: a second process, another node's folder, an older copy, a newer
# format and wrong settings are refused, each with its exit status and a reason, and nothing is changed or lost by it.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

# ---- settings ----
settings_dir=$work/settings
mkdir "$settings_dir"
refused() { # WHAT TEXT FLAG...
    local what=$1 text=$2
    shift 2
    check "refused: $what" exits 2 timeout 10 "$sluiced" --data "$settings_dir/data" "$@"
    check "  with the reason" says "$text"
}
refused "an unknown flag" 'unknown setting.*retentoin' --retentoin 5
refused "a flag that is nearly right" 'did you mean "lanes"' --lane 2
refused "a word that is no flag" 'unexpected argument' start
refused "a flag without its value" 'missing' --lanes
refused "a number that is none" 'lanes' --lanes two
refused "a negative number" 'lanes' --lanes -1
refused "a number out of its range" 'lanes.*within' --lanes 65
refused "node number 0" 'node-id' --node-id 0
refused "a number with rubbish behind it" 'connections-max' --connections-max 5x
refused "a number that overflows" 'connections-max' --connections-max 99999999999999999999999
refused "a size of unknown unit" 'memory' --memory 5parsec
refused "limits that do not exist" 'limits' --limits none
refused "an account that is none" 'account' --account 12
refused "an address without a port" 'listen' --listen localhost
refused "a port that is none" 'listen' --listen 127.0.0.1:99999
refused "an even number of controllers" 'controller-nodes' --controller-nodes 2
refused "a cluster without this node" 'node-id 7' --node-id 7 --cluster 1=127.0.0.1:1,2=127.0.0.1:2
refused "a cluster that is no list" 'cluster' --cluster 127.0.0.1:4570
refused "a node named twice" 'twice' --cluster 1=127.0.0.1:1,1=127.0.0.1:2
refused "joining nothing" 'join' --join
refused "a log level that does not exist" 'log-level' --log-level loud
refused "a configuration that is not there" 'cannot read' --config "$work/nothing"
printf 'node-id = 1\nretention = 5\n' >"$settings_dir/unknown.conf"
refused "an unknown key in the file" 'line 2.*unknown setting' --config "$settings_dir/unknown.conf"
printf '[section]\nnode-id = 1\n' >"$settings_dir/section.conf"
refused "a section in the file" 'section' --config "$settings_dir/section.conf"
printf 'node-id = 1\nthis is no setting\n' >"$settings_dir/line.conf"
refused "a line that is none" 'line 2' --config "$settings_dir/line.conf"
check "refused: an unknown variable" exits 2 env SLUICE_NO_SUCH=1 timeout 10 "$sluiced" --data "$settings_dir/data"
check "  with the reason" says 'SLUICE_NO_SUCH'
check "refused: a bad value in a variable" exits 2 env SLUICE_LANES=many timeout 10 "$sluiced" --data "$settings_dir/data"
check "  with the reason" says 'SLUICE_LANES'
check "none of them made a data folder" [ ! -e "$settings_dir/data" ]
check "--help is answered" exits 0 "$sluiced" --help
check "--version is answered" exits 0 "$sluiced" --version

# A flag comes before the environment, the environment before the file.
must "there are free ports" free_ports
printf 'zone = from-file\nregion = from-file\naccount = 111111111111\nnode-id = 1\n' >"$settings_dir/order.conf"
export SLUICE_REGION=from-environment SLUICE_ACCOUNT=222222222222
single_start "$work/order" --config "$settings_dir/order.conf" --account 333333333333
unset SLUICE_REGION SLUICE_ACCOUNT
must "a node with settings of all three kinds starts" until_ok 20 single_ready
check "a stream is created there" exits 0 "$sluice" stream create order

check "the flag's account counts" [ "$("$sluice" -o json stream list | jq -r '.[0].account')" = 333333333333 ]
kill -TERM "$single_pid"
check "it stops" ends_with 0 20 "$single_pid"

# ---- one process at a time ----
must "there are free ports" free_ports
home=$work/locked
single_start "$home"
first_pid=$single_pid
must "a node starts" until_ok 20 single_ready
must "a stream is created" exits 0 "$sluice" stream create locked
must "with records" exits 0 "$sluice" put locked <(seq 100)
seq 100 >"$work/numbers"
first_endpoint=$SLUICE_ENDPOINTS
must "there are other free ports" free_ports
single_start "$home"
check "a second process on the same folder ends with 13" ends_with 13 10 "$single_pid"
check "and says why" grep -qi 'another process' "$home/log"
export SLUICE_ENDPOINTS=$first_endpoint
check "the first goes on" exits 0 "$sluice" get locked
check "with its records" same_lines "$work/numbers" "$work/out"
kill -KILL "$first_pid"
wait "$first_pid" 2>/dev/null || true
single_start "$home"
must "after SIGKILL the folder is free" until_ok 20 single_ready
check "with its records" exits 0 "$sluice" get locked
check "all of them" same_lines "$work/numbers" "$work/out"

# ---- a port that is taken ----
taken=$ports_base
other=$single_pid
must "there are other free ports" free_ports
single_start "$work/port" --listen "127.0.0.1:$taken"
check "a node whose port is taken ends" ends_with 1 10 "$single_pid"
check "and says why" grep -qiE 'in use|cannot listen' "$work/port/log"
kill -TERM "$other"
check "the node stops" ends_with 0 20 "$other"

# ---- formats ----
cp -a "$home" "$work/newer"
# The version stands at 8, the checksum over the rest at 12: a newer program would write a right one.
python3 - "$work/newer/sluice-data/identity" <<'PYTHON'
import sys
def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff
path = sys.argv[1]
data = bytearray(open(path, 'rb').read())
def seal():
    data[12:16] = crc32c(bytes(data[:12]) + bytes(data[16:])).to_bytes(4, 'little')
before = bytes(data)
seal()
assert bytes(data) == before, 'the layout of the identity file is another one'
data[8] += 1
seal()
open(path, 'wb').write(data)
PYTHON
must "there are free ports" free_ports
sum_newer=$(sha256sum <"$work/newer/sluice-data/identity")
single_start "$work/newer"
check "a folder of a newer format ends with 14" ends_with 14 10 "$single_pid"
check "and says why" grep -qi 'newer' "$work/newer/log"
check "and is left as it was" [ "$(sha256sum <"$work/newer/sluice-data/identity")" = "$sum_newer" ]

cp -a "$home" "$work/damaged"
printf 'x' | dd of="$work/damaged/sluice-data/identity" bs=1 seek=20 conv=notrunc status=none
single_start "$work/damaged"
check "a damaged identity ends with 12" ends_with 12 10 "$single_pid"
check "and says why" grep -qi 'damaged' "$work/damaged/log"

cp -a "$home" "$work/nameless"
rm "$work/nameless/sluice-data/identity"
single_start "$work/nameless"
check "data without identity ends with 11" ends_with 11 10 "$single_pid"
check "and says why" grep -qi 'identity' "$work/nameless/log"

single_start "$work/node7" --data "$home/sluice-data" --node-id 7
check "the folder of node 1 as node 7 ends with 11" ends_with 11 10 "$single_pid"
check "and says why" grep -qi 'belongs to node 1' "$work/node7/log"

single_start "$home"
must "the folder itself was not harmed by any of it" until_ok 20 single_ready
check "its records are read" exits 0 "$sluice" get locked
check "all of them" same_lines "$work/numbers" "$work/out"
kill -TERM "$single_pid"
check "the node stops" ends_with 0 20 "$single_pid"

# ---- in a cluster ----
dir=$work/cluster
must "three nodes start" cluster_up "$dir" --nodes 3 --set limits=off --timeout 60
must "a stream is created" exits 0 "$sluice" stream create kept --shards 4
seq 1 1000 | sed 's/^/before the copy /' >"$work/kept"
must "records are put" exits 0 "$sluice" put kept "$work/kept"

# Folders in the wrong hands.
must "node 2 stops" "$cluster" stop 2 --dir "$dir"
cp -a "$dir/node-2/data" "$work/node-2.data"
must "node 1 stops" "$cluster" stop 1 --dir "$dir"
cp -a "$dir/node-1/data" "$work/node-1.data"
rm -rf "$dir/node-2/data"
cp -a "$work/node-1.data" "$dir/node-2/data"
check "node 2 does not start on the folder of node 1" bash -c '! "$1" start 2 --dir "$2" --timeout 15 >"$3" 2>&1' sh "$cluster" "$dir" "$work/foreign"
check "and says why" grep -q 'belongs to node 1' "$dir/node-2/log"
rm -rf "$dir/node-2/data"
mv "$work/node-2.data" "$dir/node-2/data"
must "node 1 starts" "$cluster" start 1 --dir "$dir"
must "node 2 starts on its own" "$cluster" start 2 --dir "$dir"
check "nothing was lost by it" exits 0 "$sluice" get kept
check "nor changed" same_lines "$work/kept" "$work/out"

# A folder of another cluster.
other=$work/other
(
    # Its endpoints are not those of the clients here.
    "$cluster" up --dir "$other" --nodes 3 --set limits=off >"$other.endpoints"
) || failed "another cluster starts"
started_clusters+=("$other")
must "its node 3 stops" "$cluster" stop 3 --dir "$other"
must "node 3 stops" "$cluster" stop 3 --dir "$dir"
mv "$dir/node-3/data" "$work/node-3.data"
cp -a "$other/node-3/data" "$dir/node-3/data"
"$cluster" start 3 --dir "$dir" --timeout 12 >"$work/foreign" 2>&1 && failed "node 3 of another cluster was taken in" ||
    pass "node 3 of another cluster is not taken in"
check "and the reason is told" grep -qiE 'another cluster|WRONG_CLUSTER|other cluster' "$dir"/node-*/log
"$cluster" kill 3 --dir "$dir" 2>/dev/null || true
rm -rf "$dir/node-3/data"
mv "$work/node-3.data" "$dir/node-3/data"
must "node 3 starts on its own folder" "$cluster" start 3 --dir "$dir"
must "the other cluster is taken down" "$cluster" down --dir "$other"
check "nothing was lost by it" exits 0 "$sluice" get kept
check "nor changed" same_lines "$work/kept" "$work/out"

# A copy made while the node was down, put back after one more life: it begins that life a second time, under the same number.
must "node 3 stops" "$cluster" stop 3 --dir "$dir"
cp -a "$dir/node-3/data" "$work/before"
must "node 3 starts again" "$cluster" start 3 --dir "$dir"
seq 1 500 | sed 's/^/between the copies /' >"$work/between"
must "records are put in that life" exits 0 "$sluice" put kept "$work/between"
cat "$work/between" >>"$work/kept"
must "node 3 stops once more" "$cluster" stop 3 --dir "$dir"
mv "$dir/node-3/data" "$work/present"
mv "$work/before" "$dir/node-3/data"
check "on the copy it does not become ready" bash -c '! "$1" start 3 --dir "$2" --timeout 15 >"$3" 2>&1' sh "$cluster" "$dir" "$work/before.out"
check "refused with the reason" grep -q 'began its life' "$dir/node-3/log"
"$cluster" kill 3 --dir "$dir" 2>/dev/null || true
rm -rf "$dir/node-3/data"
mv "$work/present" "$dir/node-3/data"
must "on its present folder it starts" "$cluster" start 3 --dir "$dir"

# An older copy of a disk, put back (a snapshot of a virtual machine): what it acknowledged since is missing there.
cp -a "$dir/node-3/data" "$work/older"
seq 1 3000 | sed 's/^/after the copy /' >"$work/later"
must "records are put after the copy" exits 0 "$sluice" put kept "$work/later"
cat "$work/later" >>"$work/kept"
sleep 0.5 # so that the peers were told how far its journal had come
must "node 3 stops" "$cluster" stop 3 --dir "$dir"
rm -rf "$dir/node-3/data"
mv "$work/older" "$dir/node-3/data"
started=yes
"$cluster" start 3 --dir "$dir" --timeout 20 >"$work/older.out" 2>&1 || started=no
say "started on the older copy: $started"
grep -ihE 'older|rejoin|joins anew|another life' "$dir"/node-*/log | tail -n 5 || true
if [ "$started" = yes ]; then
    # Ready means: taken in again. A node that its peers refuse serves an ever older past.
    sleep 1
    check "it is ready for good" exits 0 "$cluster" status --dir "$dir"
    check "and its peers do not refuse it" bash -c '! tail -n 3 "$1/node-3/log" | grep -q "a peer refuses this node"' sh "$dir"
fi
check "the cluster goes on" exits 0 "$sluice" get kept
check "with all records" same_lines "$work/kept" "$work/out"
must "records are put meanwhile" exits 0 "$sluice" put kept <(seq 1 500 | sed 's/^/with the copy /')
seq 1 500 | sed 's/^/with the copy /' >>"$work/kept"
if [ "$started" = no ]; then
    over() { ! kill -0 "$(node_pid "$dir" 3)" 2>/dev/null || grep -q '^State:[[:space:]]*Z' "/proc/$(node_pid "$dir" 3)/status"; }
    check "it ended by itself" until_ok 3 over
    check "refused with the reason" grep -qi 'older' "$dir"/node-*/log
    "$cluster" kill 3 --dir "$dir" 2>/dev/null || true
    rm -rf "$dir/node-3/data"
    "$cluster" start 3 --dir "$dir" --timeout 60 >"$work/wiped" 2>&1 && pass "with an empty folder it joins anew" ||
        failed "with an empty folder it joins anew"
fi
whole() { "$sluice" -o json cluster status 2>/dev/null | jq -e '.under_replicated == 0 and .shards_without_leader == 0' >/dev/null; }
from=$(now_ms)
check "every shard has its three replicas again" until_ok 40 whole
say "that took $(($(now_ms) - from)) ms after the node was ready"
"$sluice" -o json cluster status
# The proof that its vote and its data are worth something: the other two die in turn, and nothing is missing.
check "node 1 dies" "$cluster" kill 1 --dir "$dir"
check "the other two serve" until_ok 30 "$sluice" get kept --limit 1
check "all is read" exits 0 timeout 60 "$sluice" get kept
check "and nothing is lost" same_lines "$work/kept" "$work/out"
check "node 1 comes back" "$cluster" start 1 --dir "$dir"
check "node 2 dies" "$cluster" kill 2 --dir "$dir"
check "all is read" exits 0 timeout 60 "$sluice" get kept
check "and nothing is lost" same_lines "$work/kept" "$work/out"
check "node 2 comes back" "$cluster" start 2 --dir "$dir"
check "puts go on" exits 0 "$sluice" put kept <(seq 10)
