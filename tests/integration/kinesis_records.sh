#!/bin/bash
# Three real nodes and boto3: records put and read through all Kinesis endpoints, while a node is killed and while a shard is split. Needs python3 with boto3.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

python3 -c 'import boto3' 2>/dev/null || { say "skipped: python3 has no boto3"; exit 0; }
dir=$work/cluster
must "three nodes start" cluster_up "$dir" --nodes 3 --set limits=off
set -a
AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_EC2_METADATA_DISABLED=true
set +a
check "what was acknowledged over the endpoints is there" timeout 240 python3 "$repo/tests/integration/kinesis_records.py" \
    "'$cluster' kill 2 --dir '$dir'; sleep 3; '$cluster' start 2 --dir '$dir'" "'$sluice' shard split split 0"
for n in 1 2 3; do
    check "node $n runs" kill -0 "$(node_pid "$dir" "$n")"
done
