"""Streams for the programs of tests/compat, made and read by raw requests."""
import base64
import os

from harness import until
from wire import call, good, region

account = os.environ.get("COMPAT_ACCOUNT", "000000000000")
SPACE = 1 << 128  # of hash keys


def arn(stream):
    return "arn:aws:kinesis:%s:%s:stream/%s" % (region, account, stream)


def summary(stream):
    return good("DescribeStreamSummary", {"StreamName": stream})["StreamDescriptionSummary"]


def active(stream, seconds=30):
    """Waits until the stream is ACTIVE (on the nodes that were asked, each in turn)."""
    for _ in range(3):
        if not until(seconds, lambda: (call("DescribeStreamSummary", {"StreamName": stream}).value or {}).get("StreamDescriptionSummary", {}).get("StreamStatus") == "ACTIVE"):
            raise AssertionError("%s did not become ACTIVE" % stream)


def create(stream, shards=1, **more):
    good("CreateStream", {"StreamName": stream, "ShardCount": shards, **more})
    active(stream)
    return stream


def gone(stream, seconds=30):
    return until(seconds, lambda: call("DescribeStreamSummary", {"StreamName": stream}).type == "ResourceNotFoundException")


def drop(stream):
    good("DeleteStream", {"StreamName": stream, "EnforceConsumerDeletion": True})
    return gone(stream)


def shards(stream, **filter):
    """All shards, page by page."""
    found, answer = [], good("ListShards", {"StreamName": stream, **filter})
    while True:
        found += answer["Shards"]
        if "NextToken" not in answer:
            return found
        answer = good("ListShards", {"NextToken": answer["NextToken"]})


def open_shards(stream):
    return [s for s in shards(stream) if "EndingSequenceNumber" not in s["SequenceNumberRange"]]


def range_of(shard):
    r = shard["HashKeyRange"]
    return int(r["StartingHashKey"]), int(r["EndingHashKey"])


def tile(found):
    """The ranges of these shards cover the hash space, each key once."""
    ranges = sorted(range_of(s) for s in found)
    return bool(ranges) and ranges[0][0] == 0 and ranges[-1][1] == SPACE - 1 and all(a[1] + 1 == b[0] for a, b in zip(ranges, ranges[1:]))


def iterator(stream, shard="shardId-000000000000", kind="TRIM_HORIZON", **more):
    return good("GetShardIterator", {"StreamName": stream, "ShardId": shard, "ShardIteratorType": kind, **more})["ShardIterator"]


def read(stream, shard="shardId-000000000000", kind="TRIM_HORIZON", wanted=1, seconds=20, **more):
    """Records of a shard until there are `wanted`, or the end of the shard. Data is decoded. Also the last answer."""
    at, found, last = iterator(stream, shard, kind, **more), [], {}

    def one():
        nonlocal at, last
        last = good("GetRecords", {"ShardIterator": at})
        for r in last["Records"]:
            found.append({**r, "Data": base64.b64decode(r["Data"])})
        at = last.get("NextShardIterator")
        return at is None or len(found) >= wanted

    until(seconds, one)
    return found, last


def consumer(stream, name):
    """Registers a consumer and waits until it is ACTIVE; its ARN."""
    made = good("RegisterStreamConsumer", {"StreamARN": arn(stream), "ConsumerName": name})["Consumer"]
    until(20, lambda: good("DescribeStreamConsumer", {"ConsumerARN": made["ConsumerARN"]})["ConsumerDescription"]["ConsumerStatus"] == "ACTIVE")
    return made["ConsumerARN"]
