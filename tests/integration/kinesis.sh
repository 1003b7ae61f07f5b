#!/bin/bash
# Three real nodes and their Kinesis endpoints, by HTTP alone: what one makes the next one shows at once; signatures, access keys, rates, a port that is taken, an
# orderly stop with a connection open.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

dir=$work/cluster
keys=$work/keys
printf '# ours\nKEYA secret-a\nKEYB secret/b 123456789012\n' >"$keys"
must "three nodes start" cluster_up "$dir" --nodes 3 --set "access-keys=$keys"
mapfile -t endpoints < <("$cluster" status --dir "$dir" | grep -oE 'kinesis +[^ ]+' | awk '{ print "http://" $2 }')
must "three Kinesis endpoints" test "${#endpoints[@]}" -eq 3

user=KEYA:secret-a
# call NODE OPERATION BODY: the answer's status in $status, its body in $work/body.
call() {
    status=$(curl -s --max-time 20 -o "$work/body" -w '%{http_code}' --aws-sigv4 aws:amz:us-east-1:kinesis --user "$user" -H 'Content-Type: application/x-amz-json-1.1' \
        -H "X-Amz-Target: Kinesis_20131202.$2" -d "$3" "${endpoints[$1 - 1]}/") || true
}
# answers STATUS PATTERN NODE OPERATION BODY
answers() {
    call "$3" "$4" "$5"
    if [ "$status" != "$1" ] || ! grep -qE -- "$2" "$work/body"; then
        printf '%s answered %s: %s\n' "$4" "$status" "$(head -c 500 "$work/body")"
        return 1
    fi
}

# succeeds NODE OPERATION BODY: with an empty answer.
succeeds() {
    call "$@"
    [ "$status" = 200 ] && [ ! -s "$work/body" ] || { printf '%s answered %s: %s\n' "$2" "$status" "$(head -c 500 "$work/body")"; return 1; }
}

# ---- one cluster behind three endpoints ----
must "a stream is made at node 1" succeeds 1 CreateStream '{"StreamName":"s","ShardCount":2,"Tags":{"a":"1"}}'
check "node 2 has it at once" answers 200 '"StreamStatus":"ACTIVE".*"OpenShardCount":2' 2 DescribeStreamSummary '{"StreamName":"s"}'
check "and node 3 its tags" answers 200 '"Tags":\[\{"Key":"a","Value":"1"\}\]' 3 ListTagsForStream '{"StreamName":"s"}'
check "it is there already" answers 400 'ResourceInUseException.*already exists' 3 CreateStream '{"StreamName":"s","ShardCount":2}'
arn=arn:aws:kinesis:us-east-1:000000000000:stream/s
check "a consumer is registered at node 3" answers 200 "\"ConsumerARN\":\"$arn/consumer/c:[0-9]+\"" 3 RegisterStreamConsumer "{\"StreamARN\":\"$arn\",\"ConsumerName\":\"c\"}"
check "node 1 has it at once" answers 200 '"ConsumerStatus":"ACTIVE"' 1 DescribeStreamConsumer "{\"StreamARN\":\"$arn\",\"ConsumerName\":\"c\"}"
check "its stream is in use" answers 400 'ResourceInUseException' 2 DeleteStream '{"StreamName":"s"}'
check "a shard is split" succeeds 2 SplitShard '{"StreamName":"s","ShardToSplit":"shardId-000000000000","NewStartingHashKey":"4096"}'
three_open() { answers 200 '"OpenShardCount":3' 1 DescribeStreamSummary '{"StreamName":"s"}' >/dev/null; }
check "node 1 shows three open shards" until_ok 10 three_open
call 1 ListShards '{"StreamName":"s","MaxResults":3}'
token=$(sed -nE 's/.*"NextToken":"([^"]+)".*/\1/p' "$work/body")
check "a listing that node 1 began goes on at node 2" answers 200 '^\{"Shards":\[\{"ShardId":"shardId-000000000003","ParentShardId":"shardId-000000000000"' 2 ListShards "{\"NextToken\":\"$token\"}"
check "no listing of another kind does" answers 400 'InvalidArgumentException' 2 ListStreams "{\"NextToken\":\"$token\"}"

# ---- who calls ----
user=KEYB:secret/b
check "another account sees its own streams" answers 200 '^\{"StreamNames":\[\]' 1 ListStreams '{}'
user=KEYA:secret-b
check "a wrong secret" answers 400 'InvalidSignatureException' 1 ListStreams '{}'
user=KEYC:secret-a
check "an unknown key" answers 400 'UnrecognizedClientException' 2 ListStreams '{}'
user=KEYA:secret-a
unsigned() {
    curl -s --max-time 10 -H 'Content-Type: application/x-amz-json-1.1' -H 'X-Amz-Target: Kinesis_20131202.ListStreams' -d '{}' "${endpoints[0]}/" | grep -q MissingAuthenticationToken
}
check "no signature" unsigned

# ---- rates, metrics ----
exceeded() {
    local i
    for i in 1 2 3 4 5 6 7 8; do
        call 3 DescribeLimits '{}'
        ! grep -q 'LimitExceededException.*Rate exceeded' "$work/body" || return 0
    done
    return 1
}
check "a control call too often" exceeded
"$cluster" status --dir "$dir" >"$work/status" || cat "$work/status"
admin=$(awk '$2 == 3 { print $NF }' "$work/status")
counted() { curl -s "http://$admin/metrics" >"$work/metrics" && grep -qE '^sluice_kinesis_rate_exceeded_total [1-9]' "$work/metrics" && grep -q 'kinesis_requests_total{operation="DescribeLimits"}' "$work/metrics"; }
check "is counted" counted

# ---- beginnings and ends ----
taken=${endpoints[0]#http://}
check "a taken port is refused" exits 1 "$sluiced" --data "$work/other" --listen 127.0.0.1:0 --admin '' --kinesis "$taken"
check "with the reason" says 'cannot listen on the Kinesis address'
printf 'KEYA\n' >"$work/bad"
check "so is a bad file of access keys" exits 2 "$sluiced" --data "$work/other" --listen 127.0.0.1:0 --admin '' --kinesis 127.0.0.1:0 --access-keys "$work/bad"
check "with the line" says 'access-keys: .*line 1: an access key without a secret'

exec 7<>"/dev/tcp/${taken%:*}/${taken##*:}" # idle: nobody waits for it
check "a node stops" "$cluster" stop 1 --dir "$dir"
exec 7>&-
check "the others go on" succeeds 2 DeleteStream '{"StreamName":"s","EnforceConsumerDeletion":true}'
check "and the stream is gone" answers 400 'ResourceNotFoundException.*Stream s under account 000000000000 not found' 3 DescribeStream '{"StreamName":"s"}'
check "another node stops" "$cluster" stop 2 --dir "$dir"
check "without a majority nothing is told as not found" answers 503 'ServiceUnavailable' 3 DescribeStream '{"StreamName":"s"}'
