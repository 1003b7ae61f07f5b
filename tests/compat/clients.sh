#!/bin/bash
# The clients of AWS against three nodes without limits: Debian's AWS CLI and boto3, the AWS SDK for JavaScript over HTTP/2 and HTTP/1.1, raw requests in JSON and CBOR.
. "$(dirname "${BASH_SOURCE[0]}")/compat.bash"

must "the SDK for JavaScript is installed" node_ready
dir=$work/cluster
must "three nodes start" cluster_up "$dir" --nodes 3 --set limits=off
program 120 "$python" "$compat/errors.py"
program 120 "$python" "$compat/protocol.py"
program 120 "$python" "$compat/boto.py"
program 90 "$node" "$compat/operations.mjs"
program 150 "$node" "$compat/sdk.mjs"
program 150 "$compat/cli.bash"
nodes_well "$dir"
check "more than 300 things were checked" [ "$checks" -gt 300 ]
