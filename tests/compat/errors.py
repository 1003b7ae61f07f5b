"""Each documented error: a table of operation, input, the expected name and words. Each row is asked in JSON and in CBOR, of every node in turn.

Texts in inputs are formatted with what `prepare` knows: {arn} {account} {seq} {ending} ... The words are AWS's where they are known (recorded by kinesalite and others); elsewhere
only the name counts, which is what clients branch on."""
import base64
import re
import time

from cbor import Time
from fixture import account, active, arn, consumer, create, drop, read, shards, SPACE
from harness import check, equal, matches, run
from wire import CBOR, JSON, call, good

VE, IA, RNF, RIU, LE, SE = ("ValidationException", "InvalidArgumentException", "ResourceNotFoundException", "ResourceInUseException", "LimitExceededException", "SerializationException")
EXPIRED, UNKNOWN = "ExpiredIteratorException", "UnknownOperationException"
S0 = "shardId-000000000000"
LONG = "n" * 129
BIG = b"x" * (1024 * 1024 + 1)
NO_STREAM = r"^Stream {none} under account {account} not found\.$"


def null(member):
    return r"^1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null$" % member


def bad(member, constraint):
    return r"^1 validation error detected: Value '.*' at '%s' failed to satisfy constraint: Member must %s" % (re.escape(member), constraint)


NAME = r"satisfy regular expression pattern: \[a-zA-Z0-9_\.-\]\+$"
known = {"none": "no-such-stream", "account": account}

# Operations on a stream that is not there: name and input beside the stream.
NEED_A_STREAM = [
    ("AddTagsToStream", {"Tags": {"a": "b"}}), ("DecreaseStreamRetentionPeriod", {"RetentionPeriodHours": 24}), ("DeleteStream", {}), ("DescribeStream", {}),
    ("DescribeStreamSummary", {}), ("DisableEnhancedMonitoring", {"ShardLevelMetrics": ["ALL"]}), ("EnableEnhancedMonitoring", {"ShardLevelMetrics": ["ALL"]}),
    ("GetShardIterator", {"ShardId": S0, "ShardIteratorType": "LATEST"}), ("IncreaseStreamRetentionPeriod", {"RetentionPeriodHours": 48}), ("ListShards", {}),
    ("ListTagsForStream", {}), ("MergeShards", {"ShardToMerge": S0, "AdjacentShardToMerge": "shardId-000000000001"}), ("PutRecord", {"Data": b"x", "PartitionKey": "k"}),
    ("PutRecords", {"Records": [{"Data": b"x", "PartitionKey": "k"}]}), ("RemoveTagsFromStream", {"TagKeys": ["a"]}),
    ("SplitShard", {"ShardToSplit": S0, "NewStartingHashKey": "5"}), ("UpdateShardCount", {"TargetShardCount": 2, "ScalingType": "UNIFORM_SCALING"}),
    ("UpdateStreamWarmThroughput", {"WarmThroughputMiBps": 10}),
]
NEED_AN_ARN = [
    ("ListStreamConsumers", {}), ("RegisterStreamConsumer", {"ConsumerName": "c"}), ("UpdateMaxRecordSize", {"MaxRecordSizeInKiB": 2048}),
    ("UpdateStreamMode", {"StreamModeDetails": {"StreamMode": "ON_DEMAND"}}), ("DescribeStreamConsumer", {"ConsumerName": "c"}), ("DeregisterStreamConsumer", {"ConsumerName": "c"}),
]
NEED_A_RESOURCE = [("TagResource", {"Tags": {"a": "b"}}), ("UntagResource", {"TagKeys": ["a"]}), ("ListTagsForResource", {}), ("PutResourcePolicy", {"Policy": '{{"Statement":[]}}'}),
                   ("GetResourcePolicy", {}), ("DeleteResourcePolicy", {})]

NOT_THERE = ([(op, {"StreamName": "{none}", **more}, RNF, NO_STREAM) for op, more in NEED_A_STREAM] +
             [(op, {"StreamARN": "{none_arn}", **more}, RNF, NO_STREAM) for op, more in NEED_A_STREAM[:6]] +
             [(op, {"StreamARN": "{none_arn}", **more}, RNF, "{none}") for op, more in NEED_AN_ARN] +
             [(op, {"ResourceARN": "{none_arn}", **more}, RNF, "{none}") for op, more in NEED_A_RESOURCE])

# Neither a name nor an ARN, or two that differ.
WHICH_STREAM = ([(op, more, IA, "StreamARN or StreamName") for op, more in NEED_A_STREAM if op != "ListShards"] +
                [("DescribeStream", {"StreamName": "{stream}", "StreamARN": "{other_arn}"}, IA, "does not match"),
                 ("PutRecord", {"StreamName": "{stream}", "StreamARN": "{other_arn}", "Data": b"x", "PartitionKey": "k"}, IA, "does not match"),
                 ("DescribeStream", {"StreamARN": "{foreign_arn}"}, RNF, "not found"), ("DescribeStreamSummary", {"StreamARN": "nonsense"}, VE, "streamARN")])

REQUIRED = [
    ("CreateStream", {}, VE, null("streamName")), ("AddTagsToStream", {"StreamName": "{stream}"}, VE, null("tags")),
    ("GetRecords", {}, VE, null("shardIterator")), ("GetShardIterator", {"StreamName": "{stream}", "ShardId": S0}, VE, null("shardIteratorType")),
    ("GetShardIterator", {"StreamName": "{stream}"}, VE, "^2 validation errors detected: .*shardId.*shardIteratorType|^2 .*shardIteratorType.*shardId"),
    ("PutRecord", {"StreamName": "{stream}", "PartitionKey": "k"}, VE, null("data")), ("PutRecord", {"StreamName": "{stream}", "Data": b"x"}, VE, null("partitionKey")),
    ("PutRecords", {"StreamName": "{stream}"}, VE, null("records")),
    ("PutRecords", {"StreamName": "{stream}", "Records": [{"Data": b"x", "PartitionKey": "k"}, {"PartitionKey": "k"}]}, VE, null(r"records\.2\.member\.data")),
    ("SplitShard", {"StreamName": "{stream}", "ShardToSplit": S0}, VE, null("newStartingHashKey")), ("MergeShards", {"StreamName": "{stream}", "ShardToMerge": S0}, VE, null("adjacentShardToMerge")),
    ("UpdateShardCount", {"StreamName": "{stream}", "TargetShardCount": 2}, VE, null("scalingType")), ("UpdateStreamMode", {"StreamARN": "{arn}"}, VE, null("streamModeDetails")),
    ("RegisterStreamConsumer", {"StreamARN": "{arn}"}, VE, null("consumerName")), ("ListStreamConsumers", {}, VE, null("streamARN")),
    ("SubscribeToShard", {"ConsumerARN": "{consumer}", "ShardId": S0}, VE, null("startingPosition")), ("StartStreamEncryption", {"StreamName": "{stream}"}, VE, "^2 validation errors"),
    ("PutResourcePolicy", {"ResourceARN": "{arn}"}, VE, null("policy")), ("TagResource", {"ResourceARN": "{arn}"}, VE, null("tags")), ("UntagResource", {"ResourceARN": "{arn}"}, VE, null("tagKeys")),
    ("UpdateMaxRecordSize", {"StreamARN": "{arn}"}, VE, null("maxRecordSizeInKiB")), ("UpdateStreamWarmThroughput", {"StreamName": "{stream}"}, VE, null("warmThroughputMiBps")),
    ("UpdateAccountSettings", {}, VE, null("minimumThroughputBillingCommitment")), ("IncreaseStreamRetentionPeriod", {"StreamName": "{stream}"}, VE, null("retentionPeriodHours")),
    ("EnableEnhancedMonitoring", {"StreamName": "{stream}"}, VE, null("shardLevelMetrics")), ("CreateChannel", {}, VE, "channelName"), ("DescribeChannel", {}, VE, null("channelARN")),
    ("UpdateStreamRecordDistributionStrategy", {"StreamARN": "{arn}"}, VE, null("recordDistributionStrategy")),
]

CONSTRAINTS = [
    ("CreateStream", {"StreamName": "a b"}, VE, bad("streamName", NAME)), ("CreateStream", {"StreamName": ""}, VE, "streamName.*Member must"),
    ("CreateStream", {"StreamName": LONG}, VE, bad("streamName", "have length less than or equal to 128$")),
    ("CreateStream", {"StreamName": "x", "ShardCount": 0}, VE, bad("shardCount", "have value greater than or equal to 1$")),
    ("CreateStream", {"StreamName": "x", "ShardCount": 1, "MaxRecordSizeInKiB": 1023}, VE, bad("maxRecordSizeInKiB", "have value greater than or equal to 1024$")),
    ("CreateStream", {"StreamName": "x", "ShardCount": 1, "MaxRecordSizeInKiB": 10241}, VE, bad("maxRecordSizeInKiB", "have value less than or equal to 10240$")),
    ("CreateStream", {"StreamName": "x", "StreamModeDetails": {"StreamMode": "OTHER"}}, VE, bad("streamModeDetails.streamMode", r"satisfy enum value set: \[.*PROVISIONED.*\]")),
    ("DescribeStream", {"StreamName": "{stream}", "Limit": 0}, VE, bad("limit", "have value greater than or equal to 1$")),
    ("DescribeStream", {"StreamName": "{stream}", "Limit": 10001}, VE, bad("limit", "have value less than or equal to 10000$")),
    ("DescribeStream", {"StreamName": "{stream}", "ExclusiveStartShardId": "a b"}, VE, bad("exclusiveStartShardId", NAME)),
    ("ListStreams", {"Limit": 0}, VE, bad("limit", "have value greater")), ("ListStreams", {"Limit": 10001}, VE, bad("limit", "have value less")),
    ("ListShards", {"StreamName": "{stream}", "MaxResults": 0}, VE, bad("maxResults", "have value greater")),
    ("ListShards", {"StreamName": "{stream}", "ShardFilter": {"Type": "SOME"}}, VE, bad("shardFilter.type", "satisfy enum value set")),
    ("ListTagsForStream", {"StreamName": "{stream}", "Limit": 51}, VE, bad("limit", "have value less than or equal to 50$")),
    ("GetRecords", {"ShardIterator": "AAAA", "Limit": 0}, VE, bad("limit", "have value greater")), ("GetRecords", {"ShardIterator": "AAAA", "Limit": 10001}, VE, bad("limit", "have value less")),
    ("GetRecords", {"ShardIterator": "a" * 513}, VE, bad("shardIterator", "have length less than or equal to 512$")),
    ("GetShardIterator", {"StreamName": "{stream}", "ShardId": S0, "ShardIteratorType": "EARLIEST"}, VE, bad("shardIteratorType", "satisfy enum value set")),
    ("GetShardIterator", {"StreamName": "{stream}", "ShardId": S0, "ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": "abc"}, VE, bad("startingSequenceNumber", "satisfy regular")),
    ("PutRecord", {"StreamName": "{stream}", "Data": b"x", "PartitionKey": ""}, VE, "partitionKey.*greater than or equal to 1$"),
    ("PutRecord", {"StreamName": "{stream}", "Data": b"x", "PartitionKey": "k" * 257}, VE, bad("partitionKey", "have length less than or equal to 256$")),
    ("PutRecord", {"StreamName": "{stream}", "Data": b"x", "PartitionKey": "k", "ExplicitHashKey": "-1"}, VE, bad("explicitHashKey", "satisfy regular expression pattern")),
    ("PutRecord", {"StreamName": "{stream}", "Data": b"x", "PartitionKey": "k", "ExplicitHashKey": str(SPACE)}, IA,
     r"^Invalid ExplicitHashKey\. ExplicitHashKey must be in the range: \[0, 2\^128-1\]\. Specified value was 340282366920938463463374607431768211456$"),
    ("PutRecord", {"StreamName": "{stream}", "Data": b"x", "PartitionKey": "k", "SequenceNumberForOrdering": "7"}, IA, "^ExclusiveMinimumSequenceNumber 7 used in PutRecord on stream {stream} under account {account} is invalid"),
    ("PutRecord", {"StreamName": "{stream}", "Data": BIG, "PartitionKey": "k"}, VE, "."),
    ("PutRecords", {"StreamName": "{stream}", "Records": []}, VE, bad("records", "have length greater than or equal to 1$")),
    ("PutRecords", {"StreamName": "{stream}", "Records": [{"Data": b"", "PartitionKey": "k"}] * 501}, VE, bad("records", "have length less than or equal to 500$")),
    ("PutRecords", {"StreamName": "{stream}", "Records": [{"Data": b"x", "PartitionKey": "k", "ExplicitHashKey": str(SPACE)}]}, IA, "^Invalid ExplicitHashKey"),
    ("PutRecords", {"StreamName": "{stream}", "Records": [{"Data": b"x", "PartitionKey": "k"}, {"Data": BIG, "PartitionKey": "k"}]}, VE, "."),
    ("SplitShard", {"StreamName": "{stream}", "ShardToSplit": S0, "NewStartingHashKey": "x"}, VE, bad("newStartingHashKey", "satisfy regular")),
    ("UpdateShardCount", {"StreamName": "{stream}", "TargetShardCount": 0, "ScalingType": "UNIFORM_SCALING"}, VE, bad("targetShardCount", "have value greater")),
    ("UpdateShardCount", {"StreamName": "{stream}", "TargetShardCount": 2, "ScalingType": "OTHER"}, VE, bad("scalingType", "satisfy enum")),
    ("UpdateMaxRecordSize", {"StreamARN": "{arn}", "MaxRecordSizeInKiB": 1}, VE, bad("maxRecordSizeInKiB", "have value greater")),
    ("UpdateMaxRecordSize", {"StreamARN": "{arn}", "MaxRecordSizeInKiB": 10241}, VE, bad("maxRecordSizeInKiB", "have value less")),
    ("EnableEnhancedMonitoring", {"StreamName": "{stream}", "ShardLevelMetrics": []}, VE, "shardLevelMetrics"), ("EnableEnhancedMonitoring", {"StreamName": "{stream}", "ShardLevelMetrics": ["Nonsense"]}, VE, "shardLevelMetrics"),
    ("RegisterStreamConsumer", {"StreamARN": "{arn}", "ConsumerName": "a b"}, VE, bad("consumerName", NAME)),
    ("ListStreamConsumers", {"StreamARN": "{arn}", "MaxResults": 0}, VE, bad("maxResults", "have value greater")),
    ("SubscribeToShard", {"ConsumerARN": "{consumer}", "ShardId": S0, "StartingPosition": {"Type": "NEVER"}}, VE, bad("startingPosition.type", "satisfy enum")),
    ("TagResource", {"ResourceARN": "{arn}", "Tags": {"k" * 129: "v"}}, VE, "tags"), ("TagResource", {"ResourceARN": "{arn}", "Tags": {"k": "v" * 257}}, VE, "tags"),
    ("UpdateAccountSettings", {"MinimumThroughputBillingCommitment": {"Status": "PERHAPS"}}, VE, "satisfy enum"),
    ("CreateStream", {"StreamName": "a b", "ShardCount": 0}, VE, "^2 validation errors detected: .*; "),
]

STATE = [
    ("CreateStream", {"StreamName": "{stream}", "ShardCount": 1}, RIU, r"^Stream {stream} under account {account} already exists\.$"),
    ("CreateStream", {"StreamName": "too-many", "ShardCount": 1000000}, LE, "."),
    ("DeleteStream", {"StreamName": "{stream}"}, RIU, "."), # it has a consumer
    ("IncreaseStreamRetentionPeriod", {"StreamName": "{stream}", "RetentionPeriodHours": 23}, IA, r"^Minimum allowed retention period is 24 hours\. Requested retention period \(23 hours\) is too short\.$"),
    ("IncreaseStreamRetentionPeriod", {"StreamName": "{stream}", "RetentionPeriodHours": 30}, IA, "(?i)can not be shorter than existing retention period"),
    ("IncreaseStreamRetentionPeriod", {"StreamName": "{stream}", "RetentionPeriodHours": 8761}, IA, "(?i)maximum allowed retention period"),
    ("DecreaseStreamRetentionPeriod", {"StreamName": "{stream}", "RetentionPeriodHours": 72}, IA, "(?i)can not be longer than existing retention period"),
    ("DecreaseStreamRetentionPeriod", {"StreamName": "{stream}", "RetentionPeriodHours": 12}, IA, "(?i)minimum allowed retention period is 24 hours"),
    ("ListShards", {}, IA, r"^Either NextToken or StreamName should be provided\.$"),
    ("ListShards", {"StreamName": "{stream}", "NextToken": "AAAA"}, IA, r"^NextToken and StreamName cannot be provided together\.$"),
    ("ListShards", {"NextToken": "AAAA"}, IA, "NextToken"), ("ListStreams", {"NextToken": "AAAA"}, IA, "NextToken"), ("ListStreamConsumers", {"StreamARN": "{arn}", "NextToken": "AAAA"}, IA, "NextToken"),
    ("ListShards", {"StreamName": "{stream}", "ShardFilter": {"Type": "AFTER_SHARD_ID"}}, IA, "."), ("ListShards", {"StreamName": "{stream}", "ShardFilter": {"Type": "AT_TIMESTAMP"}}, IA, "."),
    ("GetShardIterator", {"StreamName": "{stream}", "ShardId": "nonsense", "ShardIteratorType": "LATEST"}, RNF, r"^Could not find shard nonsense in stream {stream} under account {account}\.$"),
    ("GetShardIterator", {"StreamName": "{stream}", "ShardId": "shardId-000000000009", "ShardIteratorType": "LATEST"}, RNF, r"^Shard shardId-000000000009 in stream {stream} under account {account} does not exist$"),
    ("GetShardIterator", {"StreamName": "{stream}", "ShardId": "nonsense", "ShardIteratorType": "LATEST"}, RNF, "^(Could not find shard|Shard) nonsense in stream {stream} under account {account}"),
    ("GetShardIterator", {"StreamName": "{stream}", "ShardId": S0, "ShardIteratorType": "LATEST", "StartingSequenceNumber": "{seq}"}, IA, r"^Must either specify \(1\) AT_SEQUENCE_NUMBER"),
    ("GetShardIterator", {"StreamName": "{stream}", "ShardId": S0, "ShardIteratorType": "AFTER_SEQUENCE_NUMBER"}, IA, r"^Must either specify \(1\) AT_SEQUENCE_NUMBER"),
    ("GetShardIterator", {"StreamName": "{stream}", "ShardId": S0, "ShardIteratorType": "AT_TIMESTAMP"}, IA, "^Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP"),
    ("GetShardIterator", {"StreamName": "{stream}", "ShardId": S0, "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": "{future}"}, IA, "^The timestampInMillis parameter cannot be greater than the currentTimestampInMillis"),
    ("GetShardIterator", {"StreamName": "{stream}", "ShardId": "shardId-000000000001", "ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": "{seq}"}, IA,
     "^Invalid StartingSequenceNumber. It encodes shardId-000000000000, while it was used in a call to a shard with shardId-000000000001"),
    ("GetShardIterator", {"StreamName": "{stream}", "ShardId": S0, "ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": "123"}, IA, "123"),
    ("GetShardIterator", {"StreamName": "{split}", "ShardId": S0, "ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": "{ending}"}, IA, "SequenceNumber has reached max possible value for the shard"),
    ("GetRecords", {"ShardIterator": "AAAA"}, IA, r"^Invalid ShardIterator\.$"), ("GetRecords", {"ShardIterator": "{spoiled}"}, IA, r"^Invalid ShardIterator\.$"),
    ("SplitShard", {"StreamName": "{stream}", "ShardToSplit": "shardId-000000000009", "NewStartingHashKey": "7"}, RNF, r"^Could not find shard shardId-000000000009 in stream {stream} under account {account}\.$"),
    ("SplitShard", {"StreamName": "{stream}", "ShardToSplit": S0, "NewStartingHashKey": "1"}, IA, r"^NewStartingHashKey 1 used in SplitShard\(\) on shard shardId-000000000000 in stream {stream} under account {account} is not both greater than one plus"),
    ("SplitShard", {"StreamName": "{stream}", "ShardToSplit": S0, "NewStartingHashKey": str(SPACE - 1)}, IA, "is not both greater than one plus"),
    ("SplitShard", {"StreamName": "{split}", "ShardToSplit": S0, "NewStartingHashKey": "1000"}, RIU, "has already been merged or split"),
    ("MergeShards", {"StreamName": "{stream}", "ShardToMerge": "shardId-000000000001", "AdjacentShardToMerge": S0}, IA, "not an adjacent pair of shards eligible for merging"),
    ("MergeShards", {"StreamName": "{stream}", "ShardToMerge": S0, "AdjacentShardToMerge": "shardId-000000000007"}, RNF, "Could not find shard shardId-000000000007"),
    ("UpdateShardCount", {"StreamName": "{stream}", "TargetShardCount": 5, "ScalingType": "UNIFORM_SCALING"}, LE, "."),
    ("UpdateShardCount", {"StreamName": "{wide}", "TargetShardCount": 1, "ScalingType": "UNIFORM_SCALING"}, LE, "."),
    ("UpdateShardCount", {"StreamName": "{on_demand}", "TargetShardCount": 5, "ScalingType": "UNIFORM_SCALING"}, VE, "."),
    ("AddTagsToStream", {"StreamName": "{stream}", "Tags": {"a;b": "c"}}, IA, "^Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = "),
    ("RegisterStreamConsumer", {"StreamARN": "{arn}", "ConsumerName": "reader"}, RIU, "."),
    ("DescribeStreamConsumer", {"StreamARN": "{arn}", "ConsumerName": "nobody"}, RNF, "."), ("DescribeStreamConsumer", {"ConsumerARN": "{consumer}9"}, RNF, "."), ("DescribeStreamConsumer", {}, IA, "."),
    ("DeregisterStreamConsumer", {"StreamARN": "{arn}", "ConsumerName": "nobody"}, RNF, "."),
    ("SubscribeToShard", {"ConsumerARN": "{consumer}9", "ShardId": S0, "StartingPosition": {"Type": "LATEST"}}, RNF, "."),
    ("SubscribeToShard", {"ConsumerARN": "{consumer}", "ShardId": "shardId-000000000009", "StartingPosition": {"Type": "LATEST"}}, RNF, "."),
    ("SubscribeToShard", {"ConsumerARN": "{consumer}", "ShardId": S0, "StartingPosition": {"Type": "AT_SEQUENCE_NUMBER"}}, IA, "."),
    ("SubscribeToShard", {"ConsumerARN": "{consumer}", "ShardId": S0, "StartingPosition": {"Type": "AT_TIMESTAMP"}}, IA, "."),
    ("StartStreamEncryption", {"StreamName": "{stream}", "EncryptionType": "KMS", "KeyId": "alias/k"}, "KMS.*", "."),
    ("DeleteResourcePolicy", {"ResourceARN": "{other_arn}"}, RNF, "."),
    ("PutResourcePolicy", {"ResourceARN": "{arn}", "Policy": "no json"}, "(InvalidArgument|Validation)Exception", "."),
    ("DeleteChannel", {"ChannelARN": "{channel}"}, RNF, "."), ("DescribeChannel", {"ChannelARN": "{channel}"}, RNF, "."),
    ("NoSuchOperation", {}, UNKNOWN, None), ("PutQueue", {}, UNKNOWN, None),
]


def filled(value):
    if isinstance(value, dict):
        return {filled(k): filled(v) for k, v in value.items()}
    if isinstance(value, list):
        return [filled(v) for v in value]
    if value == "{future}":
        return known["future"]
    return value.format(**known) if isinstance(value, str) and "{" in value else value


def timed(value, kind):
    """Times are seconds in JSON and milliseconds in CBOR."""
    if isinstance(value, dict):
        return {k: timed(v, kind) for k, v in value.items()}
    if isinstance(value, Time):
        return value if kind == CBOR else value / 1000
    return value


def rows(table):
    for operation, input, name, words in table:
        what = "%s(%s)" % (operation, ", ".join("%s=%s" % (k, str(v)[:40]) for k, v in input.items()))
        for kind, tongue in ((JSON, "JSON"), (CBOR, "CBOR")):
            answer = call(operation, timed(filled(input), kind), kind=kind)
            seen = "%s %s" % (answer.status, answer.value if answer.value is not None else answer.body[:200])
            check("%s in %s is refused with %s" % (what, tongue, name), answer.status == 400 and re.fullmatch(name, answer.type or ""), seen)
            if words is not None:
                wanted = re.sub(r"{(none|account|stream)}", lambda m: known[m.group(1)], words)
                matches("words of %s in %s" % (what, tongue), answer.message, wanted)


def prepare():
    stream = create("errors", 2)
    create("errors-other")
    create("errors-wide", 6)
    good("CreateStream", {"StreamName": "errors-on-demand", "StreamModeDetails": {"StreamMode": "ON_DEMAND"}})
    create("errors-split")
    good("SplitShard", {"StreamName": "errors-split", "ShardToSplit": S0, "NewStartingHashKey": str(SPACE // 2)})
    active("errors-split", OpenShardCount=2)
    active("errors-on-demand")
    parent = [s for s in shards("errors-split") if s["ShardId"] == S0][0]
    sequence = good("PutRecord", {"StreamName": stream, "Data": b"x", "PartitionKey": "k", "ExplicitHashKey": "0"})["SequenceNumber"]
    token = good("GetShardIterator", {"StreamName": stream, "ShardId": S0, "ShardIteratorType": "LATEST"})["ShardIterator"]
    raw = bytearray(base64.b64decode(token))
    raw[40] ^= 1
    good("IncreaseStreamRetentionPeriod", {"StreamName": stream, "RetentionPeriodHours": 48})
    active(stream, RetentionPeriodHours=48)
    known.update(stream=stream, arn=arn(stream), other_arn=arn("errors-other"), none_arn=arn("no-such-stream"), foreign_arn=arn(stream).replace(account, "999999999999"), wide="errors-wide",
                 on_demand="errors-on-demand", split="errors-split", ending=parent["SequenceNumberRange"].get("EndingSequenceNumber", "0"), seq=sequence,
                 spoiled=base64.b64encode(bytes(raw)).decode(), future=Time(int(time.time() + 86400) * 1000), consumer=consumer(stream, "reader"),
                 channel=arn("x").replace("stream/x", "channel/none"))


def table():
    prepare()
    for part in (NOT_THERE, WHICH_STREAM, REQUIRED, CONSTRAINTS, STATE):
        rows(part)


def types():
    """Values of another type: SerializationException, checked before everything but the signature."""
    for operation, input, words in [
            ("CreateStream", {"StreamName": 5}, "can not be converted to an? String"), ("CreateStream", {"StreamName": "a", "ShardCount": "5"}, "java.lang.String can not be converted to an Integer"),
            ("CreateStream", {"StreamName": ["a"]}, "^Start of list found where not expected"), ("CreateStream", {"StreamName": {"a": 1}}, "^Start of structure or map found where not expected"),
            ("PutRecords", {"StreamName": "a", "Records": "b"}, "^Expected list or null"), ("AddTagsToStream", {"StreamName": "a", "Tags": "b"}, "^Expected map or null"),
            ("PutRecord", {"StreamName": "a", "PartitionKey": "k", "Data": 5}, "can not be converted to a Blob"), ("DeleteStream", {"StreamName": "a", "EnforceConsumerDeletion": "perhaps"}, "can not be converted to an Boolean")]:
        answer = call(operation, input)
        check("%s %s is refused" % (operation, input), answer.status == 400 and answer.type == SE, answer)
        matches("words of %s %s" % (operation, input), answer.message, words)
    answer = call("PutRecord", b'{"StreamName":"a","PartitionKey":"k","Data":"***="}')
    equal("no base64 is refused", answer.type, SE)


def updating():
    """Changes of a stream that is not ACTIVE, seen in the moment after a change; whether the moment is caught depends on the machine, what is answered does not."""
    for n in range(20):
        good("CreateStream", {"StreamName": "errors-moment-%d" % n, "ShardCount": 4})
        answer = call("SplitShard", {"StreamName": "errors-moment-%d" % n, "ShardToSplit": S0, "NewStartingHashKey": "1000"})
        active("errors-moment-%d" % n)
        drop("errors-moment-%d" % n)
        if answer.status != 200:
            break
    check("a stream that is being created is not split", answer.status == 200 or answer.type == RIU, answer)
    if answer.status != 200:
        matches("and that is told", answer.message, "^Stream errors-moment-%d under account %s not ACTIVE, instead in state CREATING" % (n, account))


def changes_nothing():
    """After all these errors the stream is as it was."""
    found, _ = read("errors", wanted=5, seconds=1)
    equal("no refused record was stored", len(found), 1)
    equal("no shard was split", len(shards("errors")), 2)
    for name in ("errors", "errors-other", "errors-wide", "errors-on-demand", "errors-split"):
        check("%s is deleted" % name, drop(name))


if __name__ == "__main__":
    run("errors", table, types, updating, changes_nothing)
