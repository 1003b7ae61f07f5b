#!/bin/bash
# Debian's AWS CLI against the cluster, a node after the other: what an operator does at a shell. Counts like tests/integration/common.bash; run by clients.sh.
set -uo pipefail

checks=0 failures=0 turn=0
IFS=, read -r -a nodes <<<"$KINESIS_ENDPOINTS"
work=$(mktemp -d "${TMPDIR:-/tmp}/compat-cli.XXXXXX")
trap 'rm -rf "$work"' EXIT
export AWS_PAGER='' AWS_MAX_ATTEMPTS=2 AWS_CONFIG_FILE=$work/none AWS_SHARED_CREDENTIALS_FILE=$work/none
half=170141183460469231731687303715884105728
arn=arn:aws:kinesis:$AWS_DEFAULT_REGION:${COMPAT_ACCOUNT:-000000000000}:stream/cli

# The next node is asked. Output is JSON in $work/out, errors in $work/err.
k() {
    turn=$((turn + 1))
    /usr/bin/aws --endpoint-url "${nodes[$((turn % ${#nodes[@]}))]}" --cli-binary-format raw-in-base64-out kinesis "$@" >"$work/out" 2>"$work/err" </dev/null
}

check() { # WHAT COMMAND...
    local what=$1
    shift
    checks=$((checks + 1))
    if ! "$@"; then
        failures=$((failures + 1))
        printf 'FAIL: %s\n' "$what"
        head -c 600 "$work/err" "$work/out" | sed 's/^/    | /'
    fi
}

fails() { ! k "$@"; }
shows() { jq -e "$1" "$work/out" >/dev/null; } # of the last answer
does() { check "$1" k "${@:2}"; }              # WHAT ARGUMENT...
refuses() {                                      # WHAT ERROR ARGUMENT...
    check "$1" fails "${@:3}"
    check "$1: $2" grep -q "An error occurred ($2) when calling" "$work/err"
}
active() {
    local i
    for ((i = 0; i < 100; i++)); do
        if k describe-stream-summary --stream-name cli && shows '.StreamDescriptionSummary.StreamStatus == "ACTIVE"'; then
            return 0
        fi
    done
    return 1
}

does "create-stream" create-stream --stream-name cli --shard-count 2
does "wait stream-exists" wait stream-exists --stream-name cli
check "it becomes ACTIVE" active
does "describe-stream" describe-stream --stream-name cli
check "its shards" shows '[.StreamDescription.Shards[].ShardId] == ["shardId-000000000000", "shardId-000000000001"]'
check "its encryption" shows '.StreamDescription.EncryptionType == "NONE" or (.StreamDescription | has("EncryptionType") | not)'
does "list-streams" list-streams
check "it is listed" shows '.StreamNames | index("cli") != null'
does "put-record" put-record --stream-name cli --data "first line" --partition-key a --explicit-hash-key 0
check "where" shows '.ShardId == "shardId-000000000000"'
printf '\x00\x01\xfe\xff' >"$work/binary"
does "put-record of bytes" put-record --stream-name cli --data "fileb://$work/binary" --partition-key a --explicit-hash-key 0
does "put-records" put-records --stream-name cli --records "Data=x,PartitionKey=a,ExplicitHashKey=0" "Data=y,PartitionKey=b,ExplicitHashKey=$half"
check "none failed" shows '.FailedRecordCount == 0 and ([.Records[].ShardId] == ["shardId-000000000000", "shardId-000000000001"])'
does "get-shard-iterator" get-shard-iterator --stream-name cli --shard-id shardId-000000000000 --shard-iterator-type TRIM_HORIZON
iterator=$(jq -r .ShardIterator "$work/out")
does "get-records" get-records --shard-iterator "$iterator"
check "what was put" shows '[.Records[].Data] == ["Zmlyc3QgbGluZQ==", "AAH+/w==", "eA=="]'
check "and where to go on" shows '.NextShardIterator != null and .MillisBehindLatest == 0 and (has("ChildShards") | not)'
does "split-shard" split-shard --stream-name cli --shard-to-split shardId-000000000000 --new-starting-hash-key 1000
check "ACTIVE again" active
does "list-shards of those that are open" list-shards --stream-name cli --shard-filter Type=AT_LATEST
check "they are three" shows '[.Shards[].ShardId] == ["shardId-000000000001", "shardId-000000000002", "shardId-000000000003"]'
does "list-shards in pages" list-shards --stream-name cli --page-size 1
check "all of them" shows '.Shards | length == 4'
for ((i = 0; i < 20; i++)); do
    k get-records --shard-iterator "$iterator" || break
    iterator=$(jq -r '.NextShardIterator // empty' "$work/out")
    [ -n "$iterator" ] || break
done
check "the closed shard's end" shows '(has("NextShardIterator") | not) and ([.ChildShards[].ShardId] | sort == ["shardId-000000000002", "shardId-000000000003"])'
does "merge-shards" merge-shards --stream-name cli --shard-to-merge shardId-000000000002 --adjacent-shard-to-merge shardId-000000000003
check "ACTIVE then" active
does "update-shard-count" update-shard-count --stream-name cli --target-shard-count 4 --scaling-type UNIFORM_SCALING
check "to four" shows '.CurrentShardCount == 2 and .TargetShardCount == 4'
check "done" active
check "four are open" shows '.StreamDescriptionSummary.OpenShardCount == 4'
does "add-tags-to-stream" add-tags-to-stream --stream-name cli --tags team=orders,stage=test
does "list-tags-for-stream" list-tags-for-stream --stream-name cli
check "both" shows '.Tags == [{Key: "stage", Value: "test"}, {Key: "team", Value: "orders"}]'
does "remove-tags-from-stream" remove-tags-from-stream --stream-name cli --tag-keys team
does "increase-stream-retention-period" increase-stream-retention-period --stream-name cli --retention-period-hours 72
check "changed" active
check "72 hours" shows '.StreamDescriptionSummary.RetentionPeriodHours == 72'
does "update-stream-mode" update-stream-mode --stream-arn "$arn" --stream-mode-details StreamMode=ON_DEMAND
check "ON_DEMAND then" active
does "register-stream-consumer" register-stream-consumer --stream-arn "$arn" --consumer-name reader
consumer=$(jq -r .Consumer.ConsumerARN "$work/out")
does "describe-stream-consumer" describe-stream-consumer --consumer-arn "$consumer"
does "list-stream-consumers" list-stream-consumers --stream-arn "$arn"
check "one" shows '[.Consumers[].ConsumerName] == ["reader"]'
does "describe-limits" describe-limits
refuses "a stream that is not there" ResourceNotFoundException describe-stream --stream-name nothing
refuses "the same stream again" ResourceInUseException create-stream --stream-name cli --shard-count 1
refuses "a bad iterator" InvalidArgumentException get-records --shard-iterator AAAA
refuses "a wrong name" ValidationException create-stream --stream-name 'a b' --shard-count 1
refuses "deleting what has consumers" ResourceInUseException delete-stream --stream-name cli
does "deregister-stream-consumer" deregister-stream-consumer --consumer-arn "$consumer"
does "delete-stream" delete-stream --stream-name cli --enforce-consumer-deletion
does "wait stream-not-exists" wait stream-not-exists --stream-name cli
echo "AWS CLI: $checks checks, $failures failed"
[ "$failures" -eq 0 ]
