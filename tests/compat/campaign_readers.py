"""The consumers of campaign.py: each is a process that reads the whole stream, shard by shard, a child after all its parents, by GetRecords or by SubscribeToShard; and judges what it reads.

A record is "KEY N"; a producer puts N+1 of a key only when N is acknowledged. So of each key a consumer must see 0, 1, 2, ... with sequence numbers that rise. What was put again because its
outcome was unknown may come twice."""
import base64
import collections
import http.client
import json
import threading
import time
import urllib.parse

from wire import endpoints, frames

HEADERS = {"Content-Type": "application/x-amz-json-1.1", "Authorization": "AWS4-HMAC-SHA256 Credential=campaign/20200101/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=0", "X-Amz-Date": "20200101T000000Z"}


class Caller:
    """A connection to one node after the other: the next when one fails. Not for two threads."""

    def __init__(self, first=0):
        self.at, self.connection = first, None

    def drop(self):
        if self.connection:
            self.connection.close()
        self.connection = None
        self.at += 1

    def begin(self, operation, input, seconds=15):
        """The answer, whose body is yet to be read; None if the node is not there."""
        try:
            if self.connection is None:
                where = urllib.parse.urlsplit(endpoints[self.at % len(endpoints)])
                self.connection = http.client.HTTPConnection(where.hostname, where.port, timeout=seconds)
            self.connection.request("POST", "/", json.dumps(input), {**HEADERS, "X-Amz-Target": "Kinesis_20131202." + operation})
            return self.connection.getresponse()
        except (OSError, http.client.HTTPException):
            self.drop()
            return None

    def call(self, operation, input):
        """(status, value); (0, None) if the outcome is unknown."""
        answer = self.begin(operation, input)
        try:
            if answer is not None:
                body = answer.read()
                return answer.status, json.loads(body) if body.startswith(b"{") else {}
        except (OSError, http.client.HTTPException, ValueError):
            self.drop()
        return 0, None

    def insist(self, operation, input, seconds=60):
        """The answer of 200, however often it takes; an error that stays is raised."""
        deadline = time.monotonic() + seconds
        while True:
            status, value = self.call(operation, input)
            if status == 200:
                return value
            if time.monotonic() > deadline:
                raise AssertionError("%s %s: %s %s" % (operation, input, status, value))
            time.sleep(0.1)


class Judge:
    def __init__(self, name):
        self.name, self.lock = name, threading.Lock()
        self.next = collections.defaultdict(int)  # of a key
        self.last = {}                            # sequence number of a key's latest record
        self.wrong, self.repeated, self.records = [], 0, 0
        self.delays = []

    def take(self, shard, records, parse=base64.b64decode):
        with self.lock:
            for r in records:
                key, n = parse(r["Data"]).split(b" ")
                n, sequence = int(n), int(r["SequenceNumber"])
                self.records += 1
                if sequence <= self.last.get(key, 0):
                    self.complain("%s: key %s has number %d after %d" % (shard, key, sequence, self.last[key]))
                self.last[key] = sequence
                if n == self.next[key]:
                    self.next[key] = n + 1
                elif n < self.next[key]:
                    self.repeated += 1
                else:
                    self.complain("%s: key %s: %d after %d" % (shard, key, n, self.next[key] - 1))
                    self.next[key] = n + 1

    def complain(self, what):
        if len(self.wrong) < 20:
            self.wrong.append("%s: %s" % (self.name, what))


class Consumer:
    """A thread per shard that is being read; a child's begins when all its parents were read to their end."""

    def __init__(self, stream, number, consumer_arn):
        self.stream, self.number, self.arn = stream, number, consumer_arn
        self.judge = Judge("pushed %d" % number if consumer_arn else "polling %d" % number)
        self.lock, self.finished, self.begun, self.stop = threading.Lock(), set(), set(), False

    def start(self):
        found = Caller(self.number).insist("ListShards", {"StreamName": self.stream})["Shards"]
        for shard in found:
            if not shard.get("ParentShardId"):
                self.begin(shard["ShardId"])

    def begin(self, shard):
        with self.lock:
            if shard in self.begun:
                return
            self.begun.add(shard)
        threading.Thread(target=self.guarded, args=(shard,), daemon=True).start()

    def guarded(self, shard):
        try:
            (self.push if self.arn else self.poll)(shard)
        except Exception as e:
            self.judge.complain("%s: %s: %s" % (shard, type(e).__name__, e))

    def end(self, shard, children):
        with self.lock:
            self.finished.add(shard)
            ready = [c["ShardId"] for c in children if all(p in self.finished for p in c["ParentShards"])]
        if not children:
            self.judge.complain("%s ended without children" % shard)
        for child in ready:
            self.begin(child)

    def poll(self, shard):
        caller = Caller(self.number)
        at = caller.insist("GetShardIterator", {"StreamName": self.stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"})["ShardIterator"]
        while not self.stop:
            got = caller.insist("GetRecords", {"ShardIterator": at})
            self.judge.take(shard, got["Records"])
            if "NextShardIterator" not in got:
                return self.end(shard, got["ChildShards"])
            at = got["NextShardIterator"]
            time.sleep(0.25 if not got["MillisBehindLatest"] else 0)

    def push(self, shard):
        caller, at, failures = Caller(self.number), {"Type": "TRIM_HORIZON"}, 0
        while not self.stop:
            caller.drop()
            answer = caller.begin("SubscribeToShard", {"ConsumerARN": self.arn, "ShardId": shard, "StartingPosition": at})
            if answer is None or answer.status != 200:
                failures += 1
                if failures > 600:
                    raise AssertionError("no subscription: %s" % (answer and answer.read()))
                time.sleep(0.2)
                continue
            failures = 0
            try:
                for headers, payload in frames(answer):
                    if headers.get(":event-type") != "SubscribeToShardEvent":
                        continue
                    event = json.loads(payload)
                    self.judge.take(shard, event["Records"])
                    if "ContinuationSequenceNumber" not in event:
                        return self.end(shard, event["ChildShards"])
                    at = {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": event["ContinuationSequenceNumber"]}
                    if self.stop:
                        return
            except (OSError, http.client.HTTPException, AssertionError, ValueError):
                pass  # a node is gone: goes on at another, from where it was


def consume(stream, number, consumer_arn, pipe):
    """A process: reads until it has what `pipe` then says was put, or a minute has brought nothing new; answers with what it found."""
    consumer = Consumer(stream, number, consumer_arn)
    consumer.start()
    wanted = pipe.recv()
    judge, deadline, before = consumer.judge, time.monotonic() + 60, -1
    while any(judge.next[key] < n for key, n in wanted.items()) and time.monotonic() < deadline:
        if judge.records != before:
            before, deadline = judge.records, time.monotonic() + 60
        time.sleep(0.1)
    consumer.stop = True
    lost = {key.decode(): n - judge.next[key] for key, n in wanted.items() if judge.next[key] < n}
    pipe.send({"name": judge.name, "records": judge.records, "repeated": judge.repeated, "wrong": judge.wrong, "lost": lost, "shards": len(consumer.begun)})
