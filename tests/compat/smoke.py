"""The life of a stream in some seconds: by boto3 if it is there, else by raw requests, whose signatures are whole but nobody verifies them without access keys."""
import base64
import http.client
import json
import os
import re
import urllib.parse

from harness import check, equal, run, until

url = os.environ["KINESIS_ENDPOINTS"].split(",")[0]
region = "us-east-1"
arn = "arn:aws:kinesis:%s:000000000000:stream/smoke" % region
S0 = "shardId-000000000000"
try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError
except ImportError:
    boto3 = None


class Refused(Exception):
    pass


class Raw:
    """Operations by their names in the API; what is data goes and comes as bytes, as with boto3."""

    def post(self, operation, input):
        where = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=20)
        scope = "test/20260101/%s/kinesis/aws4_request" % region
        connection.request("POST", "/", json.dumps(input, default=lambda b: base64.b64encode(b).decode()), {
            "Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "Kinesis_20131202." + operation, "X-Amz-Date": "20260101T000000Z",
            "Authorization": "AWS4-HMAC-SHA256 Credential=%s, SignedHeaders=host;x-amz-date, Signature=%064d" % (scope, 0)})
        return connection.getresponse()

    def call(self, operation, **input):
        answer = self.post(operation, input)
        value = json.loads(answer.read() or b"{}")
        if answer.status != 200:
            raise Refused(value["__type"])
        for r in value.get("Records", []):
            if "Data" in r:
                r["Data"] = base64.b64decode(r["Data"])
        return value

    def pushed(self, **input):
        """Data of the first event with records: each event is a frame whose payload is JSON."""
        answer, got = self.post("SubscribeToShard", input), b""
        while True:
            got += answer.read1(65536)
            found = re.findall(rb'"Data":"([^"]*)"', got)
            if found:
                return [base64.b64decode(d) for d in found]


class Boto:
    def __init__(self):
        self.client = boto3.client("kinesis", endpoint_url=url, region_name=region, aws_access_key_id="test", aws_secret_access_key="test",
                                   config=Config(retries={"total_max_attempts": 2}, connect_timeout=5, read_timeout=20))

    def call(self, operation, **input):
        try:
            return getattr(self.client, re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower())(**input)
        except ClientError as e:
            raise Refused(e.response["Error"]["Code"]) from e

    def pushed(self, **input):
        for event in self.client.subscribe_to_shard(**input)["EventStream"]:
            if event["SubscribeToShardEvent"]["Records"]:
                return [r["Data"] for r in event["SubscribeToShardEvent"]["Records"]]


k = Boto() if boto3 else Raw()


def refused(what, name, operation, **input):
    try:
        k.call(operation, **input)
        check(what, False, "it was done")
    except Refused as e:
        equal(what, str(e), name)


def read(shard, kind="TRIM_HORIZON"):
    """All data of a shard, and the last answer."""
    at, found, answer = k.call("GetShardIterator", StreamName="smoke", ShardId=shard, ShardIteratorType=kind)["ShardIterator"], [], {}
    while at:
        answer = k.call("GetRecords", ShardIterator=at)
        found += [r["Data"] for r in answer["Records"]]
        at = answer.get("NextShardIterator") if answer["Records"] or answer["MillisBehindLatest"] else None
    return found, answer


def summary():
    return k.call("DescribeStreamSummary", StreamName="smoke")["StreamDescriptionSummary"]


def records():
    k.call("CreateStream", StreamName="smoke", ShardCount=1)
    check("the stream becomes ACTIVE", until(10, lambda: summary()["StreamStatus"] == "ACTIVE"))
    data = [b"", bytes(range(256)), b"x" * 100000]
    one = k.call("PutRecord", StreamName="smoke", PartitionKey="k", Data=data[0])
    equal("PutRecord", one["ShardId"], S0)
    many = k.call("PutRecords", StreamName="smoke", Records=[{"Data": d, "PartitionKey": "k"} for d in data[1:]])
    equal("PutRecords", many["FailedRecordCount"], 0)
    numbers = [one["SequenceNumber"]] + [r["SequenceNumber"] for r in many["Records"]]
    check("numbers rise", numbers == sorted(numbers, key=int) and len(set(numbers)) == 3, numbers)
    equal("GetRecords", read(S0)[0], data)
    equal("a stream that is there", len(k.call("ListStreams")["StreamNames"]), 1)
    refused("a stream that is not there", "ResourceNotFoundException", "DescribeStream", StreamName="nothing")
    refused("a stream that is there already", "ResourceInUseException", "CreateStream", StreamName="smoke", ShardCount=1)


def push():
    who = k.call("RegisterStreamConsumer", StreamARN=arn, ConsumerName="c")["Consumer"]["ConsumerARN"]
    got = k.pushed(ConsumerARN=who, ShardId=S0, StartingPosition={"Type": "TRIM_HORIZON"})
    check("SubscribeToShard", got[:2] == [b"", bytes(range(256))], got[:2])
    k.call("DeregisterStreamConsumer", ConsumerARN=who)


def split():
    k.call("SplitShard", StreamName="smoke", ShardToSplit=S0, NewStartingHashKey=str(1 << 127))
    check("two shards are open", until(10, lambda: summary()["OpenShardCount"] == 2 and summary()["StreamStatus"] == "ACTIVE"))
    put = k.call("PutRecord", StreamName="smoke", PartitionKey="k", ExplicitHashKey="0", Data=b"child")
    equal("a child takes records", put["ShardId"], "shardId-000000000001")
    found, last = read(S0)
    equal("the parent ends", (len(found), "NextShardIterator" in last, [c["ShardId"] for c in last.get("ChildShards", [])]), (3, False, ["shardId-000000000001", "shardId-000000000002"]))
    equal("and the child goes on", read("shardId-000000000001")[0], [b"child"])
    k.call("DeleteStream", StreamName="smoke")
    refused("the stream is gone", "ResourceNotFoundException", "DescribeStreamSummary", StreamName="smoke")


run("smoke by " + ("boto3 " + boto3.__version__ if boto3 else "raw requests"), records, push, split)
