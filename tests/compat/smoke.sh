#!/bin/bash
# One node and the life of a stream: the part of tests/compat that also runs in `tests/run --quick`. Some seconds, without npm; boto3 is used if it is there. Raw requests do
# the same a second time, so that the way without boto3 is not left untried.
boto3_optional=yes
. "$(dirname "${BASH_SOURCE[0]}")/compat.bash"

must "free ports" free_ports
single_start "$work/node" --limits off
export KINESIS_ENDPOINTS=http://127.0.0.1:$((ports_base + 1))
must "the node is ready" until_ok 10 single_ready
program 20 "$python" "$compat/smoke.py"
program 20 "$python" -c 'import sys; sys.modules["boto3"] = None; sys.path.insert(0, sys.argv.pop(1)); import smoke' "$compat"
h2() {
    [ "$(curl -s --max-time 10 -o "$work/body" -w '%{http_version} %{http_code}' --http2-prior-knowledge --aws-sigv4 aws:amz:us-east-1:kinesis --user test:test \
        -H 'Content-Type: application/x-amz-json-1.1' -H 'X-Amz-Target: Kinesis_20131202.ListStreams' -d '{}' "$KINESIS_ENDPOINTS/")" = '2 200' ]
}
check "HTTP/2" h2
kill "$single_pid"
check "the node stops" ends_with 0 10 "$single_pid"
check "it did not assert or crash" bash -c '! grep -qiE "assertion failed|AddressSanitizer|runtime error|SEGV" "$1"' sh "$work/node/log"
