"""Debian's python3-boto3 against the cluster, the nodes in turn: what a Python program does with Kinesis, from CreateStream to the end of a shard."""
import datetime
import hashlib
import itertools
import os
import threading
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from fixture import SPACE, account, active, arn, range_of, tile
from harness import check, equal, matches, run, until
from wire import endpoints, region

S0, S1 = "shardId-000000000000", "shardId-000000000001"
config = Config(retries={"total_max_attempts": 2, "mode": "standard"}, connect_timeout=5, read_timeout=30, max_pool_connections=20)
clients = [boto3.client("kinesis", endpoint_url=e, region_name=region, config=config) for e in endpoints]
turn = itertools.count()


def k():
    return clients[next(turn) % len(clients)]


def refused(what, name, f, **input):
    try:
        f(**input)
        check(what, False, "it was done")
    except ClientError as e:
        equal(what, e.response["Error"]["Code"], name)


def create(name, shards):
    k().create_stream(StreamName=name, ShardCount=shards)
    active(name)


def drain(stream, shard, kind="TRIM_HORIZON", wanted=10 ** 9, seconds=30, **more):
    """Reads until `wanted` records or the shard's end; (records, the last answer)."""
    at = k().get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType=kind, **more)["ShardIterator"]
    found, deadline = [], time.monotonic() + seconds
    while True:
        answer = k().get_records(ShardIterator=at)
        found += answer["Records"]
        if "NextShardIterator" not in answer or len(found) >= wanted or time.monotonic() > deadline:
            return found, answer
        at = answer["NextShardIterator"]


def streams():
    answer = k().create_stream(StreamName="boto", ShardCount=3)
    equal("CreateStream answers 200", answer["ResponseMetadata"]["HTTPStatusCode"], 200)
    matches("with a request id", answer["ResponseMetadata"].get("RequestId"), r"^[0-9a-f-]{36}$")
    k().get_waiter("stream_exists").wait(StreamName="boto", WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    active("boto")
    d = k().describe_stream(StreamName="boto")["StreamDescription"]
    equal("DescribeStream: name", d["StreamName"], "boto")
    equal("ARN", d["StreamARN"], arn("boto"))
    equal("status", d["StreamStatus"], "ACTIVE")
    equal("retention", d["RetentionPeriodHours"], 24)
    equal("monitoring", d["EnhancedMonitoring"], [{"ShardLevelMetrics": []}])
    equal("mode", d["StreamModeDetails"], {"StreamMode": "PROVISIONED"})
    equal("encryption", d.get("EncryptionType", "NONE"), "NONE")
    check("no key", "KeyId" not in d)
    age = abs((datetime.datetime.now(datetime.timezone.utc) - d["StreamCreationTimestamp"]).total_seconds())
    check("creation time", age < 60, d["StreamCreationTimestamp"])
    equal("no more shards", d["HasMoreShards"], False)
    equal("shard ids", [s["ShardId"] for s in d["Shards"]], [S0, S1, "shardId-000000000002"])
    check("ranges tile", tile(d["Shards"]), d["Shards"])
    third = SPACE // 3
    equal("widths are AWS's", [range_of(s) for s in d["Shards"]], [(0, third - 1), (third, 2 * third - 1), (2 * third, SPACE - 1)])
    check("open shards have no end", all("EndingSequenceNumber" not in s["SequenceNumberRange"] and "ParentShardId" not in s for s in d["Shards"]))
    check("sequence numbers look like AWS's", all(s["SequenceNumberRange"]["StartingSequenceNumber"].startswith("4") and len(s["SequenceNumberRange"]["StartingSequenceNumber"]) == 56
                                                   for s in d["Shards"]), d["Shards"][0]["SequenceNumberRange"])
    page = k().describe_stream(StreamName="boto", Limit=1)["StreamDescription"]
    check("a page of one shard", len(page["Shards"]) == 1 and page["HasMoreShards"], page)
    page = k().describe_stream(StreamName="boto", Limit=5, ExclusiveStartShardId=S0)["StreamDescription"]
    check("the page behind it", [s["ShardId"] for s in page["Shards"]] == [S1, "shardId-000000000002"] and not page["HasMoreShards"], page)
    s = k().describe_stream_summary(StreamARN=arn("boto"))["StreamDescriptionSummary"]
    equal("DescribeStreamSummary: open shards", s["OpenShardCount"], 3)
    equal("consumers", s["ConsumerCount"], 0)
    for name in ("boto-a", "boto-b"):
        create(name, 1)
    names = [n for page in k().get_paginator("list_streams").paginate(PaginationConfig={"PageSize": 1}) for n in page["StreamNames"]]
    equal("ListStreams in pages, in order", [n for n in names if n.startswith("boto")], ["boto", "boto-a", "boto-b"])
    page = k().list_streams(Limit=1, ExclusiveStartStreamName="boto-a")
    equal("ListStreams behind a name", page["StreamNames"], ["boto-b"])
    limits = k().describe_limits()
    check("DescribeLimits", limits["OpenShardCount"] >= 5 and limits["ShardLimit"] >= limits["OpenShardCount"], limits)
    refused("a stream of that name", "ResourceInUseException", k().create_stream, StreamName="boto", ShardCount=1)
    k().delete_stream(StreamName="boto-b")
    refused("puts to a deleted stream", "ResourceNotFoundException", k().put_record, StreamName="boto-b", Data=b"x", PartitionKey="k")
    k().get_waiter("stream_not_exists").wait(StreamName="boto-b", WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    check("a deleted stream is gone", "boto-b" not in k().list_streams()["StreamNames"])
    create("boto-b", 1)
    equal("one of its name is empty", drain("boto-b", S0, seconds=1)[0], [])


def records():
    everything = bytes(range(256)) * 4
    answer = k().put_record(StreamName="boto-a", Data=everything, PartitionKey="ключ")
    equal("PutRecord: shard", answer["ShardId"], S0)
    matches("its sequence number", answer["SequenceNumber"], r"^[1-9]\d{50,60}$")
    check("no encryption type", "EncryptionType" not in answer)
    found, last = drain("boto-a", S0, wanted=1)
    equal("GetRecords: binary data", found[0]["Data"], everything)
    equal("the key", found[0]["PartitionKey"], "ключ")
    equal("the sequence number", found[0]["SequenceNumber"], answer["SequenceNumber"])
    check("the arrival time", abs(found[0]["ApproximateArrivalTimestamp"].timestamp() - time.time()) < 60, found[0]["ApproximateArrivalTimestamp"])
    equal("at the tip", last["MillisBehindLatest"], 0)
    check("an open shard has no children", "ChildShards" not in last)
    empty = k().put_record(StreamName="boto-a", Data=b"", PartitionKey="k" * 256)
    check("an empty record and a key of 256 characters", int(empty["SequenceNumber"]) > int(answer["SequenceNumber"]))
    after = k().put_record(StreamName="boto-a", Data=b"after", PartitionKey="k", SequenceNumberForOrdering=empty["SequenceNumber"])
    check("SequenceNumberForOrdering", int(after["SequenceNumber"]) > int(empty["SequenceNumber"]))
    large = os.urandom(1024 * 1024 - 1)
    k().put_record(StreamName="boto-a", Data=large, PartitionKey="L")
    check("a record of 1 MiB, key included, comes back", drain("boto-a", S0, wanted=4)[0][-1]["Data"] == large)
    refused("one byte more is refused", "ValidationException", k().put_record, StreamName="boto-a", Data=large + b"x", PartitionKey="LL")

    keys = ["key-%d" % n for n in range(500)]
    answer = k().put_records(StreamName="boto", Records=[{"Data": n.encode() + b"\0\xff", "PartitionKey": n} for n in keys])
    equal("PutRecords: none failed", answer["FailedRecordCount"], 0)
    equal("an answer for each", len(answer["Records"]), 500)
    shards = k().list_shards(StreamName="boto")["Shards"]

    def home(key):
        n = int.from_bytes(hashlib.md5(key.encode()).digest(), "big")
        return next(s["ShardId"] for s in shards if range_of(s)[0] <= n <= range_of(s)[1])

    equal("each goes where its key's MD5 says", [r["ShardId"] for r in answer["Records"]], [home(n) for n in keys])
    check("no errors are told", all("ErrorCode" not in r and "ErrorMessage" not in r for r in answer["Records"]))
    for shard in shards:
        mine = [n for n, r in zip(keys, answer["Records"]) if r["ShardId"] == shard["ShardId"]]
        got, _ = drain("boto", shard["ShardId"], wanted=len(mine))
        equal("%s has its records in order" % shard["ShardId"], [r["PartitionKey"] for r in got], mine)
        check("with their data", all(r["Data"] == r["PartitionKey"].encode() + b"\0\xff" for r in got))
        numbers = [int(r["SequenceNumber"]) for r in got]
        check("and rising numbers", numbers == sorted(set(numbers)))
    answer = k().put_records(StreamName="boto", Records=[{"Data": b"e", "PartitionKey": "same", "ExplicitHashKey": str(range_of(s)[1])} for s in shards])
    equal("ExplicitHashKey", [r["ShardId"] for r in answer["Records"]], [s["ShardId"] for s in shards])


def iterators():
    create("boto-it", 1)
    numbers, times = [], []
    for n in range(10):
        times.append(time.time())
        numbers.append(k().put_record(StreamName="boto-it", Data=b"%d" % n, PartitionKey="k")["SequenceNumber"])
        time.sleep(0.02)

    def datas(kind, wanted, **more):
        return [int(r["Data"]) for r in drain("boto-it", S0, kind, wanted, 3, **more)[0]]

    equal("TRIM_HORIZON", datas("TRIM_HORIZON", 10), list(range(10)))
    equal("AT_SEQUENCE_NUMBER", datas("AT_SEQUENCE_NUMBER", 6, StartingSequenceNumber=numbers[4]), list(range(4, 10)))
    equal("AFTER_SEQUENCE_NUMBER", datas("AFTER_SEQUENCE_NUMBER", 5, StartingSequenceNumber=numbers[4]), list(range(5, 10)))
    arrived = drain("boto-it", S0, wanted=10)[0][6]["ApproximateArrivalTimestamp"]
    equal("AT_TIMESTAMP of a record", datas("AT_TIMESTAMP", 4, Timestamp=arrived), [6, 7, 8, 9])
    equal("AT_TIMESTAMP before all", datas("AT_TIMESTAMP", 10, Timestamp=times[0] - 3600), list(range(10)))
    at = k().get_shard_iterator(StreamName="boto-it", ShardId=S0, ShardIteratorType="AT_TIMESTAMP", Timestamp=time.time() - 0.001)
    answer = k().get_records(ShardIterator=at["ShardIterator"])
    check("AT_TIMESTAMP behind all is an iterator", answer["Records"] == [] and "NextShardIterator" in answer, answer)
    latest = k().get_shard_iterator(StreamName="boto-it", ShardId=S0, ShardIteratorType="LATEST")["ShardIterator"]
    k().put_record(StreamName="boto-it", Data=b"10", PartitionKey="k")
    equal("LATEST, from when it was asked for", [r["Data"] for r in k().get_records(ShardIterator=latest)["Records"]], [b"10"])
    equal("an iterator may be used again", [r["Data"] for r in k().get_records(ShardIterator=latest)["Records"]], [b"10"])
    equal("the sequence number of a shard's start", datas("AT_SEQUENCE_NUMBER", 11, StartingSequenceNumber=k().list_shards(StreamName="boto-it")["Shards"][0]["SequenceNumberRange"]["StartingSequenceNumber"]),
          list(range(11)))
    for shard in ("0", "shardId-0", "x-0"):
        answer = k().get_shard_iterator(StreamName="boto-it", ShardId=shard, ShardIteratorType="LATEST")
        check("a shard called %s" % shard, len(answer["ShardIterator"]) > 60)
    at, pages = k().get_shard_iterator(StreamARN=arn("boto-it"), ShardId=S0, ShardIteratorType="TRIM_HORIZON")["ShardIterator"], []
    for _ in range(4):
        answer = k().get_records(ShardIterator=at, Limit=3)
        pages.append([int(r["Data"]) for r in answer["Records"]])
        at = answer["NextShardIterator"]
    equal("pages of three", pages, [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10]])
    behind = k().get_records(ShardIterator=k().get_shard_iterator(StreamName="boto-it", ShardId=S0, ShardIteratorType="TRIM_HORIZON")["ShardIterator"], Limit=1)["MillisBehindLatest"]
    check("MillisBehindLatest in the middle", 0 < behind < 3600000, behind)


def resharding():
    for n in range(20):
        k().put_record(StreamName="boto-b", Data=b"%d" % n, PartitionKey="k%d" % n)
    k().split_shard(StreamName="boto-b", ShardToSplit=S0, NewStartingHashKey=str(SPACE // 2))
    active("boto-b")
    shards = k().list_shards(StreamName="boto-b")["Shards"]
    equal("a split: three shards", [s["ShardId"] for s in shards], [S0, S1, "shardId-000000000002"])
    check("the parent has an end", "EndingSequenceNumber" in shards[0]["SequenceNumberRange"], shards[0])
    equal("the children's parent", [s.get("ParentShardId") for s in shards[1:]], [S0, S0])
    equal("the children's ranges", [range_of(s) for s in shards[1:]], [(0, SPACE // 2 - 1), (SPACE // 2, SPACE - 1)])
    check("children begin above the parent's end", all(int(s["SequenceNumberRange"]["StartingSequenceNumber"]) > int(shards[0]["SequenceNumberRange"]["EndingSequenceNumber"]) for s in shards[1:]), shards)
    k().put_record(StreamName="boto-b", Data=b"20", PartitionKey="k20")
    found, last = drain("boto-b", S0)
    equal("the parent is drained", [int(r["Data"]) for r in found], list(range(20)))
    check("then there is no iterator", "NextShardIterator" not in last, last)
    equal("but children", sorted((c["ShardId"], tuple(c["ParentShards"]), range_of(c)) for c in last.get("ChildShards", [])),
          [(S1, (S0,), (0, SPACE // 2 - 1)), ("shardId-000000000002", (S0,), (SPACE // 2, SPACE - 1))])
    equal("behind nothing", last["MillisBehindLatest"], 0)
    before = time.time()
    time.sleep(0.01)
    k().merge_shards(StreamName="boto-b", ShardToMerge=S1, AdjacentShardToMerge="shardId-000000000002")
    active("boto-b")
    merged = k().list_shards(StreamName="boto-b", ExclusiveStartShardId="shardId-000000000002")["Shards"]
    equal("a merge: one more", [(s["ShardId"], s.get("ParentShardId"), s.get("AdjacentParentShardId"), range_of(s)) for s in merged], [("shardId-000000000003", S1, "shardId-000000000002", (0, SPACE - 1))])
    _, last = drain("boto-b", S1)
    equal("a merged shard's child names both parents", [(c["ShardId"], sorted(c["ParentShards"])) for c in last.get("ChildShards", [])], [("shardId-000000000003", [S1, "shardId-000000000002"])])
    number = k().put_record(StreamName="boto-b", Data=b"21", PartitionKey="k")["SequenceNumber"]
    check("numbers go on rising", int(number) > int(shards[0]["SequenceNumberRange"]["EndingSequenceNumber"]))

    def filtered(kind, **more):
        return [int(s["ShardId"][-2:]) for s in k().list_shards(StreamName="boto-b", ShardFilter={"Type": kind, **more})["Shards"]]

    equal("AT_LATEST", filtered("AT_LATEST"), [3])
    equal("AT_TRIM_HORIZON", filtered("AT_TRIM_HORIZON"), [0])
    equal("FROM_TRIM_HORIZON", filtered("FROM_TRIM_HORIZON"), [0, 1, 2, 3])
    equal("AFTER_SHARD_ID", filtered("AFTER_SHARD_ID", ShardId=S1), [2, 3])
    equal("AT_TIMESTAMP", filtered("AT_TIMESTAMP", Timestamp=before), [1, 2])
    equal("FROM_TIMESTAMP", filtered("FROM_TIMESTAMP", Timestamp=before), [1, 2, 3])
    pages = [[s["ShardId"] for s in p["Shards"]] for p in k().get_paginator("list_shards").paginate(StreamName="boto-b", PaginationConfig={"PageSize": 3})]
    equal("ListShards in pages", [len(p) for p in pages], [3, 1])
    answer = k().update_shard_count(StreamName="boto-b", TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    equal("UpdateShardCount", (answer["CurrentShardCount"], answer["TargetShardCount"], answer["StreamName"]), (1, 2, "boto-b"))
    active("boto-b", 60)
    equal("two open shards then", k().describe_stream_summary(StreamName="boto-b")["StreamDescriptionSummary"]["OpenShardCount"], 2)
    check("that tile", tile(k().list_shards(StreamName="boto-b", ShardFilter={"Type": "AT_LATEST"})["Shards"]))


def settings():
    k().increase_stream_retention_period(StreamName="boto", RetentionPeriodHours=48)
    active("boto")
    equal("retention is longer", k().describe_stream_summary(StreamName="boto")["StreamDescriptionSummary"]["RetentionPeriodHours"], 48)
    k().decrease_stream_retention_period(StreamName="boto", RetentionPeriodHours=24)
    active("boto")
    equal("and shorter again", k().describe_stream(StreamName="boto")["StreamDescription"]["RetentionPeriodHours"], 24)
    answer = k().enable_enhanced_monitoring(StreamName="boto", ShardLevelMetrics=["IncomingBytes", "OutgoingRecords"])
    equal("EnableEnhancedMonitoring: before", answer["CurrentShardLevelMetrics"], [])
    equal("wanted", sorted(answer["DesiredShardLevelMetrics"]), ["IncomingBytes", "OutgoingRecords"])
    answer = k().disable_enhanced_monitoring(StreamName="boto", ShardLevelMetrics=["IncomingBytes"])
    equal("DisableEnhancedMonitoring", (sorted(answer["CurrentShardLevelMetrics"]), answer["DesiredShardLevelMetrics"]), (["IncomingBytes", "OutgoingRecords"], ["OutgoingRecords"]))
    equal("is described", k().describe_stream(StreamName="boto")["StreamDescription"]["EnhancedMonitoring"], [{"ShardLevelMetrics": ["OutgoingRecords"]}])
    answer = k().enable_enhanced_monitoring(StreamName="boto", ShardLevelMetrics=["ALL"])
    equal("ALL are seven", len(answer["DesiredShardLevelMetrics"]), 7)
    k().add_tags_to_stream(StreamName="boto", Tags={"b": "2", "a": "1", "каша": "+-=."})
    equal("tags in order", [(t["Key"], t["Value"]) for t in k().list_tags_for_stream(StreamName="boto")["Tags"]][:2], [("a", "1"), ("b", "2")])
    page = k().list_tags_for_stream(StreamName="boto", Limit=1)
    check("a page of tags", page["HasMoreTags"] and page["Tags"] == [{"Key": "a", "Value": "1"}], page)
    page = k().list_tags_for_stream(StreamName="boto", ExclusiveStartTagKey="a", Limit=1)
    equal("the next", page["Tags"], [{"Key": "b", "Value": "2"}])
    k().add_tags_to_stream(StreamName="boto", Tags={"a": "new"})
    k().remove_tags_from_stream(StreamName="boto", TagKeys=["b", "absent"])
    equal("changed and removed", {t["Key"]: t["Value"] for t in k().list_tags_for_stream(StreamName="boto")["Tags"]}.get("a"), "new")
    refused("more than 50 tags", "InvalidArgumentException", k().add_tags_to_stream, StreamName="boto", Tags={"t%d" % n: "v" for n in range(49)})
    k().update_stream_mode(StreamARN=arn("boto"), StreamModeDetails={"StreamMode": "ON_DEMAND"})
    active("boto")
    s = k().describe_stream_summary(StreamName="boto")["StreamDescriptionSummary"]
    equal("ON_DEMAND, with its shards", (s["StreamModeDetails"]["StreamMode"], s["OpenShardCount"]), ("ON_DEMAND", 3))
    k().update_stream_mode(StreamARN=arn("boto"), StreamModeDetails={"StreamMode": "PROVISIONED"})
    active("boto")
    refused("encryption", "KMSNotFoundException", k().start_stream_encryption, StreamName="boto", EncryptionType="KMS", KeyId="alias/none")


def events(answer, into):
    for event in answer["EventStream"]:
        into.append(event["SubscribeToShardEvent"])


def push():
    create("boto-push", 1)
    made = k().register_stream_consumer(StreamARN=arn("boto-push"), ConsumerName="pushed")["Consumer"]
    matches("RegisterStreamConsumer: ARN", made["ConsumerARN"], r"^arn:aws:kinesis:%s:%s:stream/boto-push/consumer/pushed:\d+$" % (region, account))
    check("CREATING or ACTIVE", made["ConsumerStatus"] in ("CREATING", "ACTIVE"))
    check("ACTIVE soon", until(10, lambda: k().describe_stream_consumer(ConsumerARN=made["ConsumerARN"])["ConsumerDescription"]["ConsumerStatus"] == "ACTIVE"))
    equal("by name", k().describe_stream_consumer(StreamARN=arn("boto-push"), ConsumerName="pushed")["ConsumerDescription"]["StreamARN"], arn("boto-push"))
    equal("listed", [c["ConsumerName"] for c in k().list_stream_consumers(StreamARN=arn("boto-push"))["Consumers"]], ["pushed"])
    equal("none elsewhere", k().list_stream_consumers(StreamARN=arn("boto-a"))["Consumers"], [])
    equal("counted", k().describe_stream_summary(StreamName="boto-push")["StreamDescriptionSummary"]["ConsumerCount"], 1)
    k().put_record(StreamName="boto-push", Data=b"old", PartitionKey="k")
    seen = []
    answer = k().subscribe_to_shard(ConsumerARN=made["ConsumerARN"], ShardId=S0, StartingPosition={"Type": "TRIM_HORIZON"})
    thread = threading.Thread(target=events, args=(answer, seen), daemon=True)
    thread.start()

    def datas():
        return [r["Data"] for e in list(seen) for r in e["Records"]]

    check("what was there is pushed", until(10, lambda: datas() == [b"old"]), datas())
    for n in range(50):
        k().put_record(StreamName="boto-push", Data=b"%d" % n, PartitionKey="k")
    wanted = [b"old"] + [b"%d" % n for n in range(50)]
    check("what is put is pushed, in order", until(10, lambda: datas() == wanted), datas()[-3:])
    check("each event says where to go on", all(e.get("ContinuationSequenceNumber") for e in seen))
    check("and how far behind", all(e["MillisBehindLatest"] >= 0 for e in seen) and seen[-1]["MillisBehindLatest"] == 0, [e["MillisBehindLatest"] for e in seen])
    refused("a second subscription within 5 s", "ResourceInUseException", k().subscribe_to_shard, ConsumerARN=made["ConsumerARN"], ShardId=S0, StartingPosition={"Type": "LATEST"})
    k().split_shard(StreamName="boto-push", ShardToSplit=S0, NewStartingHashKey=str(SPACE // 2))
    thread.join(30)
    check("the stream ends with the shard", not thread.is_alive())
    check("the last event has no continuation", "ContinuationSequenceNumber" not in seen[-1], seen[-1])
    equal("but the children", sorted(c["ShardId"] for c in seen[-1].get("ChildShards", [])), [S1, "shardId-000000000002"])
    check("the others have no children", all("ChildShards" not in e for e in seen[:-1]))
    refused("DeleteStream with a consumer", "ResourceInUseException", k().delete_stream, StreamName="boto-push")
    k().deregister_stream_consumer(ConsumerARN=made["ConsumerARN"])
    check("a deregistered consumer is gone", until(10, lambda: k().list_stream_consumers(StreamARN=arn("boto-push"))["Consumers"] == []))


def end():
    for name in [n for n in k().list_streams()["StreamNames"] if n.startswith("boto")]:
        k().delete_stream(StreamName=name, EnforceConsumerDeletion=True)
    check("all are deleted", until(20, lambda: not [n for n in k().list_streams()["StreamNames"] if n.startswith("boto")]))


if __name__ == "__main__":
    run("boto3 " + boto3.__version__, streams, records, iterators, resharding, settings, push, end)
